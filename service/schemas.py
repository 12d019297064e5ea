"""Shapes of requests: what is accepted, and every problem of what is not."""

import re
import unicodedata
from collections.abc import Callable
from itertools import chain
from typing import Any, get_args

from marshmallow import EXCLUDE, Schema, ValidationError, fields, post_load, pre_load, validate
from multidict import MultiMapping

from service import drafts, phrases, previews, templates, tokens
from service.invalid import InvalidBody, InvalidParameters, body_errors, parameter_errors

# Characters, entries, attempts and minutes. A limit that came later would break callers, so each
# field has had one from the first version on; `docs/requests.md` lists them.
LONGEST_NAME = 200
LONGEST_DESCRIPTION = 2_000
MOST_VALUES = 100
MOST_ATTEMPTS = 100
LONGEST_DELAY = 30 * 24 * 60
_LARGEST_ID = 2**63 - 1

_MESSAGES: dict[str, Any] = {"required": "Is required.", "null": "Must not be null."}
_UNSTORABLE = re.compile("[\0\ud800-\udfff]")


def _storable(text: str) -> None:
    """Refuse what PostgreSQL or JSON cannot carry: NUL, and halves of surrogate pairs."""
    if match := _UNSTORABLE.search(text):
        raise ValidationError(
            f"Must not contain U+{ord(match[0]):04X}, which is not allowed in text."
        )


def _visible(text: str) -> None:
    """Refuse a name of which nothing would be seen; format characters have no width either."""
    if len(text) > LONGEST_NAME or all(unicodedata.category(c)[0] in "ZC" for c in text):
        raise ValidationError(f"Must have 1 to {LONGEST_NAME} characters, not all of them blank.")


def _template(source: str) -> None:
    try:
        templates.parse(source)
    except templates.TemplateError as error:
        raise ValidationError(list(error.faults)) from error


def _variable(name: str) -> None:
    if not phrases.is_name(name):
        raise ValidationError(
            "Must be named like a variable: letters, digits and underscores, not starting with a "
            f"digit, at most {tokens.LONGEST_NAME}, and not a word of the template language."
        )


def _sayable(value: object) -> None:
    if reason := templates.refusal(value):
        raise ValidationError(reason)
    if isinstance(value, str):
        _storable(value)


def _not_too_many(value: Any) -> Any:
    if isinstance(value, dict) and len(value) > MOST_VALUES:
        raise ValidationError(f"Must have at most {MOST_VALUES} entries.")
    return value


def _trimmed(value: Any) -> Any:
    return value.strip() if isinstance(value, str) else value


def _text(*checks: Callable[[str], Any], **options: Any) -> fields.String:
    messages = _MESSAGES | {"invalid": "Must be a string."}
    return fields.String(validate=checks, error_messages=messages, **options)


def _integer(minimum: int, maximum: int, *, required: bool = False) -> fields.Integer:
    wanted = f"Must be an integer from {minimum} to {maximum}."
    return fields.Integer(
        strict=True,
        required=required,
        validate=validate.Range(minimum, maximum, error=wanted),
        error_messages=_MESSAGES | {"invalid": wanted, "too_large": wanted},
    )


def _values(*, allow_none: bool) -> fields.Dict:
    """Values of variables, by name; None is one that is missing."""
    return fields.Dict(
        keys=_text(_variable),
        values=fields.Raw(validate=_sayable, allow_none=allow_none, error_messages=_MESSAGES),
        pre_load=_not_too_many,
        error_messages=_MESSAGES | {"invalid": "Must be an object."},
    )


class _BodySchema(Schema):
    """What all bodies have in common: null is not given, and a `shape` comes of them."""

    shape: type

    class Meta:
        # `body_errors` names unknown fields, with what may have been meant.
        unknown = EXCLUDE

    @pre_load
    def null_is_not_given(self, body: dict[str, Any], **_: Any) -> dict[str, Any]:
        """Optional fields may be null, as the published response shows them."""
        return {
            name: value
            for name, value in body.items()
            if value is not None or name not in self.fields or self.fields[name].required
        }

    @post_load
    def to_shape(self, values: dict[str, Any], **_: Any) -> Any:
        """Nobody handles raw dictionaries after this."""
        return self.shape(**values)


class _CampaignSchema(_BodySchema):
    """`POST /api/v1/campaigns`, in the published order of its fields."""

    shape = drafts.Draft

    name = _text(_visible, _storable, pre_load=_trimmed, required=True)
    description = _text(
        validate.Length(max=LONGEST_DESCRIPTION, error="Must have at most {max} characters."),
        _storable,
    )
    campaign_type = _text(
        validate.OneOf(get_args(drafts.CampaignType), error="Must be one of: {choices}."),
        required=True,
    )
    assistant_id = _integer(1, _LARGEST_ID, required=True)
    welcome_message_template = _text(_template)
    agenda_template = _text(_template)
    end_call_message_template = _text(_template)
    sms_message_template = _text(_template)
    fallback_values = _values(allow_none=False)
    max_attempts = _integer(1, MOST_ATTEMPTS)
    retry_delay_minutes = _integer(0, LONGEST_DELAY)


class _PreviewSchema(_BodySchema):
    """`POST /api/v1/campaigns/template-preview`."""

    shape = previews.Sample

    template = _text(_template, required=True)
    variables = _values(allow_none=True)
    fallback_values = _values(allow_none=False)


_CAMPAIGN = _CampaignSchema()
_PREVIEW = _PreviewSchema()


def load_draft(body: object) -> drafts.Draft:
    """Read the body of a create.

    Raises:
        InvalidBody: naming all that is wrong with it.
    """
    draft: drafts.Draft = _load(_CAMPAIGN, body)
    return draft


def load_sample(body: object) -> previews.Sample:
    """Read the body of a preview.

    Raises:
        InvalidBody: naming all that is wrong with it.
    """
    sample: previews.Sample = _load(_PREVIEW, body)
    return sample


def load_validate_only(query: MultiMapping[str]) -> bool:
    """Read the query of a create; one that is mistyped must not store what was to be checked only.

    Raises:
        InvalidParameters: naming all that is wrong with it.
    """
    errors = list(parameter_errors(query, {"validate_only": ("true", "false")}))
    if errors:
        raise InvalidParameters(errors)
    return query.get("validate_only") == "true"


def _load(schema: Schema, body: object) -> Any:
    if not isinstance(body, dict):
        raise InvalidBody([{"pointer": "#", "detail": "Must be an object."}])
    loaded, found = None, {}
    try:
        loaded = schema.load(body)
    except ValidationError as error:
        found = error.messages_dict
    errors = body_errors(schema, body, found)
    if first := next(errors, None):
        raise InvalidBody(chain([first], errors))
    return loaded
