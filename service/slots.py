"""Slots: how many requests are worked on at the same time; one more is told to come back."""

from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager

from aiohttp import web
from aiohttp.typedefs import Handler

from service.settings import SETTINGS


class Overloaded(Exception):
    """All slots are taken; a queue would only make everybody wait."""


class Slots:
    """The slots of this process."""

    def __init__(self, number: int) -> None:
        self._number = self._free = number

    @contextmanager
    def taken(self) -> Iterator[None]:
        """Work in a slot.

        Raises:
            Overloaded: there is none.
        """
        self._free -= 1
        try:
            self._check()
            yield
        finally:
            self._free += 1

    @contextmanager
    def lent(self) -> Iterator[None]:
        """Let others work while a request waits for its caller, who may be slow on purpose.

        Raises:
            Overloaded: there is none when it has got what it waited for.
        """
        self._free += 1
        try:
            yield
        finally:
            self._free -= 1
        self._check()

    def _check(self) -> None:
        if self._free < 0:
            raise Overloaded(f"The service works on {self._number} requests already.")


SLOTS: web.AppKey[Slots] = web.AppKey("SLOTS")


async def context(app: web.Application) -> AsyncIterator[None]:
    """Keep the slots of `app`."""
    app[SLOTS] = Slots(app[SETTINGS].http_concurrent_requests)
    yield


@web.middleware
async def middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Let no more requests in than there are slots; health is told in any case."""
    if not request.path.startswith("/api/"):
        return await handler(request)
    with request.app[SLOTS].taken():
        return await handler(request)
