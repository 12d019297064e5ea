"""Relay: carries committed events from the outbox to the broker, at least once and in order.

Any number of relays may run on one database. The rows of a batch stay locked while it is
published, so a relay that dies frees them at once, and what was not confirmed is published again.
"""

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from datetime import UTC, datetime

import asyncpg
import structlog
from aiohttp import web

from service import background, broker, postgres, queries, settlement
from service.background import BACKGROUND
from service.settings import SETTINGS, Settings

logger = structlog.get_logger(__name__)

# Seconds between two attempts to reach the broker, doubled after each failure in a row.
_FIRST_RETRY = 0.25
_LAST_RETRY = 5.0

# Seconds from the beginning of a batch that was not full to that of the next one, at least: what a
# batch takes is then shared by more events, and creates that come one by one are a fifth faster.
_BREATH_SECONDS = 0.010

# Events that are enough for the next batch to begin before that, or half as many if their drafts
# were stored together: such clients do not wait for each other, and more will come soon.
_ENOUGH = 8

# Events of a batch that is forgotten while the next one is published already, so that these wait
# less. Where more of them come, it is better that the next batch has more to share.
_SMALL_BATCH = 32

# One batch is under way at a time, another one is being forgotten, and whoever asks about health
# waits for neither.
_CONNECTIONS = 3

_OF_THE_DATABASE = (postgres.Unavailable, asyncpg.InsufficientPrivilegeError)


