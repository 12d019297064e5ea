"""What runs beside the requests: tasks that wait, and end in time."""

import asyncio
from contextlib import suppress
from typing import Any


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
