"""A standby that takes over: the service goes where writes are taken, and says 503 until then."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from urllib.parse import urlsplit

import pytest

from service import keys, postgres
from service.app import create_app
from service.hosts import Hosts
from service.postgres import Connection
from service.settings import Settings
from tests.conftest import NOWHERE, Client, Start, create_key
from tests.consumers import eventually
from tests.proxies import Link, Proxy
from tests.standbys import Pair, copy, crash, freeze, promote, refuse_writes, start
from tests.test_create import EXAMPLE

CAMPAIGNS = "/api/v1/campaigns"

# What a pool has.
CONNECTIONS = 10

# Seconds from when another server takes writes to when campaigns are created there.
LATEST = 10


@pytest.fixture
async def served(pair: Pair, aiohttp_client: Start) -> Client:
    """A client of a service that has connections to the first of two servers."""
    client = await _serve(pair, aiohttp_client)
    assert set(await _create(client, CONNECTIONS)) == {201}
    return client


async def _serve(pair: Pair, aiohttp_client: Start) -> Client:
    async with postgres.connect(pair.owner) as connection:
        api_key = await create_key(connection, keys.Grant(1, "test"))
    settings = replace(pair.settings, amqp_url=NOWHERE, database_timeout_seconds=3)
    return await aiohttp_client(
        create_app(settings), headers={"Authorization": f"Bearer {api_key}"}
    )


async def _create(client: Client, count: int) -> list[int]:
    """Create some at once; the statuses of the answers."""

    async def create() -> int:
        async with client.post(CAMPAIGNS, json=EXAMPLE) as answer:
            return answer.status

    return await asyncio.gather(*(create() for _ in range(count)))


async def _creates_again(client: Client) -> None:
    async def creates() -> bool:
        return await _create(client, 1) == [201]

    await eventually(creates, LATEST, "a campaign")
    assert set(await _create(client, CONNECTIONS)) == {201}


async def test_a_service_leaves_a_server_that_refuses_writes(served: Client, pair: Pair) -> None:
    await refuse_writes(pair.one)
    await promote(pair.two)
    await _creates_again(served)


async def test_a_service_leaves_a_server_that_crashes(served: Client, pair: Pair) -> None:
    crash(pair.one)
    await promote(pair.two)
    await _creates_again(served)


async def test_a_service_leaves_a_server_that_hangs(served: Client, pair: Pair) -> None:
    freeze(pair.one)
    await promote(pair.two)
    await _creates_again(served)


async def test_a_service_that_starts_passes_by_a_server_that_hangs(
    pair: Pair, aiohttp_client: Start
) -> None:
    freeze(pair.one)
    await promote(pair.two)
    await _creates_again(await _serve(pair, aiohttp_client))


async def test_a_primary_that_comes_back_as_a_standby_is_passed_by(
    pair: Pair, aiohttp_client: Start
) -> None:
    crash(pair.one)
    await promote(pair.two)
    copy(pair.two, pair.one)
    start(pair.one)
    assert set(await _create(await _serve(pair, aiohttp_client), CONNECTIONS)) == {201}


async def test_the_server_that_had_us_last_is_asked_first(
    settings: Settings, start_proxy: Callable[[str], Awaitable[Proxy]]
) -> None:
    hanging = await start_proxy(settings.database_url)
    hanging.passing.clear()
    one, two = (urlsplit(url).netloc for url in (hanging.url, settings.database_url))
    both = settings.database_url.replace(two, f"{one},{two.rpartition('@')[2]}")
    hosts = Hosts(both, timeout_seconds=4)
    asked: list[Link] = []
    for _ in range(2):
        # Every connection begins with who wants it.
        hanging.there.when(b"user\0", asked.append)
        await (await hosts.connect()).close()
    assert len(asked) == 1


async def test_a_server_alone_that_refuses_writes_can_be_read_and_is_not_stormed(
    idle_client: Client, connection: Connection
) -> None:
    await _let_new_sessions(connection, "SET default_transaction_read_only = on")
    began, before = asyncio.get_running_loop().time(), await _sessions(connection)
    for _ in range(10):
        assert set(await _create(idle_client, 40)) == {503}
    assert (await idle_client.get(CAMPAIGNS)).status == 200
    seconds = asyncio.get_running_loop().time() - began
    # All of them are made anew at most once a second.
    assert await _sessions(connection) - before <= CONNECTIONS * (seconds + 2)


async def test_sessions_that_refuse_writes_are_left_when_new_ones_take_them(
    idle_client: Client, connection: Connection
) -> None:
    await _let_new_sessions(connection, "SET default_transaction_read_only = on")
    assert set(await _create(idle_client, 40)) == {503}
    await _let_new_sessions(connection, "RESET default_transaction_read_only")
    await _creates_again(idle_client)


async def _let_new_sessions(connection: Connection, change: str) -> None:
    database = await connection.fetchval("SELECT current_database()")
    await connection.execute(f"ALTER DATABASE {database} {change}")


async def _sessions(connection: Connection) -> int:
    """How many there have been so far."""
    await connection.execute("SELECT pg_stat_clear_snapshot()")
    sessions: int = await connection.fetchval(
        "SELECT sessions FROM pg_stat_database WHERE datname = current_database()"
    )
    return sessions


async def test_a_server_is_to_look_whether_we_are_still_there(settings: Settings) -> None:
    """A link that is cut for good without a word cannot be made here."""
    async with (
        postgres.pool(settings.database_url, 1, settings) as pool,
        pool.acquire() as connection,
    ):
        told = await connection.fetch(
            "SELECT name, setting::integer FROM pg_settings WHERE name LIKE 'tcp_keepalives%'"
        )
    seconds = dict(map(tuple, told))
    assert seconds == {
        "tcp_keepalives_idle": 30,
        "tcp_keepalives_interval": 10,
        "tcp_keepalives_count": 3,
    }
