"""What runs beside the requests: tasks that wait, and end in time."""

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

import structlog

from service import postgres

logger = structlog.get_logger(__name__)


async def within(seconds: float, event: asyncio.Event) -> None:
    """Wait for an event, but not longer."""
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await event.wait()


async def end(task: "asyncio.Task[Any]", seconds: float) -> None:
    """Let a task that was told to stop finish what it does, but not for longer."""
    await asyncio.wait([task], timeout=seconds)
    task.cancel()
    await asyncio.wait([task])


@asynccontextmanager
async def repeating(
    name: str, work: Callable[[], Awaitable[None]], every_seconds: float, end_seconds: float
) -> AsyncIterator[None]:
    """Do some work at least that often, and once more at the end; what fails is done next time."""
    stopping = asyncio.Event()

    async def repeat() -> None:
        while not stopping.is_set():
            # Spread out, so that replicas that start together do not all come at once.
            await within(every_seconds * random.uniform(0.5, 1), stopping)
            try:
                await work()
            except postgres.Unavailable as error:
                logger.warning(f"{name} failed", error=str(error))
            except Exception:
                logger.exception(f"{name} failed")

    task = asyncio.create_task(repeat(), name=name)
    yield
    stopping.set()
    await end(task, end_seconds)
