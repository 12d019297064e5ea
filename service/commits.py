"""Group commit: drafts that come at the same time are stored by one statement, and one commit.

A draft that comes alone is stored at once; those that come while that takes go next, together. So
they share the wait for the disk, and most of the work that a statement is. One that cannot be
stored fails none of its neighbours; all of them wait while another process is about to store a key
that one of them has.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Sequence
from contextvars import Context
from dataclasses import dataclass

from aiohttp import web

from service import postgres, queries
from service.history import Version
from service.idempotency import Attempt
from service.settings import SETTINGS, Settings

# Drafts of one statement.
_MOST = 100

# Seconds for which one statement may hold up those who wait; then another one is begun beside it.
_PATIENCE_SECONDS = 0.05

_Key = tuple[int, str, str]


@dataclass(frozen=True, slots=True)
class _Draft:
    version: Version
    attempt: Attempt | None
    since: float
    stored: "asyncio.Future[bool]"

    def has_waited(self, seconds: float) -> bool:
        return asyncio.get_running_loop().time() - self.since >= seconds

    def fail(self, error: Exception) -> None:
        if not self.stored.done():
            self.stored.set_exception(error)


class Commits:
    """The drafts of this process that are not committed yet."""

    def __init__(self, pool: postgres.Pool, settings: Settings) -> None:
        self._pool = pool
        self._kept = settings.idempotency_kept
        self._timeout_seconds = settings.database_timeout_seconds
        # All else needs connections, too.
        self._most_lanes = settings.database_pool_size // 2
        self._lanes: set[asyncio.Task[None] | None] = set()
        self._waiting: deque[_Draft] = deque()
        self._review: asyncio.TimerHandle | None = None
        self._keys: dict[_Key, asyncio.Future[bool]] = {}

    async def store(self, version: Version, attempt: Attempt | None) -> bool:
        """Whether it is stored; it is not if the key of its attempt was used before.

        Raises:
            postgres.Unavailable: it is not stored, or the connection broke before that was sure.
        """
        if attempt is None:
            return await self._join(version, None)
        key = version.campaign.organization_id, attempt.endpoint, attempt.key
        # A statement can do nothing with the same key twice.
        while earlier := self._keys.get(key):
            await asyncio.wait([earlier])
            if earlier.cancelled():
                continue
            error = earlier.exception()
            if error is None:
                return False
            if isinstance(error, postgres.Unavailable):
                # Or each of many would wait for another deadline.
                raise error
        return await self._join(version, attempt, key)

    async def _join(
        self, version: Version, attempt: Attempt | None, key: _Key | None = None
    ) -> bool:
        loop = asyncio.get_running_loop()
        draft = _Draft(version, attempt, loop.time(), loop.create_future())
        if key:
            self._keys[key] = draft.stored
            draft.stored.add_done_callback(lambda _: self._keys.pop(key))
        self._waiting.append(draft)
        if not self._lanes:
            self._open_lane()
        elif not self._review:
            self._review_later()
        return await draft.stored

    def _open_lane(self) -> None:
        # What it logs is nothing of the request that happens to open it.
        self._lanes.add(asyncio.create_task(self._work(), context=Context()))

    def _review_later(self) -> None:
        loop = asyncio.get_running_loop()
        self._review = loop.call_later(_PATIENCE_SECONDS, self._review_waiting, context=Context())

    def _review_waiting(self) -> None:
        """Wait behind nobody who is slow, and for ever neither."""
        self._review = None
        while self._waiting and self._waiting[0].has_waited(self._timeout_seconds):
            self._waiting.popleft().fail(_too_late())
        if not self._waiting:
            return
        if self._waiting[0].has_waited(_PATIENCE_SECONDS) and len(self._lanes) < self._most_lanes:
            self._open_lane()
        self._review_later()

    async def _work(self) -> None:
        try:
            while self._waiting:
                batch = [self._waiting.popleft() for _ in range(min(_MOST, len(self._waiting)))]
                # Whoever is not there any more need not be told.
                if batch := [draft for draft in batch if not draft.stored.done()]:
                    await self._commit(batch)
        finally:
            # Not once the loop hears of the end: who comes before that would wait for nobody.
            self._lanes.discard(asyncio.current_task())

    async def _commit(self, batch: Sequence[_Draft]) -> None:
        try:
            async with self._pool.acquire() as connection:
                drafts = [(draft.version, draft.attempt) for draft in batch]
                stored = await queries.create_drafts(connection, drafts, self._kept)
        except Exception as error:
            if len(batch) > 1 and not isinstance(error, postgres.Unavailable):
                await self._commit_each(batch)
                return
            for draft in batch:
                draft.fail(error)
        else:
            for draft in batch:
                if not draft.stored.done():
                    draft.stored.set_result(draft.version.campaign.id in stored)

    async def _commit_each(self, batch: Sequence[_Draft]) -> None:
        """One of them is why they cannot be stored; the others have nothing to do with it."""
        for draft in batch:
            if draft.has_waited(self._timeout_seconds):
                draft.fail(_too_late())
            else:
                await self._commit([draft])


def _too_late() -> postgres.Unavailable:
    return postgres.Unavailable("there was no turn in time")


COMMITS: web.AppKey[Commits] = web.AppKey("COMMITS")


async def context(app: web.Application) -> AsyncIterator[None]:
    """Store the drafts of `app`."""
    app[COMMITS] = Commits(app[postgres.POOL], app[SETTINGS])
    yield
