"""Lists: parts of what there is, which may be much."""

import math
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from itertools import accumulate

from aiohttp import web

from service import campaigns, postgres, queries, scans
from service.invalid import InvalidParameters
from service.keys import Caller
from service.listings import FURTHEST, LARGEST_PAGE_BYTES, Entry, Listing, Page, Window
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
        """A part of the campaigns; how many there are in all is not counted beyond `FURTHEST`.

        Raises:
            invalid.InvalidParameters: that part would be too large.
            turns.Overloaded: others are listing.
            postgres.Unavailable
        """
        organization_id, limit = caller.organization_id, listing.window.limit
        async with self._lent(organization_id) as connection:
            whose = (connection, organization_id)
            scan = await scans.choose(*whose, listing)
            entries = await queries.list_campaigns(*whose, scan, listing)
            wanted = entries[:limit]
            _check_size(wanted, by_page=listing.window.by_page)
            found = await queries.read_campaigns(*whose, [entry.id for entry in wanted])
            counted = await queries.count_campaigns(*whose, scan, FURTHEST + 1)
            first_end = end = await queries.find_end(*whose, scan, None)
            if listing.cursor:
                end = await queries.find_end(*whose, scan, listing.cursor)
        is_full = len(entries) > limit
        following = listing.cursor_at(wanted[-1]) if is_full else end
        by_id = {campaign.id: campaign for campaign in found}
        return Page(
            items=[by_id[entry.id] for entry in wanted],
            window=listing.window,
            total=min(counted, FURTHEST),
            total_is_exact=counted <= FURTHEST and first_end is None,
            has_next=following is not None,
            next_cursor=None if following is None else str(following),
            is_cut=not is_full,
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
            connection.transaction(isolation="repeatable_read", readonly=True),
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
