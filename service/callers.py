"""Callers: whose valid key a request has, looked up once in a few seconds and not at each."""

import time
from collections.abc import AsyncIterator
from contextlib import nullcontext
from datetime import UTC, datetime
from typing import NamedTuple

from aiohttp import web
from cachetools import LRUCache

from service import keys, postgres, queries
from service.background import BACKGROUND
from service.flights import Flights
from service.postgres import POOL
from service.settings import SETTINGS, Settings
from service.turns import Turns

# Keys that are remembered, known and unknown ones alike; strangers can push out no more than these.
_REMEMBERED = 10_000

# Look-ups at the same time of keys that never were good here; they leave connections to all others.
_STRANGERS = 2

# Seconds between two writes of when keys were last used.
_USAGE_SECONDS = 60.0


class _Answer(NamedTuple):
    """What a look-up found; it ages from when it was asked, as it may have been on its way."""

    asked_at: float
    caller: keys.Caller | None


class Callers:
    """The keys that this process has seen of late."""

    def __init__(self, pool: postgres.Pool, settings: Settings) -> None:
        self._pool = pool
        self._kept_seconds = settings.key_cache_seconds
        self._answers: LRUCache[bytes, _Answer] = LRUCache(_REMEMBERED)
        self._flights = Flights(self._look_up)
        self._seen: LRUCache[bytes, None] = LRUCache(_REMEMBERED)
        self._strangers = Turns(_STRANGERS, settings.database_timeout_seconds)
        self._used: dict[tuple[int, int], datetime] = {}

    async def find(self, key: str) -> keys.Caller | None:
        """Tell whose key this is; None: it is unknown, expired or revoked.

        Raises:
            keys.MalformedKey: it cannot be one.
            postgres.Unavailable, turns.Overloaded: nobody can tell.
        """
        hashed = keys.sha256(key)
        answer = self._answers.get(hashed)
        if answer is None or time.monotonic() - answer.asked_at >= self._kept_seconds:
            if not keys.is_key(key):
                raise keys.MalformedKey
            answer = await self._flights.join(hashed)
        caller, now = answer.caller, datetime.now(UTC)
        if caller is None or (caller.expires_at is not None and caller.expires_at <= now):
            return None
        self._used[caller.organization_id, caller.key_id] = now
        return caller

    async def _look_up(self, hashed: bytes) -> _Answer:
        # A key that was good before need not wait behind those that strangers make up.
        async with nullcontext() if hashed in self._seen else self._strangers.turn():
            asked_at = time.monotonic()
            async with self._pool.acquire() as connection:
                answer = _Answer(asked_at, await queries.find_key(connection, hashed))
        self._answers[hashed] = answer
        if answer.caller is not None:
            self._seen[hashed] = None
        return answer

    async def write_usage(self) -> None:
        """Write down which keys were used since the last time; what fails is kept for the next.

        Raises:
            postgres.Unavailable: nobody can write now.
        """
        if not self._used:
            return
        used, self._used = self._used, {}
        try:
            async with self._pool.acquire() as connection:
                await queries.note_key_usage(connection, used)
        except BaseException:
            self._used = used | self._used
            raise


CALLERS: web.AppKey[Callers] = web.AppKey("CALLERS")


async def context(app: web.Application) -> AsyncIterator[None]:
    """Keep the callers of `app`."""
    callers = app[CALLERS] = Callers(app[POOL], app[SETTINGS])
    app[BACKGROUND].repeat("writing key usage", callers.write_usage, _USAGE_SECONDS)
    yield
