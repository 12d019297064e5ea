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

    def __enter__(self) -> None:
        """Work in a place; raises: the refusal."""
        self._check(self._free - 1)
        self._free -= 1

    def __exit__(self, *_: object) -> None:
        self._free += 1

    @contextmanager
    def lent(self) -> Iterator[None]:
        """Give a place to others for a while; after it there may be none.

        Raises:
            the refusal.
        """
        self._free += 1
        try:
            yield
        finally:
            self._free -= 1
        self._check(self._free)

    def _check(self, free: int) -> None:
        if free < 0:
            raise self._refusal(self._reason)


class Slots:
    """The slots of this process, of which each organization may have a share."""

    def __init__(self, settings: Settings) -> None:
        number = settings.http_concurrent_requests
        self.all = Share(number, Overloaded, f"The service works on {number} requests already.")
        self._places = settings.organization_concurrent_requests
        # A share is forgotten with the last request that has a place in it.
        self._shares: WeakValueDictionary[int, Share] = WeakValueDictionary()

    def share_of(self, organization_id: int) -> Share:
        """The share of an organization."""
        share = self._shares.get(organization_id)
        if share is None:
            reason = f"Your organization has {self._places} requests under way already."
            share = self._shares[organization_id] = Share(self._places, ShareTaken, reason)
        return share


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
    slots = request.app[SLOTS]
    with slots.share_of(request[CALLER].organization_id), slots.all:
        return await handler(request)
