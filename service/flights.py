"""Single flights: one call for all who want the same thing at the same time."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

K = TypeVar("K")
T = TypeVar("T")


class Flights(Generic[K, T]):
    """Calls that are under way, by what they are for."""

    def __init__(self, call: Callable[[K], Awaitable[T]]) -> None:
        self._call = call
        self._under_way: dict[K, asyncio.Task[T]] = {}

    async def join(self, key: K) -> T:
        """Share the call for this, which goes on for the others when one of them goes away."""
        flight = self._under_way.get(key)
        if flight is None:
            flight = self._under_way[key] = asyncio.create_task(self._fly(key))
            flight.add_done_callback(_look_at)
        return await asyncio.shield(flight)

    async def _fly(self, key: K) -> T:
        try:
            return await self._call(key)
        finally:
            del self._under_way[key]


def _look_at(flight: "asyncio.Task[T]") -> None:
    """Whoever wanted to know of a failure may have gone away; asyncio would complain to the log."""
    if not flight.cancelled():
        flight.exception()
