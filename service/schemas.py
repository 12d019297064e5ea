"""Shapes of requests: what is accepted, and every problem of what is not."""

from collections.abc import Callable
from functools import cached_property, partial
from typing import Any, get_args

from marshmallow import Schema, ValidationError, validate
from marshmallow.exceptions import SCHEMA
from marshmallow.fields import Nested

from service import drafts, previews
from service.bodies import RepeatedNames
from service.fields import (
    LARGEST_ID,
    LONGEST_DELAY,
    LONGEST_DESCRIPTION,
    MESSAGES,
    MOST_ATTEMPTS,
    Elsewhere,
    Integer,
    Text,
    Values,
    storable,
    template,
    visible,
)
from service.invalid import InvalidBody, body_errors, load
from service.patches import Patch


class _BodySchema(Schema):
    """What all bodies have in common: null is not given, and a `shape` comes of them."""

    shape: Callable[..., Any]

    def load(self, data: Any, **_: Any) -> dict[str, Any]:
        """Go through the fields; the library's own way, which can do more, takes thrice as long.

        No field here has a default of its own, or another name or attribute. Optional fields may be
        null, as the published response shows them.

        Raises:
            ValidationError: by fields, also if only `body_errors` has words for what is wrong.
        """
        if not isinstance(data, dict):
            raise ValidationError({SCHEMA: []})
        values: dict[str, Any] = {}
        errors: dict[str, Any] = {}
        for name, value in data.items():
            field = self.load_fields.get(name)
            if field is None:
                errors[SCHEMA] = []
            elif value is not None:
                try:
                    values[name] = field.deserialize(value)
                except ValidationError as error:
                    errors[name] = error.messages
        for name in self._required:
            if name not in values and (name in data or not self.partial):
                reason = "null" if name in data else "required"
                errors.setdefault(name, self.load_fields[name].make_error(reason).messages)
        self.note_contradictions(data, errors)
        if errors or isinstance(data, RepeatedNames):
            raise ValidationError(errors or {SCHEMA: []})
        return values

    @cached_property
    def _required(self) -> list[str]:
        return [name for name, field in self.load_fields.items() if field.required]

    def note_contradictions(self, body: dict[str, Any], errors: dict[str, Any]) -> None:
        """Add to the errors what cannot be meant at once."""

    def shaped(self, values: dict[str, Any]) -> Any:
        """Nobody handles raw dictionaries after this."""
        return self.shape(**values)


def _differ(one: object, other: object) -> bool:
    """Tell values apart; none that is right is deep, and comparing may go too deep."""
    return isinstance(one, (dict, list)) or isinstance(other, (dict, list)) or one != other


_PACE = "Must be {0} or left out: how fast calls are made is decided where campaigns are started."
_VOICEMAIL = "Must be {0} or left out: what is left on a voicemail is decided by the assistant."


class _SettingsSchema(_BodySchema):
    """`settings` of the official SDK, with its names and defaults."""

    max_concurrent_calls = Elsewhere(5, _PACE.format(5))
    calls_per_minute = Elsewhere(10, _PACE.format(10))
    max_attempts = Integer(1, MOST_ATTEMPTS)
    retry_delay_minutes = Integer(0, LONGEST_DELAY)
    leave_voicemail = Elsewhere(False, _VOICEMAIL.format("false"))
    voicemail_message = Elsewhere(None, _VOICEMAIL.format("null"))
    welcome_template = Text(template)
    agenda_template = Text(template)


class _CampaignSchema(_BodySchema):
    """`POST /api/v1/campaigns`, in the published order of its fields, then what the SDK adds."""

    shape: Callable[..., Any] = drafts.Draft
    read_only = drafts.READ_ONLY

    name = Text(visible, storable, trimmed=True, required=True)
    description = Text(
        validate.Length(max=LONGEST_DESCRIPTION, error="Must have at most {max} characters."),
        storable,
    )
    campaign_type = Text(
        validate.OneOf(get_args(drafts.CampaignType), error="Must be one of: {choices}."),
        required=True,
    )
    assistant_id = Integer(1, LARGEST_ID, required=True)
    welcome_message_template = Text(template)
    agenda_template = Text(template)
    end_call_message_template = Text(template)
    sms_message_template = Text(template)
    fallback_values = Values(may_be_null=False)
    max_attempts = Integer(1, MOST_ATTEMPTS)
    retry_delay_minutes = Integer(0, LONGEST_DELAY)
    settings = Nested(_SettingsSchema)
    contacts = Elsewhere(
        [],
        "Must be empty or left out: contacts are imported once the campaign is there, "
        "with POST /api/v1/campaigns/{id}/import-data.",
    )
    schedule = Elsewhere(
        None,
        "Must be left out: a schedule is saved once the campaign is there, "
        "with POST /api/v1/campaigns/{id}/schedule.",
    )
    phone_number_id = Elsewhere(
        None, "Must be left out: the number to call from is assigned to the assistant."
    )

    def note_contradictions(self, body: dict[str, Any], errors: dict[str, Any]) -> None:
        """Nobody knows which is meant of two that the SDK calls otherwise."""
        settings = body.get("settings")
        if not isinstance(settings, dict):
            return
        for theirs, ours in drafts.SDK_SETTINGS.items():
            if theirs in settings and ours in body and _differ(settings[theirs], body[ours]):
                found = errors.setdefault("settings", {})
                found[theirs] = [
                    *found.get(theirs, []),
                    f"Is given as '{ours}', too, and otherwise.",
                ]

    def shaped(self, values: dict[str, Any]) -> Any:
        """What the SDK calls otherwise gets its own name."""
        settings = values.get("settings", {})
        named = {drafts.SDK_SETTINGS.get(name, name): value for name, value in settings.items()}
        said = named | values
        for name in said.keys() - drafts.FIELDS:
            del said[name]
        return self.shape(**said)


class _PatchSchema(_CampaignSchema):
    """`PUT` and `PATCH`, and what a duplicate has of its own: any part of a campaign."""

    shape = dict

    # Null would speak of all of them at once.
    settings = Nested(_SettingsSchema, required=True, error_messages=MESSAGES)


class _EntriesPatchSchema(_PatchSchema):
    """Of the fallback values, too."""

    fallback_values = Values(may_be_null=True)


class _NothingSchema(_BodySchema):
    """`DELETE`, which some clients send an empty object with."""

    shape = dict


class _PreviewSchema(_BodySchema):
    """`POST /api/v1/campaigns/template-preview`."""

    shape = previews.Sample

    template = Text(template, required=True)
    variables = Values(may_be_null=True)
    fallback_values = Values(may_be_null=False)


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


def _load(schema: _BodySchema, body: object) -> Any:
    if not isinstance(body, dict):
        raise InvalidBody([{"pointer": "#", "detail": "Must be an object."}])
    return schema.shaped(load(schema, body, InvalidBody, partial(body_errors, schema, body)))
