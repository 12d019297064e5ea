"""One real PostgreSQL and one real RabbitMQ for all tests, started here and thrown away at the end.

Every test has a database of its own, cloned from a template. Every worker has a virtual host of its
own; tests in it are told apart by their organization.
"""

import asyncio
import itertools
import logging
import os
import secrets
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import fields, replace
from pathlib import Path
from urllib.parse import urlsplit

import asyncpg
import hypothesis
import pytest
import structlog
from aiohttp import web
from aiohttp.test_utils import TestClient

from dev.postgres import Postgres
from dev.rabbitmq import RabbitMQ
from dev.stack import Stack
from service import broker, keys, migration, postgres, relay
from service.app import create_app
from service.settings import Settings

pytest_plugins = [
    "tests.brokers",
    "tests.consumers",
    "tests.observed",
    "tests.processes",
    "tests.proxies",
    "tests.runs",
    "tests.standbys",
    "tests.targets",
    "tests.virtual_hosts",
]

Client = TestClient[web.Request, web.Application]
Start = Callable[..., Awaitable[Client]]

# Nobody listens there, so a service that is given it stores events and publishes none.
NOWHERE = "amqp://nobody@127.0.0.1:1/"

_exit = ExitStack()

# The same examples every time, as what was green yesterday must not fail today; the other profile
# looks for new ones: ./run test --hypothesis-profile=search --timeout=3600 tests/test_grammar.py
_patient = hypothesis.settings(
    deadline=None, database=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.register_profile("repeat", _patient, derandomize=True, max_examples=1_000)
hypothesis.settings.register_profile("search", _patient, max_examples=20_000)
hypothesis.settings.load_profile("repeat")


def pytest_configure() -> None:
    """No server, key or setting of the caller's is for the tests, or for what they start."""
    for name in [
        "API_KEY",
        "CONFIG_FILE",
        "STATE_DIR",
        *(f.name.upper() for f in fields(Settings)),
    ]:
        os.environ.pop(name, None)


@pytest.hookimpl(tryfirst=True)
def pytest_sessionstart(session: pytest.Session) -> None:
    """Start the stack once, before xdist starts its workers, which inherit its addresses."""
    if hasattr(session.config, "workerinput") or session.config.option.collectonly:
        return
    state = Path(_exit.enter_context(tempfile.TemporaryDirectory(prefix="campaigns-")))
    state.chmod(0o711)
    stack = _exit.enter_context(Stack(state, {}))
    stack.start()
    stack.wait_for(Postgres)
    stack.wait_for(RabbitMQ)
    os.environ["TEST_STATE"] = str(state)
    os.environ["TEST_DATABASE_URL"] = stack.database_url
    asyncio.run(_migrate(stack.database_url))
    for name, url in stack.logins().items():
        os.environ[f"TEST_SERVICE_{name}"] = url


def pytest_sessionfinish() -> None:
    """Stop the stack where it was started."""
    _exit.close()


@pytest.fixture(scope="session")
def worker(request: pytest.FixtureRequest) -> str:
    """A name that tells parallel workers apart."""
    return str(getattr(request.config, "workerinput", {}).get("workerid", "alone"))


@pytest.fixture(scope="session")
def amqp_url(worker: str) -> str:
    """A virtual host that no other worker uses."""
    rabbitmq = RabbitMQ(Path(os.environ["TEST_STATE"]))
    rabbitmq.control("add_vhost", worker)
    rabbitmq.control("set_permissions", "--vhost", worker, "campaigns", ".*", ".*", ".*")
    return rabbitmq.url + worker


@pytest.fixture(scope="session")
def template_database(worker: str) -> str:
    """The name of a database with our schema, to be cloned."""
    name = f"template_{worker}"
    asyncio.run(_administer(f"CREATE DATABASE {name}"))
    asyncio.run(_migrate(_url_of(name)))
    return name


async def _migrate(database_url: str) -> None:
    async with postgres.connect(Settings(database_url=database_url)) as connection:
        await migration.migrate(connection)


_numbers = itertools.count()


@pytest.fixture
async def database_url(worker: str, template_database: str) -> AsyncIterator[str]:
    """An empty database with our schema, as its owner sees it."""
    name = f"test_{worker}_{next(_numbers)}"
    await _administer(f"CREATE DATABASE {name} TEMPLATE {template_database}")
    yield _url_of(name)
    await _administer(f"DROP DATABASE {name} WITH (FORCE)")


@contextmanager
def a_database(name: str, template_database: str) -> Iterator[str]:
    """The same, for several tests."""
    asyncio.run(_administer(f"CREATE DATABASE {name} TEMPLATE {template_database}"))
    yield _url_of(name)
    asyncio.run(_administer(f"DROP DATABASE {name} WITH (FORCE)"))


async def _administer(statement: str) -> None:
    connection = await asyncpg.connect(os.environ["TEST_DATABASE_URL"], timeout=10)
    try:
        await connection.execute(statement, timeout=30)
    finally:
        await connection.close()


def _url_of(database: str, login: str = "TEST_DATABASE_URL") -> str:
    return urlsplit(os.environ[login])._replace(path=f"/{database}").geturl()


def least_privileged(database_url: str, amqp_url: str) -> Settings:
    """Settings of a service that may do no more on this database than it must."""
    database = urlsplit(database_url).path.removeprefix("/")
    return Settings(
        database_url=_url_of(database, "TEST_SERVICE_DATABASE_URL"),
        relay_database_url=_url_of(database, "TEST_SERVICE_RELAY_DATABASE_URL"),
        amqp_url=amqp_url,
    )


@pytest.fixture
def settings(database_url: str, amqp_url: str) -> Settings:
    return replace(least_privileged(database_url, amqp_url), relay_poll_seconds=0.05)


@pytest.fixture
def owner(settings: Settings, database_url: str) -> Settings:
    """What the commands of an owner run with."""
    return replace(settings, database_url=database_url)


@pytest.fixture
async def connection(owner: Settings) -> AsyncIterator[postgres.Connection]:
    """A connection to look behind the service with."""
    async with postgres.connect(owner) as opened:
        yield opened


@pytest.fixture
def organization() -> int:
    """An organization that no other test has."""
    return secrets.randbelow(2**40) + 1


@pytest.fixture
async def api_key(connection: postgres.Connection, organization: int) -> str:
    return await create_key(connection, keys.Grant(organization, "test"))


async def create_key(connection: postgres.Connection, grant: keys.Grant) -> str:
    """A new key that opens the API."""
    key = keys.generate()
    await keys.add(connection, grant, key)
    return key


@pytest.fixture
async def client(settings: Settings, api_key: str, aiohttp_client: Start) -> Client:
    """A client with a valid key, of a service that runs in this process."""
    return await aiohttp_client(
        create_app(settings), headers={"Authorization": f"Bearer {api_key}"}
    )


@pytest.fixture
async def idle_client(settings: Settings, api_key: str, aiohttp_client: Start) -> Client:
    """A client of a service whose relay cannot publish, so that a test can step one itself."""
    return await aiohttp_client(
        create_app(replace(settings, amqp_url=NOWHERE)),
        headers={"Authorization": f"Bearer {api_key}"},
    )


@pytest.fixture
async def publisher(settings: Settings) -> AsyncIterator[broker.Publisher]:
    async with broker.publisher(settings) as opened:
        yield opened


@pytest.fixture
def restored_logging() -> Iterator[None]:
    """For tests that configure the logs of this process."""
    root = logging.getLogger()
    before, level = root.handlers[:], root.level
    yield
    root.handlers[:] = before
    root.setLevel(level)
    structlog.reset_defaults()


async def insert_event(
    connection: postgres.Connection,
    campaign_id: int,
    sequence: int,
    event_type: str = "campaign.created",
    organization_id: int = 1,
    body: str = "{}",
) -> None:
    await connection.execute(
        """
        INSERT INTO outbox (organization_id, campaign_id, sequence, event_id, event_type,
                            body, headers, created_at)
        VALUES ($4, $1, $2, gen_random_uuid(), $3, $5, '{}', now())
        """,
        campaign_id,
        sequence,
        event_type,
        organization_id,
        body,
    )


def relay_of(client: Client, settings: Settings) -> relay.Relay:
    """A relay for a test to step or run, with the login of this client's service."""
    assert client.app is not None
    return relay.Relay(client.app[relay.RELAY]._pool, settings)


async def waiting_for_locks(connection: postgres.Connection) -> int:
    """How many statements have come to where a test holds them up, in this database."""
    # Within a transaction it would see the same again and again.
    await connection.execute("SELECT pg_stat_clear_snapshot()")
    waiting: int = await connection.fetchval(
        """
        SELECT count(*)
        FROM pg_stat_activity
        WHERE datname = current_database() AND wait_event_type = 'Lock'
        """
    )
    return waiting


async def somebody_waits_for_a_lock(connection: postgres.Connection) -> bool:
    return await waiting_for_locks(connection) > 0
