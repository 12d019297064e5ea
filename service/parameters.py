"""Shapes of queries: what is accepted in the part of a URL after its path, and what is not."""

import dataclasses
import re
from datetime import datetime
from functools import partial
from typing import Any, get_args

from marshmallow import EXCLUDE, Schema, ValidationError, fields, validate, validates_schema
from multidict import MultiMapping

from service.drafts import CampaignType, Status
from service.invalid import InvalidParameters, load, parameter_errors
from service.listings import (
    FURTHEST,
    LARGEST_PAGE,
    ORDERS,
    USUAL_PAGE,
    BadCursor,
    Cursor,
    Filters,
    Listing,
    Window,
    moment,
)

# Characters.
LONGEST_SEARCH = 200

# More digits than there are in a number that Python reads.
_NUMBER = re.compile("[0-9]{1,4000}")
# What PostgreSQL cannot store, and what stands for bytes that are no UTF-8.
_NO_TEXT = re.compile("[\0\ufffd\ud800-\udfff]")
_FURTHEST = 10**9

# Each pair says where a list begins, or how much of it is wanted, in two ways.
_EXCLUSIVE = [
    ("page", "skip"),
    ("page", "limit"),
    ("page", "cursor"),
    ("per_page", "skip"),
    ("per_page", "limit"),
    ("skip", "cursor"),
]


class _Number(fields.Field[int]):
    """Digits in a range; `is_cut`: what is beyond it is as good as its end."""

    def __init__(self, least: int, most: int, *, is_cut: bool = False, hint: str = "") -> None:
        super().__init__()
        self._least, self._most, self._is_cut = least, most, is_cut
        self._wanted = f"Must be an integer from {least} to {most}.{hint}"

    def _deserialize(self, value: str, *_: Any, **__: Any) -> int:
        number = int(value) if _NUMBER.fullmatch(value) else -1
        if self._is_cut:
            number = min(number, self._most)
        if not self._least <= number <= self._most:
            raise ValidationError(self._wanted)
        return number


class _Time(fields.Field[datetime]):
    def _deserialize(self, value: str, *_: Any, **__: Any) -> datetime:
        try:
            return moment(value)
        except ValueError:
            raise ValidationError(
                "Must be a time with its zone, such as 2026-01-31T12:00:00Z; "
                "'+' is written '%2B' here."
            ) from None


class _Search(fields.Field[str]):
    def _deserialize(self, value: str, *_: Any, **__: Any) -> str:
        text = value.strip()
        if not 0 < len(text) <= LONGEST_SEARCH or _NO_TEXT.search(text):
            raise ValidationError(f"Must be 1 to {LONGEST_SEARCH} characters of a name.")
        return text


class _Cursor(fields.Field[Cursor]):
    def _deserialize(self, value: str, *_: Any, **__: Any) -> Cursor:
        try:
            return Cursor.read(value)
        except BadCursor:
            raise ValidationError("Is not the next_cursor of a list of campaigns.") from None


def _one_of(*choices: str) -> fields.String:
    return fields.String(validate=validate.OneOf(choices, error="Must be one of: {choices}."))


class _QuerySchema(Schema):
    class Meta:
        # `parameter_errors` names unknown parameters, with what may have been meant.
        unknown = EXCLUDE


class _CreateQuery(_QuerySchema):
    """`POST /api/v1/campaigns`."""

    validate_only = fields.String(
        validate=validate.OneOf(("true", "false"), error="Must be true or false.")
    )


class _WindowQuery(_QuerySchema):
    """Any list: by skip and limit, or by page and per_page."""

    skip = _Number(0, _FURTHEST)
    limit = _Number(1, LARGEST_PAGE, is_cut=True)
    page = _Number(1, _FURTHEST)
    per_page = _Number(1, LARGEST_PAGE, is_cut=True)

    @validates_schema(pass_original=True, skip_on_field_errors=False)
    def one_way_only(self, _loaded: Any, query: dict[str, str], **_: Any) -> None:
        """Nobody knows which of two is meant."""
        errors = {
            name: [f"Cannot be combined with '{other}'."]
            for name, other in _EXCLUSIVE
            if name in query and other in query
        }
        if errors:
            raise ValidationError(errors)


class _ListingQuery(_WindowQuery):
    """`GET /api/v1/campaigns`."""

    _hint = " Go on with the next_cursor of a page instead."
    skip = _Number(0, FURTHEST, hint=_hint)
    page = _Number(1, FURTHEST + 1, hint=_hint)
    cursor = _Cursor()
    sort = _one_of(*ORDERS)
    status = _one_of(*get_args(Status))
    campaign_type = _one_of(*get_args(CampaignType))
    assistant_id = _Number(1, 2**63 - 1)
    created_after = _Time()
    created_before = _Time()
    q = _Search()

    @validates_schema(skip_on_field_errors=False)
    def not_too_deep(self, loaded: dict[str, Any], **_: Any) -> None:
        """A page further on is as far as that much to skip."""
        if _window(loaded).skip > FURTHEST:
            raise ValidationError({"page": [f"Is too far on.{self._hint}"]})

    @validates_schema(skip_on_field_errors=False)
    def same_order(self, loaded: dict[str, Any], **_: Any) -> None:
        """A place in one order is none in another."""
        cursor = loaded.get("cursor")
        if cursor and loaded.get("sort", cursor.order.name) != cursor.order.name:
            raise ValidationError({"cursor": ["Belongs to a list in another order."]})


_NONE = _QuerySchema()
_CREATE = _CreateQuery()
_WINDOW = _WindowQuery()
_LISTING = _ListingQuery()


def load_validate_only(query: MultiMapping[str]) -> bool:
    """Read the query of a create; one that is mistyped must not store what was to be checked only.

    Raises:
        InvalidParameters: naming all that is wrong with it.
    """
    return _load(_CREATE, query).get("validate_only") == "true"


def load_none(query: MultiMapping[str]) -> None:
    """Refuse a query where there is nothing to ask for: what is meant by it would not be done.

    Raises:
        InvalidParameters: naming all of it.
    """
    _load(_NONE, query)


def load_window(query: MultiMapping[str]) -> Window:
    """Read which part of a list is wanted.

    Raises:
        InvalidParameters: naming all that is wrong with it.
    """
    return _window(_load(_WINDOW, query))


def load_listing(query: MultiMapping[str]) -> Listing:
    """Read which campaigns are wanted, and in which order.

    Raises:
        InvalidParameters: naming all that is wrong with it.
    """
    loaded = _load(_LISTING, query)
    cursor = loaded.get("cursor")
    return Listing(
        filters=Filters(**{f.name: loaded.get(f.name) for f in dataclasses.fields(Filters)}),
        order=cursor.order if cursor else ORDERS[loaded.get("sort", "-created_at")],
        window=_window(loaded),
        cursor=cursor,
    )


def _window(loaded: dict[str, Any]) -> Window:
    by_page = "page" in loaded or "per_page" in loaded
    limit = loaded.get("limit", loaded.get("per_page", USUAL_PAGE))
    return Window(
        skip=(loaded["page"] - 1) * limit if "page" in loaded else loaded.get("skip", 0),
        limit=limit,
        by_page=by_page,
        is_deep="cursor" in loaded,
    )


def _load(schema: Schema, query: MultiMapping[str]) -> dict[str, Any]:
    if not query:
        return {}
    errors_of = partial(parameter_errors, schema, query)
    loaded: dict[str, Any] = load(schema, dict(query), InvalidParameters, errors_of)
    return loaded
