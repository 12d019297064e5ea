"""Lists: parts of what there is, which may be much."""

from collections.abc import Sequence
from itertools import accumulate

from aiohttp import web

from service import campaigns, postgres, queries
from service.invalid import InvalidParameters
from service.keys import Caller
from service.listings import COUNTED, LARGEST_PAGE_BYTES, Entry, Listing, Page, Window
from service.turns import Turns


class Lists:
    """The use cases that list; so many at a time that others need not wait for connections."""

    def __init__(self, pool: postgres.Pool, turns: Turns) -> None:
        self._pool = pool
        self._turns = turns

    async def page(self, caller: Caller, listing: Listing) -> Page:
        """A part of the campaigns; how many there are in all is not counted beyond `COUNTED`.

        Raises:
            invalid.InvalidParameters: that part would be too large.
            turns.Overloaded: others are listing.
            postgres.Unavailable
        """
        organization_id, limit = caller.organization_id, listing.window.limit
        async with self._turns.turn(), self._pool.acquire() as connection:
            entries = await queries.list_campaigns(connection, organization_id, listing)
            wanted = entries[:limit]
            _check_size(wanted)
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
            NotFound, postgres.Unavailable
        """
        whose = (caller.organization_id, campaign_id)
        async with self._pool.acquire() as connection:
            found = await queries.list_history(connection, *whose, window)
            total = await queries.count_history(connection, *whose)
            if not total:
                # A replica of an earlier release writes none.
                await campaigns.find(connection, *whose)
        limit = window.limit
        return Page(items=found[:limit], window=window, total=total, has_next=len(found) > limit)


def _check_size(entries: Sequence[Entry]) -> None:
    """Refuse a page that would take too much memory, here and on its way.

    Raises:
        InvalidParameters: saying how many campaigns would be right.
    """
    sizes = accumulate(entry.bytes for entry in entries)
    fitting = sum(size <= LARGEST_PAGE_BYTES for size in sizes)
    if fitting < len(entries):
        detail = f"These campaigns are too large for one page: ask for {max(fitting, 1)} at most."
        raise InvalidParameters([{"parameter": "limit", "detail": detail}])


LISTS: web.AppKey[Lists] = web.AppKey("LISTS")
