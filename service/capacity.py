"""Capacity: how many connections may be open, and whose is closed when there is one too many.

Whoever has no key can open connections, too, so theirs must not cost others theirs.
"""

import asyncio
import resource
from collections import OrderedDict
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Protocol

import structlog
from aiohttp import web

from service.failure import Failure
from service.settings import SETTINGS, Settings

logger = structlog.get_logger(__name__)

# One look at all connections is cheaper than a timer for each, and a second late is no harm.
_SECONDS_BETWEEN_REVIEWS = 1.0

# Files that are open besides connections: the listening sockets, the log, the broker, a look-up of
# a host, the event loop's own, and a new connection until another has made room for it.
_OTHER_FILES = 100


class Connection(Protocol):
    """What takes one place."""

    @property
    def is_idle(self) -> bool:
        """Whether no request is lost with it."""

    def review(self, now: float) -> None:
        """End what takes too long."""

    def abort(self) -> None:
        """Close it now, whatever is on its way."""


class Capacity:
    """The open connections of a process: first the one whose last request is longest ago."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._connections: OrderedDict[Connection, None] = OrderedDict()
        self._closed_for_others = self._turned_away = 0

    def admit(self, connection: Connection) -> bool:
        """Make room for it, at the cost of the one that has been idle longest.

        To refuse the newest instead would leave all places to those who open connections and send
        nothing. This way they must open `http_connections` of them between the connect of somebody
        and the arrival of the request, which usually is one round of the event loop.
        """
        if len(self._connections) >= self._most:
            idle = next((other for other in self._connections if other.is_idle), None)
            if idle is None:
                self._turned_away += 1
                return False
            self._closed_for_others += 1
            self.forget(idle)
            idle.abort()
        self._connections[connection] = None
        return True

    def renew(self, connection: Connection) -> None:
        """Note that it has sent a request; what had arrived of a closed one may be read yet."""
        if connection in self._connections:
            self._connections.move_to_end(connection)

    def forget(self, connection: Connection) -> None:
        """Note that it is closed, or never was admitted."""
        self._connections.pop(connection, None)

    def review(self, now: float) -> None:
        """End what takes too long, and tell of those who had to go."""
        for connection in list(self._connections):
            connection.review(now)
        if self._closed_for_others or self._turned_away:
            logger.warning(
                "connections are short",
                closed_for_others=self._closed_for_others,
                turned_away=self._turned_away,
            )
            self._closed_for_others = self._turned_away = 0


CAPACITY: web.AppKey[Capacity] = web.AppKey("CAPACITY")


async def context(app: web.Application) -> AsyncIterator[None]:
    """Review the connections for as long as the application runs."""
    app[CAPACITY] = Capacity(app[SETTINGS].http_connections)
    reviewing = asyncio.create_task(_review(app[CAPACITY]))
    yield
    reviewing.cancel()
    with suppress(asyncio.CancelledError):
        await reviewing


async def _review(capacity: Capacity) -> None:
    while True:
        await asyncio.sleep(_SECONDS_BETWEEN_REVIEWS)
        try:
            capacity.review(asyncio.get_running_loop().time())
        except Exception:
            logger.exception("connections could not be reviewed")


def claim_files(settings: Settings) -> None:
    """Let this process open as many files as its connections need.

    Raises:
        Failure: the system does not allow it.
    """
    needed = settings.http_connections + settings.database_pool_size + _OTHER_FILES
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if _is_below(hard, needed):
        raise Failure(
            f"http_connections = {settings.http_connections} needs {needed} open files, but the "
            f"process may have {hard}: set HTTP_CONNECTIONS lower, or raise that limit (ulimit -Hn)"
        )
    if _is_below(soft, needed):
        resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))


def _is_below(limit: int, needed: int) -> bool:
    return limit != resource.RLIM_INFINITY and limit < needed
