"""Turns: so many at the same time, and who would wait too long is told to come back."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Generic, TypeVar
from weakref import WeakValueDictionary

K = TypeVar("K")


class Overloaded(Exception):
    """There is no place, or no turn in time."""


class Turns:
    """A queue for `number` places, in which nobody waits longer than `most_seconds`."""

    def __init__(self, number: int, most_seconds: float) -> None:
        self._places = asyncio.Semaphore(number)
        self._most_seconds = most_seconds

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """Wait for a turn and take it.

        Raises:
            Overloaded: it did not come in time.
        """
        try:
            async with asyncio.timeout(self._most_seconds):
                await self._places.acquire()
        except TimeoutError:
            raise Overloaded("Too many others wait for the same.") from None
        try:
            yield
        finally:
            self._places.release()


class TurnsOfEach(Generic[K]):
    """A queue of its own for each of many; one that nobody waits in is forgotten."""

    def __init__(self, number: int, most_seconds: float) -> None:
        self._number = number
        self._most_seconds = most_seconds
        self._queues: WeakValueDictionary[K, Turns] = WeakValueDictionary()

    def turn(self, whose: K) -> AbstractAsyncContextManager[None]:
        """Wait for a turn in this queue and take it.

        Raises:
            Overloaded: it did not come in time.
        """
        queue = self._queues.get(whose)
        if queue is None:
            queue = self._queues[whose] = Turns(self._number, self._most_seconds)
        return queue.turn()