class Relay:
    """One relay of this process; `run` supervises it until it is told to stop."""

    def __init__(self, pool: postgres.Pool, settings: Settings) -> None:
        self._pool = pool
        self._settings = settings
        # A batch that was confirmed and is being forgotten; there is one at most.
        self._forgetting: asyncio.Task[Counter[str]] | None = None
        self._woken = asyncio.Event()
        # Events since the last batch began, as far as somebody has told of them; see `_ENOUGH`.
        self._told = 0
        self._enough = asyncio.Event()
        self._stopping = asyncio.Event()
        self._window = settings.relay_batch_size
        self._failures = 0
        self._outcomes: Counter[str] = Counter()
        self._state = "connecting"
        self._since = datetime.now(UTC)
        self._last_error: str | None = None
        self._topology_checked_at: datetime | None = None
        # Queues that were found missing, to be told of once they are there.
        self._gone: set[str] = set()

    def wake(self, together: int = 1) -> None:
        """Say that an event was committed, so that it need not wait for the next poll.

        `together` is how many drafts its statement stored.
        """
        self._woken.set()
        self._told += 2 if together > 1 else 1
        if self._told >= _ENOUGH:
            self._enough.set()

    def stop(self) -> None:
        """Let the batch under way finish, and `run` return."""
        self._stopping.set()
        self._enough.set()
        self.wake()

    def status(self) -> dict[str, object]:
        """What an operator asks first: is it publishing, since when, and why it last was not.

        Anybody may read this, so addresses and other details of an error are in the log only.
        """
        return {
            "state": self._state,
            "since": self._since,
            "last_error": self._last_error,
            "circuit": "closed" if self._is_closed else "half-open",
            "window": self._window,
            "topology_checked_at": self._topology_checked_at,
            **{name: self._outcomes[name] for name in (*settlement.OUTCOMES, "queues_made")},
        }

    @property
    def _is_closed(self) -> bool:
        return not self._failures and self._window == self._settings.relay_batch_size

    async def run(self) -> None:
        """Publish until stopped, over a new connection after any doubt about the last one."""
        try:
            await self._publish_until_stopped()
            await self._forgotten()
        except _OF_THE_DATABASE as error:
            await self._wait_for_the_database(error)
        finally:
            if self._forgetting:
                self._forgetting.cancel()
        self._enter("stopped")

    async def _publish_until_stopped(self) -> None:
        while not self._stopping.is_set():
            try:
                async with broker.publisher(self._settings, self._gone) as publisher:
                    self._note_topology()
                    await self._publish_until_doubt(publisher)
                    doubt = publisher.doubt
            except (Exception, asyncio.CancelledError) as error:
                if _is_cancelled():
                    raise
                if not isinstance(error, broker.ERRORS):
                    logger.exception("relay failed unexpectedly")
                await self._pause("connecting", type(error).__name__, detail=str(error))
            else:
                if doubt is not None:
                    await self._pause("connecting", doubt)

    async def _publish_until_doubt(self, publisher: broker.Publisher) -> None:
        clock = asyncio.get_running_loop()
        next_check = clock.time() + self._settings.amqp_check_seconds
        while not (self._stopping.is_set() or publisher.doubt):
            self._woken.clear()
            self._told = 0
            self._enough.clear()
            if clock.time() >= next_check:
                # Between two batches, so that nothing is published past a queue that is not there.
                await publisher.ensure_topology(self._gone)
                self._note_topology()
                next_check = clock.time() + self._settings.amqp_check_seconds
            began, window = clock.time(), self._window
            try:
                outcomes = await self._publish_one(publisher)
                if not outcomes.total() and await self._forgotten():
                    # What comes after an event could not be claimed as long as that was there.
                    continue
            except _OF_THE_DATABASE as error:
                await self._wait_for_the_database(error)
                continue
            if not publisher.doubt:
                await self._judge(outcomes)
            if 0 < outcomes.total() < window:
                await self._take_breath(began + _BREATH_SECONDS - clock.time())
            if not outcomes.total():
                # Spread out, so that the replicas' polls do not come all at once.
                poll_seconds = self._settings.relay_poll_seconds * random.uniform(0.5, 1.5)
                await background.within(poll_seconds, self._woken)

    async def _take_breath(self, seconds: float) -> None:
        """Let events that come one after the other share a batch, unless it is full anyway."""
        if seconds > 0:
            await background.within(seconds, self._enough)

    def _note_topology(self) -> None:
        """Tell of queues that were missing; those of the first start may never have been there."""
        is_first, self._topology_checked_at = not self._topology_checked_at, datetime.now(UTC)
        while self._gone:
            queue = self._gone.pop()
            if is_first:
                logger.info("queue made", queue=queue)
                continue
            self._outcomes["queues_made"] += 1
            self._last_error = f"the queue {queue} was gone, and is made anew"
            logger.error(
                "queue was gone, made anew",
                queue=queue,
                lost="what was in it, and events of the last seconds: campaigns events republish",
                seconds=self._settings.amqp_check_seconds,
            )

    async def step(self, publisher: broker.Publisher) -> Counter[str]:
        """Claim and publish one batch, and settle it; answer how many events had which outcome.

        Raises:
            postgres.Unavailable: what was published may be published again.
        """
        outcomes = await self._publish_one(publisher)
        await self._forgotten()
        return outcomes

    async def _publish_one(self, publisher: broker.Publisher) -> Counter[str]:
        """A step, but that a small batch may still have to be forgotten when the next one begins.

        Raises:
            postgres.Unavailable: what was published may be published again, also by the last step.
        """
        async with AsyncExitStack() as stack:
            connection = await stack.enter_async_context(self._pool.acquire())
            await stack.enter_async_context(connection.transaction())
            batch = await queries.claim_events(connection, self._window)
            if not batch:
                return Counter()
            results = await publisher.publish(batch)
            await self._forgotten()
            attempts = list(zip(batch, results, strict=True))
            settling = self._settle(connection, attempts, stack.pop_all())
        if len(batch) < _SMALL_BATCH and not any(results):
            self._forgetting = asyncio.create_task(settling)
            outcomes = Counter(confirmed=len(batch))
        else:
            outcomes = await settling
        self._outcomes.update(outcomes)
        return outcomes

    async def _settle(
        self,
        connection: postgres.Connection,
        attempts: list[settlement.Result],
        to_end: AsyncExitStack,
    ) -> Counter[str]:
        async with to_end:
            return await settlement.settle(connection, attempts, again=self._failures > 0)

    async def _forgotten(self) -> bool:
        """Wait for what is being forgotten, if anything is; raises: postgres.Unavailable."""
        forgetting, self._forgetting = self._forgetting, None
        if forgetting is None:
            return False
        await forgetting
        return True

    async def probe(self) -> None:
        """Ask of the database what a step asks of it first, for no event at all.

        Raises:
            postgres.Unavailable, asyncpg.PostgresError: no step can succeed now.
        """
        async with self._pool.acquire() as connection:
            await queries.claim_events(connection, limit=0)

    async def _judge(self, outcomes: Counter[str]) -> None:
        """Go faster after a success; a queue that is full is asked with one event at a time.

        To each of the other queues, what one refuses is a copy more at every attempt.
        """
        if outcomes["refused"]:
            await self._pause("refused", "a queue refuses events: it is full")
        # No events say nothing about a queue that refuses them.
        elif outcomes["confirmed"] or self._state != "refused":
            self._failures = 0
            self._enter("publishing")
            if outcomes["confirmed"]:
                self._window = min(self._window * 2, self._settings.relay_batch_size)

    async def _pause(self, state: str, error: str, detail: str = "") -> None:
        """Note a failure and wait, longer after each in a row, but not past a stop.

        Next is one event alone: if that one is the reason, nobody else suffers from it.
        """
        self._failures += 1
        self._window = 1
        self._last_error = error
        self._enter(state)
        logger.warning("relay failed", error=error, detail=detail, failures=self._failures)
        await background.within(_retry_delay(self._failures), self._stopping)

    async def _wait_for_the_database(self, error: Exception) -> None:
        kind = type(error.__cause__ or error).__name__
        await self._pause("waiting for the database", kind, detail=str(error))

    def _enter(self, state: str) -> None:
        if state != self._state:
            self._state, self._since = state, datetime.now(UTC)
            logger.info("relay", state=state)


def _is_cancelled() -> bool:
    """Whether we are to end; the client cancels its own futures when a connection breaks."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


def _retry_delay(failures: int) -> float:
    longest: float = min(_LAST_RETRY, _FIRST_RETRY * 2 ** min(failures - 1, 10))
    return longest * random.uniform(0.8, 1.2)


RELAY: web.AppKey[Relay] = web.AppKey("RELAY")


async def context(app: web.Application) -> AsyncIterator[None]:
    """Run the relay of `app`.

    It has a login of its own, which sees the outbox only, and connections that no request takes.
    """
    settings = app[SETTINGS]
    url = settings.relay_database_url or settings.database_url
    async with postgres.pool(url, _CONNECTIONS, settings) as pool:
        relay = app[RELAY] = Relay(pool, settings)
        app[BACKGROUND].start("relay", relay.run(), relay.stop)
        yield
