"""Fields: the kinds that bodies have, their limits, and what is said of what is none."""

import re
import unicodedata
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

from marshmallow import ValidationError, fields

from service import phrases, templates, tokens
from service.bodies import RepeatedNames

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

_Value = TypeVar("_Value")


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


class _Field(fields.Field[_Value]):
    """A field that only has to be read: what those of the library do besides takes thrice as long.

    Whether it may be left out or be null is up to the schema; `refusal` is said of what is not of
    its kind.
    """

    def __init__(self, refusal: str, *, required: bool = False) -> None:
        super().__init__(required=required, error_messages=MESSAGES)
        self._refusal = refusal

    def deserialize(self, value: Any, *_: Any, **__: Any) -> _Value:
        """Raises: marshmallow.ValidationError."""
        raise NotImplementedError


class Text(_Field[str]):
    """A string that passes all checks, without blanks at its ends if it is to be trimmed."""

    def __init__(
        self, *checks: Callable[[str], Any], trimmed: bool = False, required: bool = False
    ) -> None:
        super().__init__("Must be a string.", required=required)
        self._checks = checks
        self._trimmed = trimmed

    def deserialize(self, value: Any, *_: Any, **__: Any) -> str:
        if not isinstance(value, str):
            raise ValidationError(self._refusal)
        text = value.strip() if self._trimmed else value
        try:
            for check in self._checks:
                check(text)
        except ValidationError as error:
            raise ValidationError(_refusals(self._checks, text)) from error
        return text


class Integer(_Field[int]):
    """An integer of JSON in these bounds: no text, no truth value, no fraction however whole."""

    def __init__(self, minimum: int, maximum: int, *, required: bool = False) -> None:
        super().__init__(f"Must be an integer from {minimum} to {maximum}.", required=required)
        self._bounds = minimum, maximum

    def deserialize(self, value: Any, *_: Any, **__: Any) -> int:
        minimum, maximum = self._bounds
        if type(value) is not int or not minimum <= value <= maximum:
            raise ValidationError(self._refusal)
        return value


class Values(_Field[dict[str, Any]]):
    """Values of variables, by name; null is one that is missing, where there may be any."""

    def __init__(self, *, may_be_null: bool) -> None:
        super().__init__("Must be an object.")
        self._may_be_null = may_be_null

    def deserialize(self, value: Any, *_: Any, **__: Any) -> dict[str, Any]:
        if not isinstance(value, dict):
            raise ValidationError(self._refusal)
        if len(value) > MOST_VALUES:
            raise ValidationError(f"Must have at most {MOST_VALUES} entries.")
        errors = {}
        for name, said in value.items():
            try:
                _variable(name)
                self._check(said)
            except ValidationError:
                errors[name] = {
                    "key": _refusals([_variable], name),
                    "value": _refusals([self._check], said),
                }
        if errors or isinstance(value, RepeatedNames):
            raise ValidationError(errors)
        return value

    def _check(self, value: object) -> None:
        if value is not None:
            _sayable(value)
        elif not self._may_be_null:
            raise ValidationError(MESSAGES["null"])


class Elsewhere(_Field[Any]):
    """What the official SDK sends and another service decides: only as it is, or not at all."""

    def __init__(self, allowed: object, reason: str) -> None:
        super().__init__(reason)
        self._allowed = allowed

    def deserialize(self, value: Any, *_: Any, **__: Any) -> Any:
        if type(value) is not type(self._allowed) or value != self._allowed:
            raise ValidationError(self._refusal)
        return value


def _refusals(checks: Iterable[Callable[[Any], Any]], value: object) -> list[Any]:
    errors: list[Any] = []
    for check in checks:
        try:
            check(value)
        except ValidationError as error:
            errors += error.messages
    return errors
