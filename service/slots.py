"""Slots: how many requests are worked on at the same time.

One more is told at once to come back; a queue would only make everybody wait.
"""

from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from weakref import WeakValueDictionary

from aiohttp import web
from aiohttp.typedefs import Handler

from service.auth import CALLER
from service.settings import SETTINGS, Settings
from service.turns import Overloaded


class ShareTaken(Exception):
    """An organization has its share of the slots."""


class Share:
    """A number of places, of which each request takes one; one more is refused."""

    def __init__(self, places: int, refusal: type[Exception], reason: str) -> None:
        self._free = places
        self._refusal = refusal
        self._reason = reason

    @contextmanager
    def taken(self) -> Iterator[None]:
        """Work in a place."""
        self._free -= 1
        try:
            self._check()
            yield
        finally:
            self._free += 1

    @contextmanager
    def lent(self) -> Iterator[None]:
        """Give a place to others for a while; after it there may be none."""
        self._free += 1
        try:
            yield
        finally:
            self._free -= 1
        self._check()

    def _check(self) -> None:
        if self._free < 0:
            raise self._refusal(self._reason)


class Slots:
    """The slots of this process, of which each organization may have a share."""

    def __init__(self, settings: Settings) -> None:
        number = settings.http_concurrent_requests
        self._all = Share(number, Overloaded, f"The service works on {number} requests already.")
        self._share = settings.organization_concurrent_requests
        # A share is forgotten with the last request that has a place in it.
        self._shares: WeakValueDictionary[int, Share] = WeakValueDictionary()

    @contextmanager
    def taken(self, organization_id: int) -> Iterator[None]:
        """Work in a slot.

        Raises:
            turns.Overloaded, ShareTaken: there is none.
        """
        with self._share_of(organization_id).taken(), self._all.taken():
            yield

    def _share_of(self, organization_id: int) -> Share:
        share = self._shares.get(organization_id)
        if share is None:
            reason = f"Your organization has {self._share} requests under way already."
            share = self._shares[organization_id] = Share(self._share, ShareTaken, reason)
        return share

    @contextmanager
    def lent(self) -> Iterator[None]:
        """Let others work while a request waits for its caller, who may be slow on purpose.

        It keeps its place in the share of its organization, or the bytes that have arrived would
        fill the memory.

        Raises:
            turns.Overloaded: there is none when it has got what it waited for.
        """
        with self._all.lent():
            yield


SLOTS: web.AppKey[Slots] = web.AppKey("SLOTS")


async def context(app: web.Application) -> AsyncIterator[None]:
    """Keep the slots of `app`."""
    app[SLOTS] = Slots(app[SETTINGS])
    yield


@web.middleware
async def middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Let no more requests in than there are slots; health is told in any case."""
    if CALLER not in request:
        return await handler(request)
    with request.app[SLOTS].taken(request[CALLER].organization_id):
        return await handler(request)
