"""Shapes of request bodies: what is accepted, and every problem of what is not."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, get_args

import orjson
from marshmallow import RAISE, Schema, ValidationError, fields, post_load, pre_load, validate
from marshmallow.exceptions import SCHEMA

from service import campaigns, templates

# The columns that hold these are PostgreSQL's integer and bigint.
_INTEGER_MAX = 2**31 - 1
_BIGINT_MAX = 2**63 - 1


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong, at a JSON pointer (RFC 6901) into the body."""

    pointer: str
    detail: str


class MalformedBody(Exception):
    """The body is not JSON; the text says where it stops being so."""


class InvalidBody(Exception):
    """The body is JSON, but not what is asked for."""

    def __init__(self, problems: list[Problem]) -> None:
        count = len(problems)
        super().__init__(f"{count} {'problem' if count == 1 else 'problems'} in the body.")
        self.problems = problems


def _storable(text: str) -> None:
    if "\0" in text:
        raise ValidationError("Must not contain the character NUL (U+0000).")


def _template(source: str) -> None:
    try:
        templates.parse(source)
    except templates.TemplateError as error:
        raise ValidationError(f"Not a message template: {error}.") from error


def _text(*checks: Callable[[Any], Any], required: bool = False) -> fields.String:
    """A string that PostgreSQL can store, and that passes `checks`."""
    return fields.String(
        required=required,
        validate=[_storable, *checks],
        error_messages={"invalid": "Must be a string."},
    )


def _integer(minimum: int, maximum: int, *, required: bool = False) -> fields.Integer:
    wanted = f"Must be an integer from {minimum} to {maximum}."
    return fields.Integer(
        strict=True,
        required=required,
        validate=validate.Range(minimum, maximum, error=wanted),
        error_messages={"invalid": wanted, "too_large": wanted},
    )


def _sayable(value: object) -> None:
    if not isinstance(value, str | int | float):
        raise ValidationError("Must be a string, a number or a boolean.")
    if isinstance(value, str):
        _storable(value)


class _CampaignSchema(Schema):
    """`POST /api/v1/campaigns`, in the published order of its fields."""

    class Meta:
        unknown = RAISE

    error_messages = {  # noqa: RUF012 (marshmallow declares it for instances)
        "unknown": "Is not a field of a campaign.",
        "type": "Must be an object.",
    }

    name = _text(validate.Length(1, 200, error="Must have 1 to 200 characters."), required=True)
    description = _text()
    campaign_type = _text(
        validate.OneOf(get_args(campaigns.CampaignType), error="Must be one of: {choices}."),
        required=True,
    )
    assistant_id = _integer(1, _BIGINT_MAX, required=True)
    welcome_message_template = _text(_template)
    agenda_template = _text(_template)
    end_call_message_template = _text(_template)
    sms_message_template = _text(_template)
    fallback_values = fields.Dict(
        keys=_text(),
        values=fields.Raw(validate=_sayable),
        error_messages={"invalid": "Must be an object."},
    )
    max_attempts = _integer(1, _INTEGER_MAX)
    retry_delay_minutes = _integer(0, _INTEGER_MAX)

    @pre_load
    def null_is_not_given(self, body: Any, **_: Any) -> Any:
        """Optional fields may be null, as the published response shows them."""
        if not isinstance(body, dict):
            return body
        return {
            name: value
            for name, value in body.items()
            if value is not None or name not in self.fields or self.fields[name].required
        }

    @post_load
    def to_draft(self, values: dict[str, Any], **_: Any) -> campaigns.Draft:
        """Nobody handles raw dictionaries after this."""
        return campaigns.Draft(**values)


_CAMPAIGN = _CampaignSchema()


def load_draft(body: bytes) -> campaigns.Draft:
    """Read the body of a create.

    Raises:
        MalformedBody: it is not JSON.
        InvalidBody: naming all that is wrong with it.
    """
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise MalformedBody(f"The body is not valid JSON: {error}.") from error
    try:
        draft: campaigns.Draft = _CAMPAIGN.load(value)
    except ValidationError as error:
        raise InvalidBody(list(_problems(value, error))) from error
    return draft


def _problems(body: object, error: ValidationError) -> Iterator[Problem]:
    """Flatten marshmallow's messages, which for the entries of an object lie a level deeper."""
    for name, messages in error.messages_dict.items():
        is_field = isinstance(body, dict) and name in body
        pointer = "#" if name == SCHEMA and not is_field else f"#/{_escape(name)}"
        if isinstance(messages, list):
            yield from (Problem(pointer, text) for text in messages)
            continue
        for key, parts in messages.items():
            for texts in parts.values():
                yield from (Problem(f"{pointer}/{_escape(key)}", text) for text in texts)


def _escape(name: str) -> str:
    return name.replace("~", "~0").replace("/", "~1")
