"""Real servers for a benchmark, durable as in production, with a place of its own for each."""

import asyncio
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import aio_pika
import asyncpg

from bench.versions import ORGANIZATION
from dev.postgres import Postgres
from dev.rabbitmq import RabbitMQ
from dev.stack import Stack
from service import broker, keys, migration, postgres, topology
from service.settings import Settings

# On a disk, which /tmp need not be: there would be nothing to wait for at a commit.
_ON_DISK = "/var/tmp"  # noqa: S108 (the folder below it has a random name)

_TEMPLATE = "with_schema_and_key"

_WAITING = "SELECT count(*) FROM outbox"


@dataclass(frozen=True)
class Place:
    """A database and a virtual host of one contender, with schema, key and queues."""

    database_url: str
    amqp_url: str
    key: str

    @property
    def environment(self) -> dict[str, str]:
        return {"DATABASE_URL": self.database_url, "AMQP_URL": self.amqp_url}

    def clean(self) -> None:
        """Empty tables and queues, so that each measurement begins with the same."""
        asyncio.run(self._tidy("TRUNCATE campaigns, campaign_history, outbox, idempotency_records"))

    def tidy(self) -> None:
        """Empty the queues, and leave the tables as they are."""
        asyncio.run(self._tidy())

    async def _tidy(self, *statements: str) -> None:
        connection = await asyncpg.connect(self.database_url)
        # Else one contender would write to disk what another has left behind.
        for statement in (*statements, "CHECKPOINT"):
            await connection.execute(statement)
        await connection.close()
        async with await aio_pika.connect(self.amqp_url) as amqp:
            channel = await amqp.channel()
            for name in topology.QUEUES:
                await (await channel.get_queue(name)).purge()

    def waiting(self, seconds: float) -> int:
        """How many events still wait in the outbox after so long; returns as soon as none does."""
        return asyncio.run(self._waiting(seconds))

    async def _waiting(self, seconds: float) -> int:
        connection = await asyncpg.connect(self.database_url)
        deadline = time.monotonic() + seconds
        waiting: int = await connection.fetchval(_WAITING)
        while waiting and time.monotonic() < deadline:
            await asyncio.sleep(0.05)
            waiting = await connection.fetchval(_WAITING)
        await connection.close()
        return waiting


class Rig:
    """The servers, in a folder that is removed afterwards."""

    def __init__(self, folder: Path, stack: Stack) -> None:
        self.folder = folder
        self._stack = stack
        self._rabbitmq = RabbitMQ(folder)
        self._key = keys.generate()
        self._places: list[Place] = []
        asyncio.run(self._make_template())

    def place(self, name: str) -> Place:
        """Make a place, named by letters, digits and underscores."""
        self._rabbitmq.control("add_vhost", name)
        self._rabbitmq.control("set_permissions", "--vhost", name, "campaigns", ".*", ".*", ".*")
        place = Place(self._database(name), self._stack.amqp_url + name, self._key)
        asyncio.run(self._open(name, place))
        self._places.append(place)
        return place

    def clean(self) -> None:
        """Empty all places; RabbitMQ goes on tidying for some seconds."""
        for place in self._places:
            place.clean()

    def versions(self) -> dict[str, str]:
        """The servers, and how PostgreSQL waits for its disk."""
        rabbitmq = self._rabbitmq.control("version").strip()
        return asyncio.run(self._postgres_settings()) | {"rabbitmq": rabbitmq}

    def _database(self, name: str) -> str:
        return urlsplit(self._stack.database_url)._replace(path=f"/{name}").geturl()

    async def _make_template(self) -> None:
        await self._create_database(_TEMPLATE, "template1")
        settings = Settings(database_url=self._database(_TEMPLATE))
        async with postgres.connect(settings) as connection:
            await migration.migrate(connection)
            await keys.add(connection, keys.Grant(ORGANIZATION, "bench"), self._key)

    async def _open(self, name: str, place: Place) -> None:
        await self._create_database(name, _TEMPLATE)
        async with broker.publisher(Settings(amqp_url=place.amqp_url)):
            pass  # The queues are declared.

    async def _create_database(self, name: str, template: str) -> None:
        connection = await asyncpg.connect(self._stack.database_url)
        await connection.execute(f"CREATE DATABASE {name} TEMPLATE {template}")
        await connection.close()

    async def _postgres_settings(self) -> dict[str, str]:
        connection = await asyncpg.connect(self._stack.database_url)
        names = ("server_version", "fsync", "synchronous_commit", "wal_sync_method")
        settings = {name: await connection.fetchval(f"SHOW {name}") for name in names}
        await connection.close()
        return settings


@contextmanager
def rig() -> Iterator[Rig]:
    """Start the servers."""
    with tempfile.TemporaryDirectory(prefix="campaigns-", dir=_ON_DISK) as folder:
        state = Path(folder)
        # A server of another user passes through.
        state.chmod(0o711)
        with Stack(state, {}) as stack:
            stack.start()
            stack.wait_for(Postgres)
            stack.wait_for(RabbitMQ)
            yield Rig(state, stack)
