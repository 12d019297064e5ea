"""Callers: whose valid key a request has, looked up once in a few seconds and not at each."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from datetime import UTC, datetime

import asyncpg
import structlog
from aiohttp import web
from cachetools import TTLCache

from service import keys, postgres, queries
from service.postgres import POOL
from service.settings import SETTINGS, Settings

logger = structlog.get_logger(__name__)

# Keys that are remembered, known and unknown ones alike; strangers can push out no more than these.
_REMEMBERED = 10_000

# Seconds between two writes of when keys were last used.
_USAGE_SECONDS = 60.0


class _Unseen:
    """What is remembered of a key that is not: None is remembered of one that opens nothing."""


_UNSEEN = _Unseen()


class Callers:
    """The keys that this process has seen of late."""

    def __init__(self, pool: postgres.Pool, settings: Settings) -> None:
        self._pool = pool
        self._settings = settings
        self._seen: TTLCache[bytes, keys.Caller | None] = TTLCache(
            _REMEMBERED, settings.key_cache_seconds
        )
        self._used: dict[tuple[int, int], datetime] = {}

    async def find(self, key: str) -> keys.Caller | None:
        """Tell whose key this is; None: it is unknown, expired, or revoked for some seconds.

        Raises:
            keys.MalformedKey: it cannot be one.
            postgres.Unavailable: nobody can tell.
        """
        hashed = keys.sha256(key)
        caller = self._seen.get(hashed, _UNSEEN)
        if isinstance(caller, _Unseen):
            caller = self._seen[hashed] = await self._look_up(hashed)
        now = datetime.now(UTC)
        if caller is None or (caller.expires_at is not None and caller.expires_at <= now):
            return None
        self._used[caller.organization_id, caller.key_id] = now
        return caller

    async def _look_up(self, hashed: bytes) -> keys.Caller | None:
        timeout_seconds = self._settings.database_timeout_seconds
        async with postgres.acquire(self._pool, timeout_seconds) as connection:
            return await queries.find_key(connection, hashed)

    async def write_usage(self) -> None:
        """Write down which keys were used since the last time; what fails is tried again."""
        if not self._used:
            return
        used, self._used = self._used, {}
        timeout_seconds = self._settings.database_timeout_seconds
        try:
            async with postgres.acquire(self._pool, timeout_seconds) as connection:
                await queries.note_key_usage(connection, used)
        except (postgres.Unavailable, asyncpg.PostgresError) as error:
            self._used = used | self._used
            logger.warning("key usage not written", error=str(error))


CALLERS: web.AppKey[Callers] = web.AppKey("CALLERS")


async def context(app: web.Application) -> AsyncIterator[None]:
    """Write usage down once in a while, and at the end."""
    callers = app[CALLERS] = Callers(app[POOL], app[SETTINGS])
    writing = asyncio.create_task(_write_usage(callers), name="key usage")
    yield
    writing.cancel()
    with suppress(asyncio.CancelledError):
        await writing
    await callers.write_usage()


async def _write_usage(callers: Callers) -> None:
    while True:
        await asyncio.sleep(_USAGE_SECONDS)
        await callers.write_usage()
