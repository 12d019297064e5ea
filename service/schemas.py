"""Shapes of request bodies: what is accepted, and every problem of what is not."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, get_args

import orjson
from marshmallow import RAISE, Schema, ValidationError, fields, post_load, pre_load, validate

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


class _Text(fields.String):
    """A string that PostgreSQL can store."""

    default_error_messages = {  # noqa: RUF012: marshmallow's own class attribute
        "invalid": "Must be a string.",
        "nul": "Must not contain the character NUL (U+0000).",
    }

    def _deserialize(self, value: Any, *args: Any, **kwargs: Any) -> str | None:
        text: str | None = super()._deserialize(value, *args, **kwargs)
        if text is not None and "\0" in text:
            raise self.make_error("nul")
        return text


class _Template(_Text):
    """The source of a message template."""

    def _deserialize(self, value: Any, *args: Any, **kwargs: Any) -> str | None:
        source = super()._deserialize(value, *args, **kwargs)
        if source is not None:
            try:
                templates.parse(source)
            except templates.TemplateError as error:
                raise ValidationError(f"Not a message template: {error}.") from error
        return source


class _Scalar(fields.Field[Any]):
    """A value that a template can say: a string, a number or a boolean."""

    def _deserialize(self, value: Any, *args: Any, **kwargs: Any) -> str | int | float | bool:
        if isinstance(value, str):
            return _Text().deserialize(value)
        if isinstance(value, int | float):
            return value
        raise ValidationError("Must be a string, a number or a boolean.")


def _integer(minimum: int, maximum: int, **options: Any) -> fields.Integer:
    wanted = f"Must be an integer from {minimum} to {maximum}."
    return fields.Integer(
        strict=True,
        validate=validate.Range(minimum, maximum, error=wanted),
        error_messages={"invalid": wanted, "too_large": wanted},
        **options,
    )


class _CampaignSchema(Schema):
    """`POST /api/v1/campaigns`, in the published order of its fields."""

    class Meta:
        unknown = RAISE

    error_messages = {  # noqa: RUF012: marshmallow's own class attribute
        "unknown": "Is not a field of a campaign.",
        "type": "Must be an object.",
    }

    name = _Text(
        required=True, validate=validate.Length(1, 200, error="Must have 1 to 200 characters.")
    )
    description = _Text()
    campaign_type = _Text(
        required=True,
        validate=validate.OneOf(
            get_args(campaigns.CampaignType), error="Must be one of: {choices}."
        ),
    )
    assistant_id = _integer(1, _BIGINT_MAX, required=True)
    welcome_message_template = _Template()
    agenda_template = _Template()
    end_call_message_template = _Template()
    sms_message_template = _Template()
    fallback_values = fields.Dict(
        keys=_Text(), values=_Scalar(), error_messages={"invalid": "Must be an object."}
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
        raise InvalidBody(list(_problems(error.messages, "#"))) from error
    return draft


def _problems(messages: Any, pointer: str) -> Iterator[Problem]:
    """Flatten marshmallow's messages: lists of texts under the names of fields, keys and values."""
    if isinstance(messages, list):
        for text in messages:
            yield Problem(pointer, text)
        return
    for name, inner in messages.items():
        # What is wrong with the whole body, or with one entry of an object, is not a level of it.
        level = name in ("_schema", "key", "value")
        escaped = str(name).replace("~", "~0").replace("/", "~1")
        yield from _problems(inner, pointer if level else f"{pointer}/{escaped}")
