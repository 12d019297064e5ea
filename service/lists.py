"""Lists: parts of what there is, which may be much."""

import math
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from itertools import accumulate

from aiohttp import web

from service import campaigns, postgres, queries
from service.invalid import InvalidParameters
from service.keys import Caller
from service.listings import COUNTED, LARGEST_PAGE_BYTES, Entry, Listing, Page, Window
from service.turns import Turns, TurnsOfEach


class Lists:
    """The use cases that list, which may be slow.

    All together they take half of the connections, and each organization half of these, so that
    neither other requests nor the lists of others wait for them.
    """

    def __init__(self, pool: postgres.Pool, connections: int, most_seconds: float) -> None:
        self._pool = pool
        self._turns = Turns(math.ceil(connections / 2), most_seconds)
        self._turns_of_each: TurnsOfEach[int] = TurnsOfEach(
            math.ceil(connections / 4), most_seconds
        )

    async def page(self, caller: Caller, listing: Listing) -> Page:
        """A part of the campaigns; how many there are in all is not counted beyond `COUNTED`.

        Raises:
            invalid.InvalidParameters: that part would be too large.
            turns.Overloaded: others are listing.
            postgres.Unavailable
        """
        organization_id, limit = caller.organization_id, listing.window.limit
        async with self._lent(organization_id) as connection:
            entries = await queries.list_campaigns(connection, organization_id, listing)
            wanted = entries[:limit]
            _check_size(wanted, by_page=listing.window.by_page)
            ids = [entry.id for entry in wanted]
            found = await queries.read_campaigns(connection, organization_id, ids)
            counted = await queries.count_campaigns(
                connection, organization_id, listing.filters, COUNTED + 1
            )
        # One that was deleted since is missing.
        by_id = {campaign.id: campaign for campaign in found}
        has_next = len(entries) > limit
        return Page(
            items=[by_id[entry.id] for entry in wanted if entry.id in by_id],
            window=listing.window,
            total=min(counted, COUNTED),
            total_is_exact=counted <= COUNTED,
            has_next=has_next,
            next_cursor=str(listing.cursor_at(wanted[-1])) if has_next else None,
        )

    async def history(self, caller: Caller, campaign_id: int, window: Window) -> Page:
        """A part of what was done to a campaign, also after it was deleted.

        Raises:
            campaigns.NotFound, turns.Overloaded, postgres.Unavailable
        """
        whose = (caller.organization_id, campaign_id)
        async with self._lent(caller.organization_id) as connection:
            found = await queries.list_history(connection, *whose, window)
            total = await queries.count_history(connection, *whose)
            if not total:
                # A replica of an earlier release writes none.
                await campaigns.find(connection, *whose)
        limit = window.limit
        return Page(items=found[:limit], window=window, total=total, has_next=len(found) > limit)

    @asynccontextmanager
    async def _lent(self, organization_id: int) -> AsyncIterator[postgres.Connection]:
        async with (
            self._turns_of_each.turn(organization_id),
            self._turns.turn(),
            self._pool.acquire() as connection,
        ):
            yield connection


def _check_size(entries: Sequence[Entry], *, by_page: bool) -> None:
    """Refuse a page that would take too much memory, here and on its way.

    Raises:
        InvalidParameters: saying how many campaigns would be right.
    """
    sizes = accumulate(entry.bytes for entry in entries)
    fitting = sum(size <= LARGEST_PAGE_BYTES for size in sizes)
    if fitting < len(entries):
        detail = f"These campaigns are too large for one page: ask for {max(fitting, 1)} at most."
        parameter = "per_page" if by_page else "limit"
        raise InvalidParameters([{"parameter": parameter, "detail": detail}])


LISTS: web.AppKey[Lists] = web.AppKey("LISTS")
