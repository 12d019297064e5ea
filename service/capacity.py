"""Capacity: how many connections may be open, and whose is closed when there is one too many.

Whoever has no key can open connections, too, so theirs must not cost others theirs.
"""

import asyncio
from collections import OrderedDict
from collections.abc import AsyncIterator
from itertools import chain
from typing import Protocol

import structlog
from aiohttp import web

from service.background import BACKGROUND
from service.settings import SETTINGS

logger = structlog.get_logger(__name__)

# One look at all connections is cheaper than a timer for each, and a second late is no harm.
_SECONDS_BETWEEN_REVIEWS = 1.0


class Place(Protocol):
    """What takes one place."""

    @property
    def is_idle(self) -> bool:
        """Whether no request is lost with it."""

    @property
    def is_strangers(self) -> bool:
        """Whether nobody with a key has used it yet."""

    def review(self, now: float) -> None:
        """End what takes too long."""

    def abort(self) -> None:
        """Close it now, whatever is on its way."""


class Capacity:
    """The open connections of a process: first the one whose last request is longest ago."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._connections: OrderedDict[Place, None] = OrderedDict()
        self._closed_for_others = self._turned_away = 0

    def admit(self, connection: Place) -> bool:
        """Make room for it, at the cost of the one that has been idle longest.

        To refuse the newest instead would leave all places to those who open connections and send
        nothing. This way they must open `http_connections` of them between the connect of somebody
        and the arrival of the request, which usually is one round of the event loop.
        """
        if len(self._connections) >= self._most:
            gone = self._next_to_go()
            if gone is None:
                self._turned_away += 1
                return False
            self._closed_for_others += 1
            self.forget(gone)
            gone.abort()
        self._connections[connection] = None
        return True

    def _next_to_go(self) -> Place | None:
        """Who does nothing, or else who has shown no key: strangers may be at work all the time."""
        idle = (place for place in self._connections if place.is_idle)
        strangers = (place for place in self._connections if place.is_strangers)
        return next(chain(idle, strangers), None)

    def renew(self, connection: Place) -> None:
        """Note that it has sent a request; what had arrived of a closed one may be read yet."""
        if connection in self._connections:
            self._connections.move_to_end(connection)

    def forget(self, connection: Place) -> None:
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
    capacity = app[CAPACITY] = Capacity(app[SETTINGS].http_connections)

    async def review() -> None:
        capacity.review(asyncio.get_running_loop().time())

    app[BACKGROUND].repeat("reviewing connections", review, _SECONDS_BETWEEN_REVIEWS)
    yield
