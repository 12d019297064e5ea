"""Group commit: drafts that come at the same time are stored by one statement, and one commit.

A draft that comes alone is stored at once; those that come while that takes share the next
statements, and with these the wait for the disk and most of the work that a statement is. Each
leaves some to the one after it, so that one half is stored while the other is answered. One that
cannot be stored fails none of its neighbours; all of them wait while another process is about to
store a key that one of them has.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Sequence, Set
from contextvars import Context
from typing import NamedTuple

from aiohttp import web

from service import postgres, queries
from service.history import Version
from service.idempotency import Attempt
from service.settings import SETTINGS, Settings

# Drafts of one statement.
_MOST = 100

# Drafts, at most, that a statement leaves to the next one: answering so many keeps the process busy
# for as long as a statement takes.
_MOST_LEFT = 32

# Seconds for which one statement may hold up those who wait; then another one is begun beside it.
_PATIENCE_SECONDS = 0.05

# Seconds, at least, and twice as many at most, for which a connection is kept for the next draft.
# To borrow one for each, and to give it back again, is 7 % of the time that a create takes alone.
_LINGER_SECONDS = 0.02

_Key = tuple[int, str, str]


class _Draft(NamedTuple):
    version: Version
    attempt: Attempt | None
    since: float
    stored: "asyncio.Future[bool]"

    def has_waited(self, seconds: float) -> bool:
        return asyncio.get_running_loop().time() - self.since >= seconds

    def tell(self, stored: Set[int]) -> None:
        if not self.stored.done():
            self.stored.set_result(self.version.campaign.id in stored)

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
        # Drafts of the last statement; they are being answered, or come again.
        self.size_of_last = 0
        # What a lane waits for that has nothing to do, of which there is one at most; and the timer
        # at which it waits no longer.
        self._arrival: asyncio.Future[None] | None = None
        self._end: asyncio.TimerHandle | None = None
        self._closing = False
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
        elif not self._wake() and not self._review:
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
            while batch := self._take():
                await self._commit(batch)
        finally:
            # Not once the loop hears of the end: who comes before that would wait for nobody.
            self._lanes.discard(asyncio.current_task())

    def _take(self) -> list[_Draft]:
        """The next batch of those who wait, if there is anybody."""
        while self._waiting:
            batch = [self._waiting.popleft() for _ in range(self._size_of_next())]
            # Whoever is not there any more need not be told.
            if batch := [draft for draft in batch if not draft.stored.done()]:
                self.size_of_last = len(batch)
                return batch
        return []

    def _size_of_next(self) -> int:
        """One half of all that are here is stored while the other is answered, and comes again."""
        here = len(self._waiting) + self.size_of_last
        return min(_MOST, len(self._waiting), here - min(here // 2, _MOST_LEFT))

    async def _commit(self, batch: list[_Draft]) -> None:
        """Commit a batch, and those after it as long as they can have the same connection."""
        try:
            async with self._pool.acquire() as connection:
                while batch:
                    await self._store(connection, batch)
                    batch = await self._next(connection)
        except Exception as error:
            if len(batch) > 1 and not isinstance(error, postgres.Unavailable):
                await self._commit_each(batch)
                return
            for draft in batch:
                draft.fail(error)

    async def _commit_each(self, batch: Sequence[_Draft]) -> None:
        """One of them is why they cannot be stored; the others have nothing to do with it."""
        for draft in batch:
            if draft.has_waited(self._timeout_seconds):
                draft.fail(_too_late())
                continue
            try:
                async with self._pool.acquire() as connection:
                    await self._store(connection, [draft])
            except Exception as error:
                draft.fail(error)

    async def _store(self, connection: postgres.Connection, batch: Sequence[_Draft]) -> None:
        drafts = [(draft.version, draft.attempt) for draft in batch]
        stored = await queries.create_drafts(connection, drafts, self._kept)
        for draft in batch:
            draft.tell(stored)

    async def _next(self, connection: postgres.Connection) -> list[_Draft]:
        """Those who wait by now, or else who comes soon; nobody, if this may not be kept."""
        if self._waiting:
            # Who was told goes first, so that more can share the next statement.
            await asyncio.sleep(0)
        elif not (self._arrival or self._closing):
            await self._linger()
        return self._take() if self._pool.may_keep(connection) else []

    async def _linger(self) -> None:
        self._arrival = asyncio.get_running_loop().create_future()
        if not self._end:
            self._end_later(self._arrival)
        try:
            await self._arrival
        finally:
            self._arrival = None

    def _end_later(self, arrival: "asyncio.Future[None]") -> None:
        # One timer for many drafts: to make and cancel one for each takes as long as what is saved.
        loop = asyncio.get_running_loop()
        self._end = loop.call_later(_LINGER_SECONDS, self._end_waiting, arrival, context=Context())

    def _end_waiting(self, arrival: "asyncio.Future[None]") -> None:
        """Wait no longer for this one; if it has come, begin to wait for the one after it."""
        self._end = None
        if arrival is self._arrival:
            self._wake()
        elif self._arrival:
            self._end_later(self._arrival)

    def _wake(self) -> bool:
        """Whether there is a lane that had nothing to do, and begins now."""
        if self._arrival is None or self._arrival.done():
            return False
        self._arrival.set_result(None)
        return True

    def close(self) -> None:
        """Keep no connection for drafts that will not come."""
        self._closing = True
        self._wake()


def _too_late() -> postgres.Unavailable:
    return postgres.Unavailable("there was no turn in time")


COMMITS: web.AppKey[Commits] = web.AppKey("COMMITS")


async def context(app: web.Application) -> AsyncIterator[None]:
    """Store the drafts of `app`."""
    commits = app[COMMITS] = Commits(app[postgres.POOL], app[SETTINGS])
    yield
    commits.close()
