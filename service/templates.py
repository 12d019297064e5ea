"""Message templates: what one says to a contact, and which variables an import must bring.

Services that send the messages call the same code: `parse(source).render(contact, fallbacks)`.
The language is described in `docs/templates.md`.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import lru_cache

from service import grammar
from service.expressions import Sequence, SystemValue, Uses
from service.filters import Value
from service.tokens import CONTROL_CHARACTERS, LONGEST_SOURCE, MOST_TAGS, Fault

# What a variable is worth when all else is missing, as the published documentation lists it.
SYSTEM_VALUES = {"assistant_name": "your assistant", "company": "our company", "name": "there"}

_SYSTEM_VALUES = {name: SystemValue(value) for name, value in SYSTEM_VALUES.items()}

# Characters of one value, and the largest number that every JSON reader takes for what it is.
LONGEST_VALUE = 1_000
LARGEST_NUMBER = 2**53 - 1

# Characters of one rendering, a bound by the limits above: `ΐ` in capitals is three characters.
LONGEST_RENDERING = 3 * (LONGEST_SOURCE + LONGEST_VALUE * MOST_TAGS)


class TemplateError(Exception):
    """A text is no message template; `faults` says where and why."""

    def __init__(self, faults: list[Fault]) -> None:
        super().__init__("; ".join(f"line {f.line}, column {f.column}: {f.detail}" for f in faults))
        self.faults = faults


class ValueRefused(Exception):
    """A contact's value can be no part of a message; the text names the variable and the reason."""


@dataclass(frozen=True, slots=True)
class Variables:
    """Names in templates: `required` ones must come with each contact, `optional` ones may."""

    required: tuple[str, ...]
    optional: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Template:
    """A template that can be rendered; `bare` names are used at least once without a stand-in."""

    body: Sequence
    names: frozenset[str]
    bare: frozenset[str]

    def render(self, contact: Mapping[str, Value | None], fallbacks: Mapping[str, Value]) -> str:
        """Say it to a contact, whose blank values are as good as missing.

        A value comes from the contact, else from `fallbacks`, else from an inline `default()`, else
        from the system; a variable with none of these is the empty text. The answer has no control
        characters but line feed and tab, and at most `LONGEST_RENDERING` characters.

        Raises:
            ValueRefused: a value is too long, or of no type that can be said.
        """
        values = {name: fallbacks[name] for name in self.names if name in fallbacks}
        values |= self.given_by(contact)
        for name, value in values.items():
            if reason := refusal(value):
                raise ValueRefused(f"The value of '{name}': {reason}")
        said = self.body.value(_SYSTEM_VALUES | values)
        return CONTROL_CHARACTERS.sub("", said.replace("\r\n", "\n").replace("\r", "\n"))

    def given_by(self, contact: Mapping[str, Value | None]) -> dict[str, Value]:
        """Take from a contact what the template uses; an empty column of a CSV file is no value."""
        given = ((name, contact.get(name)) for name in self.names)
        return {
            name: value
            for name, value in given
            if value is not None and not (isinstance(value, str) and _is_blank(value))
        }


def _is_blank(value: str) -> bool:
    """Whether nothing of it would be said, not even its control characters."""
    return not CONTROL_CHARACTERS.sub("", value).strip()


def refusal(value: object) -> str | None:
    """Say why this can be no part of a message, if it cannot."""
    if isinstance(value, str):
        too_long = len(value) > LONGEST_VALUE
        return f"Must have at most {LONGEST_VALUE} characters." if too_long else None
    if not isinstance(value, int | float):
        return "Must be a string, a number or a boolean."
    if not abs(value) <= LARGEST_NUMBER:
        limits = f"from {-LARGEST_NUMBER} to {LARGEST_NUMBER}"
        return f"Must be a number {limits}; send a longer one as a string."
    return None


# Each may take 600 KB at the worst, so that strangers can fill 40 MB with them.
@lru_cache(maxsize=64)
def parse(source: str) -> Template:
    """Read a template; callers send the same few again and again, so the newest are remembered.

    Raises:
        TemplateError: it is not in the language of message templates.
    """
    body, faults = grammar.read(source)
    if faults:
        raise TemplateError(faults)
    uses = Uses()
    body.note(uses, frozenset())
    return Template(body, frozenset(uses.names), frozenset(uses.bare))


def variables(sources: Collection[str], fallbacks: Collection[str]) -> Variables:
    """Class the names of one campaign; any fallback, `default()` or system value makes optional."""
    return _variables(tuple(sources), frozenset(fallbacks))


# Each may take 750 KB at the worst, all of them 24 MB.
@lru_cache(maxsize=32)
def _variables(sources: tuple[str, ...], fallbacks: frozenset[str]) -> Variables:
    templates = [parse(source) for source in sources]
    names = frozenset().union(*(template.names for template in templates))
    bare = frozenset().union(*(template.bare for template in templates))
    required = bare - SYSTEM_VALUES.keys() - fallbacks
    return Variables(required=tuple(sorted(required)), optional=tuple(sorted(names - required)))
