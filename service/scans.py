"""Scans: which index a list is read by, and how far.

No index has every filter in every order. So the campaigns of one filter are read in the order of
the list and looked through for the others: `FURTHEST` for a page at most, however many there are.
"""

from dataclasses import dataclass, replace

from service import queries
from service.listings import FURTHEST, ORDERS, Filters, Listing, Order, SortKey
from service.postgres import Connection

_LEADING = ("status", "campaign_type", "assistant_id")
_TIMES = ("created_after", "created_before")


@dataclass(frozen=True, slots=True, kw_only=True)
class Scan:
    """Read what an index has under `conditions`, and look through it for `filters`.

    It is read in the order of the list or, if there are few, all of it in the order of time.
    """

    conditions: Filters
    filters: Filters
    order: Order
    is_of_few: bool = False

    @property
    def looked(self) -> SortKey:
        """What it is read by."""
        return "created_at" if self.is_of_few else self.order.key

    @property
    def reach(self) -> int | None:
        """How many campaigns are read at most; None: as many as are wanted."""
        return FURTHEST if self.is_of_few or self.filters != Filters() else None


async def choose(connection: Connection, organization_id: int, listing: Listing) -> Scan:
    """Let the filter lead that the fewest campaigns pass."""
    filters, key = listing.filters, listing.order.key
    given = [[name] for name in _LEADING if getattr(filters, name) is not None] or [[]]
    has_times = filters.only(*_TIMES) != Filters()
    if len(given) == 1 and (key == "created_at" or not has_times):
        return _led(listing, given[0])
    counted = [
        (await _count(connection, organization_id, filters.only(*lead, *_TIMES)), lead)
        for lead in given
    ]
    fewest, best = min(counted)
    return _led(listing, best, is_of_few=fewest <= FURTHEST)


async def _count(connection: Connection, organization_id: int, conditions: Filters) -> int:
    scan = Scan(conditions=conditions, filters=Filters(), order=ORDERS["created_at"])
    return await queries.count_campaigns(connection, organization_id, scan, FURTHEST + 1)


def _led(listing: Listing, lead: list[str], *, is_of_few: bool = False) -> Scan:
    filters, order = listing.filters, listing.order
    names = [*lead, *_TIMES] if is_of_few or order.key == "created_at" else lead
    conditions = filters.only(*names)
    if order.key == "updated_at":
        # What was created late was updated late, too.
        conditions = replace(conditions, created_after=filters.created_after)
    rest = filters.without(*names)
    return Scan(conditions=conditions, filters=rest, order=order, is_of_few=is_of_few)
