"""Backlog: whether there is room for one more event, and who is told when there is one."""

from collections.abc import AsyncIterator, Callable

import structlog
from aiohttp import web

from service import postgres, queries, relay
from service.background import BACKGROUND
from service.postgres import POOL
from service.settings import SETTINGS

logger = structlog.get_logger(__name__)

# Seconds between two looks at how much waits, and until it is worth it to try again.
REVIEW_SECONDS = 5.0


class Full(Exception):
    """More events wait for the broker than the settings allow."""


class Backlog:
    """Takes events until too many wait: a broker that stays away must not fill the disk."""

    def __init__(self, pool: postgres.Pool, most_events: int, wake: Callable[[int], None]) -> None:
        self._pool = pool
        self._most_events = most_events
        self._is_full = False
        self.wake = wake

    def check_room(self) -> None:
        """Raises: Full."""
        if self._is_full:
            raise Full(f"Nothing was stored: more than {self._most_events} events wait already.")

    async def review(self) -> None:
        """Look how much waits, for all processes; raises: postgres.Unavailable."""
        async with self._pool.acquire() as connection:
            was_full = self._is_full
            self._is_full = await queries.outbox_exceeds(connection, self._most_events)
        if self._is_full != was_full:
            logger.warning("outbox", full=self._is_full, most_events=self._most_events)


BACKLOG: web.AppKey[Backlog] = web.AppKey("BACKLOG")


async def context(app: web.Application) -> AsyncIterator[None]:
    """Review the backlog that `app` adds to."""
    opened = app[BACKLOG] = Backlog(app[POOL], app[SETTINGS].outbox_events, _wake_of(app))
    app[BACKGROUND].repeat("reviewing the backlog", opened.review, REVIEW_SECONDS)
    yield


def _wake_of(app: web.Application) -> Callable[[int], None]:
    """A relay of another process is told nothing; it looks every `relay_poll_seconds`."""
    return app[relay.RELAY].wake if relay.RELAY in app else lambda _: None
