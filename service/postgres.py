"""PostgreSQL: the pool of this process, and the schema that it expects to find."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import TypeAlias, TypeVar

import asyncpg
import structlog
import uvloop
from aiohttp import web

from service import hosts
from service.settings import SETTINGS, Settings

logger = structlog.get_logger(__name__)

# Written by the last statement of schema.sql.
SCHEMA_REVISION = 5

Connection: TypeAlias = (
    "asyncpg.Connection[asyncpg.Record] | asyncpg.pool.PoolConnectionProxy[asyncpg.Record]"
)

_Result = TypeVar("_Result")

# Seconds for closing connections, which takes a round trip.
_CLOSING_SECONDS = 1.0

# Seconds between two times that all connections are given up, however many requests ask for it.
_EXPIRY_SECONDS = 1.0


class Unavailable(Exception):
    """PostgreSQL did not answer in time, or will not do what is asked of it now."""


class Pool:
    """Connections of one login, lent for as long as `may_keep` says; every wait has a deadline."""

    def __init__(self, pool: "asyncpg.Pool[asyncpg.Record]", timeout_seconds: float) -> None:
        self._pool = pool
        self._timeout_seconds = timeout_seconds
        self._expired_at = float("-inf")
        self._waiting = 0
        # Those that need not be made anew before they are used again.
        self._lent: set[Connection] = set()

    @asynccontextmanager
    async def acquire(self) -> AsyncIterator[Connection]:
        """Borrow a connection, for a transaction and then for as long as it may be kept.

        Raises:
            Unavailable: there is none in time, or it broke while it was used.
        """
        with _translated_errors():
            self._waiting += 1
            try:
                connection = await self._pool.acquire(timeout=self._timeout_seconds)
            finally:
                self._waiting -= 1
            self._lent.add(connection)
            try:
                yield connection
            except (asyncpg.ReadOnlySQLTransactionError, TimeoutError) as error:
                await self._expire(type(error).__name__)
                raise
            finally:
                self._lent.discard(connection)
                # One whose statement was cut off waits for the server to hear of it.
                await self._pool.release(connection, timeout=_CLOSING_SECONDS)

    def may_keep(self, connection: Connection) -> bool:
        """Whether it may be used for another transaction: it works, and nobody waits for one."""
        try:
            return connection in self._lent and not self._waiting and not connection.is_closed()
        except asyncpg.InterfaceError:
            # The pool has taken it back when it broke.
            return False

    async def _expire(self, reason: str) -> None:
        """Have every connection made anew before it is used again, to whichever server is best now.

        One that has become a standby, or hangs, keeps its connections: nothing else would make us
        leave it.
        """
        now = asyncio.get_running_loop().time()
        if now - self._expired_at >= _EXPIRY_SECONDS:
            self._expired_at = now
            self._lent.clear()
            logger.warning("connecting to the database anew", reason=reason)
            await self._pool.expire_connections()


POOL: web.AppKey[Pool] = web.AppKey("POOL")


async def context(app: web.Application) -> AsyncIterator[None]:
    """Keep the pool for the requests of `app` open."""
    settings = app[SETTINGS]
    async with pool(settings.database_url, settings.database_pool_size, settings) as opened:
        app[POOL] = opened
        yield


@asynccontextmanager
async def pool(url: str, size: int, settings: Settings) -> AsyncIterator[Pool]:
    """Keep a pool open; a database that is away does not stop the start."""
    # A batch waits for its confirms in the middle of a transaction, but not longer than that.
    idle_seconds = settings.amqp_timeout_seconds + settings.database_timeout_seconds
    async with asyncpg.create_pool(
        connect=hosts.Hosts(url, settings.database_timeout_seconds).connect,
        min_size=0,
        max_size=size,
        reset=_keep_session,
        # Whatever the database's default is: a second attempt must see what the first one left.
        server_settings={
            "application_name": "campaigns",
            "default_transaction_isolation": "read committed",
            # A list of most campaigns of a small table would be read and sorted as a whole, though
            # an index has it in order, which takes half of the time.
            "enable_seqscan": "off",
            # Or the events that a relay has claimed would stay locked for as long as PostgreSQL
            # takes a link that is dead, or a process that hangs, for one that may still speak.
            "idle_in_transaction_session_timeout": str(round(idle_seconds * 1000)),
            # The same of idle sessions: the server asks after half a minute if we are there, by
            # default after two hours, and until then they count among all that it allows.
            "tcp_keepalives_idle": "30",
            "tcp_keepalives_interval": "10",
            "tcp_keepalives_count": "3",
        },
    ) as opened:
        try:
            yield Pool(opened, settings.database_timeout_seconds)
        finally:
            await _close(opened)


async def _close(pool: "asyncpg.Pool[asyncpg.Record]") -> None:
    """Say goodbye, but do not wait for a database that does not answer."""
    try:
        async with asyncio.timeout(_CLOSING_SECONDS):
            await pool.close()
    except TimeoutError:
        pool.terminate()


async def _keep_session(_connection: Connection) -> None:
    """Save the reset query, a round trip a request: no statement here changes its session."""


@asynccontextmanager
async def connect(settings: Settings) -> AsyncIterator[Connection]:
    """Open one connection of its own, for a command.

    Raises:
        Unavailable: PostgreSQL is away, or refuses this user or database.
    """
    with _translated_errors():
        connection = await hosts.Hosts(
            settings.database_url, settings.database_timeout_seconds
        ).connect()
        try:
            yield connection
        finally:
            await connection.close(timeout=settings.database_timeout_seconds)


def run(settings: Settings, act: Callable[[Connection], Awaitable[_Result]]) -> _Result:
    """Do all that a command does, over a connection of its own.

    Raises:
        Unavailable: as above.
    """

    async def connected() -> _Result:
        async with connect(settings) as connection:
            return await act(connection)

    return uvloop.run(connected())


@contextmanager
def _translated_errors() -> Iterator[None]:
    """Raise `Unavailable` for what is the server's or the network's fault, not the statement's."""
    try:
        yield
    except hosts.UNREACHABLE as error:
        raise Unavailable(f"{type(error).__name__}: {error}") from error
