"""Shapes of requests: what is accepted, and every problem of what is not."""

import re
import unicodedata
from collections.abc import Callable
from itertools import chain
from typing import Any, get_args

from marshmallow import (
    EXCLUDE,
    Schema,
    ValidationError,
    fields,
    post_load,
    pre_load,
    validate,
    validates_schema,
)

from service import drafts, phrases, previews, templates, tokens
from service.invalid import InvalidBody, body_errors
from service.patches import Patch

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

    shape: Callable[..., Any]

    class Meta:
        # `body_errors` names unknown fields, with what may have been meant.
        unknown = EXCLUDE

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
    def to_shape(self, values: dict[str, Any], **_: Any) -> Any:
        """Nobody handles raw dictionaries after this."""
        return self.shape(**values)


def _differ(one: object, other: object) -> bool:
    """Tell values apart; none that is right is deep, and comparing may go too deep."""
    return isinstance(one, (dict, list)) or isinstance(other, (dict, list)) or one != other


def _elsewhere(allowed: object, reason: str) -> fields.Raw:
    """What the official SDK sends and another service decides: only as it is, or not at all."""

    def check(value: object) -> None:
        if type(value) is not type(allowed) or value != allowed:
            raise ValidationError(reason)

    return fields.Raw(validate=check)


_PACE = "Must be {0} or left out: how fast calls are made is decided where campaigns are started."
_VOICEMAIL = "Must be {0} or left out: what is left on a voicemail is decided by the assistant."


class _SettingsSchema(_BodySchema):
    """`settings` of the official SDK, with its names and defaults."""

    shape = dict

    max_concurrent_calls = _elsewhere(5, _PACE.format(5))
    calls_per_minute = _elsewhere(10, _PACE.format(10))
    max_attempts = _integer(1, MOST_ATTEMPTS)
    retry_delay_minutes = _integer(0, LONGEST_DELAY)
    leave_voicemail = _elsewhere(False, _VOICEMAIL.format("false"))
    voicemail_message = _elsewhere(None, _VOICEMAIL.format("null"))
    welcome_template = _text(_template)
    agenda_template = _text(_template)


class _CampaignSchema(_BodySchema):
    """`POST /api/v1/campaigns`, in the published order of its fields, then what the SDK adds."""

    shape: Callable[..., Any] = drafts.Draft
    read_only = drafts.READ_ONLY

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
    settings = fields.Nested(_SettingsSchema)
    contacts = _elsewhere(
        [],
        "Must be empty or left out: contacts are imported once the campaign is there, "
        "with POST /api/v1/campaigns/{id}/import-data.",
    )
    schedule = _elsewhere(
        None,
        "Must be left out: a schedule is saved once the campaign is there, "
        "with POST /api/v1/campaigns/{id}/schedule.",
    )
    phone_number_id = _elsewhere(
        None, "Must be left out: the number to call from is assigned to the assistant."
    )

    @validates_schema(pass_original=True, skip_on_field_errors=False)
    def settings_agree(self, _values: Any, body: dict[str, Any], **_: Any) -> None:
        """Nobody knows which of two is meant."""
        settings = body.get("settings")
        if not isinstance(settings, dict):
            return
        twice = {
            theirs: [f"Is given as '{ours}', too, and otherwise."]
            for theirs, ours in drafts.SDK_SETTINGS.items()
            if theirs in settings and ours in body and _differ(settings[theirs], body[ours])
        }
        if twice:
            raise ValidationError({"settings": twice})

    @post_load
    def to_shape(self, values: dict[str, Any], **_: Any) -> Any:
        """What the SDK calls otherwise gets its own name."""
        settings = values.get("settings", {})
        named = {drafts.SDK_SETTINGS.get(name): value for name, value in settings.items()}
        said = named | values
        return self.shape(**{name: said[name] for name in drafts.FIELDS if name in said})


class _PatchSchema(_CampaignSchema):
    """`PUT` and `PATCH`, and what a duplicate has of its own: any part of a campaign."""

    shape = dict

    # Null would speak of all of them at once.
    settings = fields.Nested(_SettingsSchema, required=True, error_messages=_MESSAGES)


class _EntriesPatchSchema(_PatchSchema):
    """Of the fallback values, too."""

    fallback_values = _values(allow_none=True)


class _NothingSchema(_BodySchema):
    """`DELETE`, which some clients send an empty object with."""

    shape = dict


class _PreviewSchema(_BodySchema):
    """`POST /api/v1/campaigns/template-preview`."""

    shape = previews.Sample

    template = _text(_template, required=True)
    variables = _values(allow_none=True)
    fallback_values = _values(allow_none=False)


_CAMPAIGN = _CampaignSchema()
_REPLACEMENT = _PatchSchema(partial=True)
_MERGE_PATCH = _EntriesPatchSchema(partial=True)
_NOTHING = _NothingSchema()
_PREVIEW = _PreviewSchema()


def load_draft(body: object) -> drafts.Draft:
    """Read the body of a create.

    Raises:
        InvalidBody: naming all that is wrong with it.
    """
    draft: drafts.Draft = _load(_CAMPAIGN, body)
    return draft


def load_replacement(body: object) -> Patch:
    """Read new values, of which each takes the place of all that was there.

    Raises:
        InvalidBody: naming all that is wrong with it.
    """
    return _patch(body, _load(_REPLACEMENT, body), by_entry=False)


def load_merge_patch(body: object) -> Patch:
    """Read a JSON merge patch (RFC 7396).

    Raises:
        InvalidBody: naming all that is wrong with it.
    """
    return _patch(body, _load(_MERGE_PATCH, body), by_entry=True)


def _patch(body: Any, loaded: dict[str, Any], *, by_entry: bool) -> Patch:
    """Tell what is cleared by its own name from what the SDK sends whether it is meant or not."""
    cleared = {name: None for name in drafts.FIELDS if name in body}
    unclear = {
        ours: f"#/settings/{theirs}"
        for theirs, ours in drafts.SDK_SETTINGS.items()
        if theirs in body.get("settings", {}) and ours not in loaded
    }
    return Patch(cleared | loaded, unclear, by_entry=by_entry)


def load_nothing(body: object) -> None:
    """Refuse what would not be heeded.

    Raises:
        InvalidBody: naming all of it.
    """
    _load(_NOTHING, body)


def load_sample(body: object) -> previews.Sample:
    """Read the body of a preview.

    Raises:
        InvalidBody: naming all that is wrong with it.
    """
    sample: previews.Sample = _load(_PREVIEW, body)
    return sample


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
