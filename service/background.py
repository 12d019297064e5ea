"""What runs beside the requests: tasks that wait, and end in time."""

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import suppress
from typing import Any

import structlog
from aiohttp import web

from service import postgres
from service.settings import SETTINGS

logger = structlog.get_logger(__name__)

# Seconds that tasks get to end when the requests have used up all of the time.
_LEAST_SECONDS = 1.0

# Seconds that a task gets to clean up when it is cancelled.
_CANCELLING_SECONDS = 1.0


async def within(seconds: float, event: asyncio.Event) -> None:
    """Wait for an event, but not longer."""
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await event.wait()


class Background:
    """The tasks of one application, which are told to stop together and end in one time."""

    def __init__(self) -> None:
        self._tasks: list[tuple[asyncio.Task[None], Callable[[], None]]] = []
        # By the clock of the event loop.
        self.deadline = 0.0

    def start(self, name: str, work: Coroutine[Any, Any, None], stop: Callable[[], None]) -> None:
        """Run some work until `stop` tells it to return."""
        self._tasks.append((asyncio.create_task(work, name=name), stop))

    def repeat(self, name: str, work: Callable[[], Awaitable[None]], seconds: float) -> None:
        """Do some work at least that often, and once more at the end."""
        stopping = asyncio.Event()
        self.start(name, _repeat(name, work, seconds, stopping), stopping.set)

    async def end(self) -> None:
        """Let all finish what they do, until the deadline."""
        seconds = max(self.deadline - asyncio.get_running_loop().time(), _LEAST_SECONDS)
        for _, stop in self._tasks:
            stop()
        _, late = await asyncio.wait([task for task, _ in self._tasks], timeout=seconds)
        for task in late:
            task.cancel()
        if late:
            # One that waits for a database that is away may not even hear of it.
            await asyncio.wait(late, timeout=_CANCELLING_SECONDS)


async def _repeat(
    name: str, work: Callable[[], Awaitable[None]], seconds: float, stopping: asyncio.Event
) -> None:
    """What fails is done the next time."""
    while not stopping.is_set():
        # Spread out, so that replicas that start together do not all come at once.
        await within(seconds * random.uniform(0.5, 1), stopping)
        try:
            await work()
        except postgres.Unavailable as error:
            logger.warning(f"{name} failed", error=str(error))
        except Exception:
            logger.exception(f"{name} failed")


BACKGROUND: web.AppKey[Background] = web.AppKey("BACKGROUND")


async def note_deadline(app: web.Application) -> None:
    """Begin the time in which `app` has to end; requests under way may need all of it."""
    app[BACKGROUND].deadline = asyncio.get_running_loop().time() + app[SETTINGS].shutdown_seconds


async def context(app: web.Application) -> AsyncIterator[None]:
    """End what was started beside the requests of `app`, before all that it needs is closed."""
    yield
    await app[BACKGROUND].end()
