"""What is wrong with a request that could be read: all of it, where it is, and what was meant."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict
from itertools import chain
from typing import Any
from urllib.parse import quote

import orjson
from marshmallow import Schema, ValidationError, fields
from multidict import MultiMapping

from service.bodies import RepeatedNames
from service.suggestions import did_you_mean
from service.tokens import Fault

# Problems of one request that are told, their bytes, and characters of a name that are repeated.
_MOST_PROBLEMS = 100
_LARGEST_LIST = 25_000
_LONGEST_ECHO = 64

# Of ASCII, what a fragment of a URI may hold besides letters and digits (RFC 3986, 3.5).
_FRAGMENT = "!$&'()*+,;=:@/?-._~"

_TWICE = "Is given more than once."

Error = dict[str, object]


class Invalid(Exception):
    """A request is not what is asked for; `errors` says all that is wrong."""

    where: str

    def __init__(self, errors: Iterable[Error]) -> None:
        self.errors: list[Error] = []
        unlisted, size = "", 0
        for error in errors:
            size += len(orjson.dumps(error))
            if len(self.errors) == _MOST_PROBLEMS or size > _LARGEST_LIST:
                unlisted = ", and more"
                break
            self.errors.append(error)
        count = len(self.errors)
        problems = "1 problem" if count == 1 else f"{count} problems"
        super().__init__(f"{problems} in the {self.where}{unlisted}.")


class InvalidBody(Invalid):
    """Each error has a JSON pointer into the body, as the fragment of a URI (RFC 6901, 6)."""

    where = "body"


class InvalidParameters(Invalid):
    """Each error names a parameter of the query."""

    where = "query"


def load(
    schema: Schema,
    given: dict[str, Any],
    kind: type[Invalid],
    errors_of: Callable[[dict[str, Any]], Iterator[Error]],
) -> Any:
    """What a schema makes of a request; `errors_of` tells what its messages mean to the caller.

    Raises:
        Invalid: of this kind, naming all that is wrong.
    """
    loaded, found = None, {}
    try:
        loaded = schema.load(given)
    except ValidationError as error:
        found = error.messages_dict
    errors = errors_of(found)
    if first := next(errors, None):
        raise kind(chain([first], errors))
    return loaded


def body_errors(
    schema: Schema, body: dict[str, Any], found: dict[str, Any], pointer: str = "#"
) -> Iterator[Error]:
    """Go through the fields in the order of the body, then through those that are missing.

    `found` are the messages of its schema, and not empty if anything is wrong; those for the
    entries of an object lie a level deeper.
    """
    if not found:
        return
    missing = (name for name in schema.fields if name not in body)
    repeated = _repeated(body)
    for name in (*body, *missing):
        field, value, messages = schema.fields.get(name), body.get(name), found.get(name, [])
        place = f"{pointer}/{_escaped(name)}"
        if name in repeated:
            yield _error(place, _TWICE)
        if name not in schema.fields:
            yield _error(place, _unknown(schema, name))
        yield from _field_errors(field, place, value, messages)


def _unknown(schema: Schema, name: str) -> str:
    if name in getattr(schema, "read_only", ()):
        return "Is set by the service: leave it out."
    return f"Is not a known field.{did_you_mean(name, schema.fields)}"


def _field_errors(
    field: fields.Field[Any] | None, pointer: str, value: Any, messages: Any
) -> Iterator[Error]:
    if isinstance(messages, list):
        yield from (_error(pointer, message) for message in messages)
        messages = {}
    if not isinstance(field, fields.Nested):
        yield from _entry_errors(pointer, value, messages)
    elif isinstance(value, dict):
        yield from body_errors(field.schema, value, messages, pointer)
    elif value is not None:
        yield _error(pointer, "Must be an object.")


def _entry_errors(pointer: str, value: Any, messages: dict[str, Any]) -> Iterator[Error]:
    repeated = _repeated(value)
    wrong = repeated | messages.keys()
    for key in value if wrong else ():
        if key in wrong:
            inner = f"{pointer}/{_escaped(key)}"
            if key in repeated:
                yield _error(inner, _TWICE)
            of_entry = messages.get(key, {})
            for message in (*of_entry.get("key", ()), *of_entry.get("value", ())):
                yield _error(inner, message)


def _repeated(value: Any) -> frozenset[str]:
    return value.repeated if isinstance(value, RepeatedNames) else frozenset()


def _error(pointer: str, message: object) -> Error:
    if not isinstance(message, Fault):
        return {"pointer": pointer, "detail": message}
    fault = {name: value for name, value in asdict(message).items() if value != ()}
    return {"pointer": pointer} | fault


def parameter_errors(
    schema: Schema, query: MultiMapping[str], found: dict[str, list[str]]
) -> Iterator[Error]:
    """Go through the parameters in the order of the query; `found` are those of marshmallow."""
    for name in dict.fromkeys(query):
        if name not in schema.fields:
            hint = did_you_mean(name, schema.fields)
            messages = [f"Is not a parameter of this call.{hint}"]
        elif len(query.getall(name)) > 1:
            messages = [_TWICE]
        else:
            messages = found.get(name, [])
        for message in messages:
            yield {"parameter": _short(name), "detail": message}


def _escaped(name: str) -> str:
    return quote(_short(name).replace("~", "~0").replace("/", "~1"), safe=_FRAGMENT)


def _short(name: str) -> str:
    """A name that the caller chose, without what JSON cannot carry."""
    short = name if len(name) <= _LONGEST_ECHO else name[:_LONGEST_ECHO] + "…"
    return short.encode(errors="replace").decode()
