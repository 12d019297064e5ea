"""Filters of message templates: each takes any value of a contact and answers text."""

import re
from collections.abc import Callable
from decimal import Decimal

Value = str | int | float | bool

# Names begin anew behind white space, a hyphen or an apostrophe: O'Brien, Jean-Luc ...
_BREAK = re.compile(r"([\s\-\u2010\u2011'\u2019]+)")
# ... but not behind an apostrophe that follows two letters: Anna's, don't.
_NO_BREAK = re.compile(r"(?<=[^\W\d_][^\W\d_])['\u2019]\w+")

# Ten digits that do not begin like an operator call, with or without the country code +1.
_NORTH_AMERICAN = re.compile(r"(?:\+?1)?([2-9][0-9]{2})([0-9]{3})([0-9]{4})")
_PHONE_PUNCTUATION = re.compile(r"[\s().\-]")


def text(value: Value) -> str:
    """A value as it is spoken or texted: booleans as JSON spells them, numbers without exponent."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return f"{Decimal(repr(value)):f}" if isinstance(value, float) else str(value)


def lower(value: Value) -> str:
    return text(value).lower()


def upper(value: Value) -> str:
    return text(value).upper()


def title_case(value: Value) -> str:
    """Begin each part of a name with a capital, and write the rest small."""
    capitalized = "".join(map(str.capitalize, _BREAK.split(text(value))))
    return _NO_BREAK.sub(lambda match: match[0].lower(), capitalized)


def phone_format(value: Value) -> str:
    """Write a North American number as (555) 123-4567; any other stays as it is."""
    number = text(value)
    if isinstance(value, float):
        return number
    match = _NORTH_AMERICAN.fullmatch(_PHONE_PUNCTUATION.sub("", number))
    return "({}) {}-{}".format(*match.groups()) if match else number


# `default` is not here: it is about what is missing, so it is an expression of its own.
TEXT_FILTERS: dict[str, Callable[[Value], str]] = {
    "lower": lower,
    "phone_format": phone_format,
    "title_case": title_case,
    "upper": upper,
}
