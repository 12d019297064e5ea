"""Republishing: events of the history are put into the outbox again, at a bounded rate.

From there they go as any event does, so order, confirms and a broker that is away are the relay's
work. One that is sent twice has the same id, which consumers that have seen it drop.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from service import history, queries
from service.postgres import Connection

# Places that are known at once; each look-up goes through the rest of the range, so few are slow.
_PAGE = 50_000

# How often a second some events are due, and how many of them one statement stores at most.
_BATCHES_A_SECOND = 10
_LARGEST_BATCH = 500


class Pace:
    """Lets so many events a second go, in batches; what was late is not made up for."""

    def __init__(
        self,
        events_a_second: float,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._events_a_second = events_a_second
        self._clock = clock
        self._sleep = sleep
        self._next = clock()

    @property
    def batch(self) -> int:
        """How many go at once."""
        return min(max(int(self._events_a_second / _BATCHES_A_SECOND), 1), _LARGEST_BATCH)

    async def turn(self, events: int) -> None:
        """Wait until so many may go."""
        await self._sleep(max(self._next - self._clock(), 0))
        self._next = max(self._next, self._clock()) + events / self._events_a_second


@dataclass(kw_only=True)
class Progress:
    """What there is to do, and how much of it is done, also if it is interrupted."""

    counts: Sequence[history.Count] = field(default_factory=list)
    republished: int = 0
    already_waiting: int = 0
    # Of the oldest event that may be missing; None: there is none.
    continue_from: datetime | None = None

    @property
    def events(self) -> int:
        return sum(count.events for count in self.counts)

    @property
    def unavailable(self) -> int:
        return sum(count.unavailable for count in self.counts)

    @property
    def done(self) -> int:
        return self.republished + self.already_waiting


async def republish(
    connection: Connection,
    chosen: history.Range,
    pace: Pace,
    progress: Progress,
    tell: Callable[[], None],
) -> None:
    """Put all events of a range into the outbox that are not there."""
    async for batch in _batches(connection, chosen, pace.batch):
        progress.continue_from = batch[0].changed_at
        await pace.turn(len(batch))
        added = await queries.republish_events(connection, batch)
        progress.republished += added
        progress.already_waiting += len(batch) - added
        tell()
    progress.continue_from = None


async def _batches(
    connection: Connection, chosen: history.Range, size: int
) -> AsyncIterator[list[history.Place]]:
    """All places, in order; without a transaction, which would be open for hours."""
    last = history.Place(chosen.since, 0, 0, 0)
    while page := await queries.find_events(connection, chosen, last, _PAGE):
        for start in range(0, len(page), size):
            yield page[start : start + size]
        last = page[-1]
