"""Lists: which part of a list is asked for, and how it is answered with the way to the rest.

Callers know two conventions, skip and limit, and page and per_page. A cursor goes on from where a
page ended, however deep that is, and whatever was inserted meanwhile.
"""

import base64
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Literal, TypeAlias

import orjson
from yarl import URL

from service.drafts import CampaignType, Status, name_key

# Items. `docs/requests.md` tells these to callers.
USUAL_PAGE = 50
LARGEST_PAGE = 1000
# Of the texts on a page; a usual campaign has one or two thousand.
LARGEST_PAGE_BYTES = 4 * 1024 * 1024
# How far campaigns are counted, skipped, and looked through for a page; what lies beyond is for
# cursors.
FURTHEST = 10_000

SortKey = Literal["created_at", "updated_at", "name"]
Place: TypeAlias = datetime | str


class BadCursor(ValueError):
    """This is no cursor of ours."""


@dataclass(frozen=True, slots=True)
class Order:
    """By a field, and among equals by id."""

    key: SortKey
    descending: bool

    @property
    def name(self) -> str:
        return f"-{self.key}" if self.descending else self.key


_KEYS: tuple[SortKey, ...] = ("created_at", "updated_at", "name")
ORDERS = {order.name: order for key in _KEYS for order in (Order(key, False), Order(key, True))}


@dataclass(frozen=True, slots=True)
class Cursor:
    """Where a page ended: at the campaign of this id, which has this place in the order."""

    order: Order
    place: Place
    id: int

    def __str__(self) -> str:
        document = orjson.dumps([self.order.name, self.place, self.id])
        return base64.urlsafe_b64encode(document).decode().rstrip("=")

    @classmethod
    def read(cls, text: str) -> "Cursor":
        """Raises: BadCursor."""
        try:
            padded = text + "=" * (-len(text) % 4)
            name, place, campaign_id = orjson.loads(base64.b64decode(padded, b"-_", validate=True))
            order = ORDERS[name]
            is_text = isinstance(place, str) and "\0" not in place
            is_id = type(campaign_id) is int and 0 < campaign_id < 2**63
            if not (is_text and is_id):
                raise BadCursor
            return cls(order, place if order.key == "name" else moment(place), campaign_id)
        except (ValueError, TypeError, KeyError) as error:
            raise BadCursor from error


def moment(text: str) -> datetime:
    """Read a time that says its zone.

    Raises:
        ValueError: it is none, or lies outside of the years that there are in UTC.
    """
    time = datetime.fromisoformat(text)
    if time.tzinfo is None:
        raise ValueError("a time without its zone")
    try:
        return time.astimezone(UTC)
    except OverflowError as error:
        raise ValueError("a time outside of all years") from error


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """Which part of a list; `by_page`: the caller counts so; `is_deep`: a cursor leads there."""

    skip: int = 0
    limit: int = USUAL_PAGE
    by_page: bool = False
    is_deep: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Filters:
    """What the campaigns of a list have in common; None is anything."""

    status: Status | None = None
    campaign_type: CampaignType | None = None
    assistant_id: int | None = None
    created_after: datetime | None = None
    created_before: datetime | None = None
    q: str | None = None

    @property
    def pattern(self) -> str | None:
        """What LIKE finds names with that have `q` in them, whatever their case."""
        if self.q is None:
            return None
        escaped = re.sub(r"([\\%_])", r"\\\1", name_key(self.q))
        return f"%{escaped}%"

    def only(self, *names: str) -> "Filters":
        """Those of these names."""
        return Filters(**{name: getattr(self, name) for name in names})

    def without(self, *names: str) -> "Filters":
        """All but those of these names."""
        return replace(self, **dict.fromkeys(names))


@dataclass(frozen=True, slots=True, kw_only=True)
class Listing:
    """A part of the campaigns of an organization, in an order."""

    filters: Filters = field(default_factory=Filters)
    order: Order = ORDERS["-created_at"]
    window: Window = field(default_factory=Window)
    cursor: Cursor | None = None

    def cursor_at(self, entry: "Entry") -> Cursor:
        """Where to go on after it."""
        return Cursor(self.order, entry.place, entry.id)


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """What a list knows of a campaign before it is read."""

    id: int
    place: Place
    bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """A part of a list; `is_cut`: more of it may lie beyond what was looked through."""

    items: Sequence[object]
    window: Window
    total: int
    total_is_exact: bool = True
    has_next: bool
    next_cursor: str | None = None
    is_cut: bool = False

    def to_json(self) -> bytes:
        """The envelope that the published conventions have in common."""
        limit = self.window.limit
        skip = None if self.window.is_deep else self.window.skip
        body = {
            "items": self.items,
            "total": self.total,
            "skip": skip,
            "limit": limit,
            "pagination": {
                "page": None if skip is None else skip // limit + 1,
                "per_page": limit,
                "total_items": self.total,
                "total_pages": math.ceil(self.total / limit),
                "total_is_exact": self.total_is_exact,
                "has_next": self.has_next,
                "has_prev": skip is None or skip > 0,
                "next_cursor": self.next_cursor,
            },
        }
        return orjson.dumps(body, option=orjson.OPT_UTC_Z)

    def links(self, url: URL) -> str:
        """The header Link (RFC 8288) of a page that was asked for with this URL."""
        skip, limit = self.window.skip, self.window.limit
        links = {}
        if not self.window.is_deep:
            links["first"] = self._at(url, 0)
        if skip > 0:
            links["prev"] = self._at(url, max(0, skip - limit))
        if self.has_next:
            is_deep = self.is_cut or self.window.is_deep or skip + limit > FURTHEST
            by_cursor = is_deep and self.next_cursor
            links["next"] = self._beyond(url) if by_cursor else self._at(url, skip + limit)
        return ", ".join(f'<{target}>; rel="{relation}"' for relation, target in links.items())

    def _at(self, url: URL, skip: int) -> URL:
        limit = self.window.limit
        if self.window.by_page:
            return _plain(url).update_query(page=skip // limit + 1, per_page=limit)
        return _plain(url).update_query(skip=skip, limit=limit)

    def _beyond(self, url: URL) -> URL:
        size = "per_page" if self.window.by_page else "limit"
        place = {size: str(self.window.limit), "cursor": self.next_cursor or ""}
        return _plain(url).update_query(place)


def _plain(url: URL) -> URL:
    """Of which list the URL is, but not of which part."""
    return url.without_query_params("skip", "limit", "page", "per_page", "cursor")
