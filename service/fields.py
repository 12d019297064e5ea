"""Fields: the kinds that bodies have, their limits, and what is said of what is none."""

import re
import unicodedata
from collections.abc import Callable
from typing import Any

from marshmallow import ValidationError, fields, validate

from service import phrases, templates, tokens

# Characters, entries, attempts and minutes. A limit that came later would break callers, so each
# field has had one from the first version on; `docs/requests.md` lists them.
LONGEST_NAME = 200
LONGEST_DESCRIPTION = 2_000
MOST_VALUES = 100
MOST_ATTEMPTS = 100
LONGEST_DELAY = 30 * 24 * 60
LARGEST_ID = 2**63 - 1

MESSAGES: dict[str, Any] = {"required": "Is required.", "null": "Must not be null."}
_UNSTORABLE = re.compile("[\0\ud800-\udfff]")


def storable(text: str) -> None:
    """Refuse what PostgreSQL or JSON cannot carry: NUL, and halves of surrogate pairs."""
    if match := _UNSTORABLE.search(text):
        raise ValidationError(
            f"Must not contain U+{ord(match[0]):04X}, which is not allowed in text."
        )


def visible(text: str) -> None:
    """Refuse a name of which nothing would be seen; format characters have no width either."""
    if len(text) > LONGEST_NAME or all(unicodedata.category(c)[0] in "ZC" for c in text):
        raise ValidationError(f"Must have 1 to {LONGEST_NAME} characters, not all of them blank.")


def template(source: str) -> None:
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
        storable(value)


def _not_too_many(value: Any) -> Any:
    if isinstance(value, dict) and len(value) > MOST_VALUES:
        raise ValidationError(f"Must have at most {MOST_VALUES} entries.")
    return value


def trimmed(value: Any) -> Any:
    return value.strip() if isinstance(value, str) else value


def text(*checks: Callable[[str], Any], **options: Any) -> fields.String:
    messages = MESSAGES | {"invalid": "Must be a string."}
    return fields.String(validate=checks, error_messages=messages, **options)


def integer(minimum: int, maximum: int, *, required: bool = False) -> fields.Integer:
    wanted = f"Must be an integer from {minimum} to {maximum}."
    return fields.Integer(
        strict=True,
        required=required,
        validate=validate.Range(minimum, maximum, error=wanted),
        error_messages=MESSAGES | {"invalid": wanted, "too_large": wanted},
    )


def values(*, allow_none: bool) -> fields.Dict:
    """Values of variables, by name; None is one that is missing."""
    return fields.Dict(
        keys=text(_variable),
        values=fields.Raw(validate=_sayable, allow_none=allow_none, error_messages=MESSAGES),
        pre_load=_not_too_many,
        error_messages=MESSAGES | {"invalid": "Must be an object."},
    )


def elsewhere(allowed: object, reason: str) -> fields.Raw:
    """What the official SDK sends and another service decides: only as it is, or not at all."""

    def check(value: object) -> None:
        if type(value) is not type(allowed) or value != allowed:
            raise ValidationError(reason)

    return fields.Raw(validate=check)
