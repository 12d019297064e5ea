"""The words of a message template, each with its place: what the grammar reads from."""

import re
from dataclasses import dataclass

from service.suggestions import did_you_mean

# Characters of a source, tags in it, and characters of a variable's name.
LONGEST_SOURCE = 10_000
MOST_TAGS = 200
LONGEST_NAME = 64

# Faults of one template that are told, those with a guess at what was meant, and characters of
# the source that are shown with each.
_MOST_FAULTS = 20
_MOST_HINTS = 3
_LONGEST_EXCERPT = 60

_OPENING = re.compile(r"\{\{-?|\{%-?|\{#")
_CLOSINGS = {"{": "}}", "%": "%}", "#": "#}"}
_CLOSING = re.compile(r"[%}]\}")
_END_OF_COMMENT = re.compile(r"#\}")
_NOT_SPACE = re.compile(r"\S")
# A name here is whatever a word processor would select; which ones are good is decided later.
_WORD = re.compile(
    r"""\s*(?:
      (?P<end> -?[%}]\} )
    | (?P<name> [^\x00-\x40\x5b-\x5e\x60\x7b-\x7f\s\u2018-\u201f]
                [^\x00-\x2f\x3a-\x40\x5b-\x5e\x60\x7b-\x7f\s\u2018-\u201f]* )
    | (?P<text> '[^'\\]*(?:\\.[^'\\]*)*' | "[^"\\]*(?:\\.[^"\\]*)*" )
    | (?P<number> -?(?:0|[1-9][0-9]{0,14})(?:\.[0-9]{1,15})?(?![\w.]) )
    | (?P<symbol> [=!<>]= | . )
    )?""",
    re.VERBOSE | re.DOTALL,
)
# White space aside; jobs for a terminal, not for a voice. Lone surrogates are no characters at all.
CONTROL_CHARACTERS = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff]")


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that is wrong in a template: `source` is the offending piece, counted from 1."""

    detail: str
    line: int
    column: int
    source: str
    allowed: tuple[str, ...] = ()


class TagUnreadable(Exception):
    """A tag makes no sense from here on; its fault is noted."""


class TemplateUnreadable(Exception):
    """The whole template makes no sense from here on; its fault is noted."""


class Tokens:
    """A source, read once from beginning to end: plain text up to a tag, then word by word."""

    __slots__ = (
        "_next", "_source", "_tags", "at", "closing", "faults", "kind", "opened_at", "word",
    )  # fmt: skip

    def __init__(self, source: str) -> None:
        self.faults: list[Fault] = []
        self.kind: str | None = None
        self.word = ""
        self.closing = ""
        self.opened_at = 0
        self.at = 0
        self._source = source
        self._next = 0
        self._tags = 0

    def check_characters(self) -> None:
        """Note what is wrong with the source as a whole."""
        if len(self._source) > LONGEST_SOURCE:
            self.fault(f"Must have at most {LONGEST_SOURCE} characters.", at=LONGEST_SOURCE)
            return
        for match in CONTROL_CHARACTERS.finditer(self._source):
            self.fault(
                f"U+{ord(match[0]):04X} is a control character, which is not allowed.",
                match.start(),
            )

    def skip_to_tag(self) -> str:
        """Step over plain text, which is answered, into a tag; at the end, `closing` is empty."""
        begin, opening = self._next, _OPENING.search(self._source, self._next)
        if opening is None:
            self._next, self.closing, self.kind, self.word = len(self._source), "", None, ""
            return self._source[begin:]
        self.at = self.opened_at = opening.start()
        self._next = opening.end()
        self.closing = _CLOSINGS[opening[0][1]]
        self._tags += 1
        if self._tags > MOST_TAGS:
            self.fault(f"Must have at most {MOST_TAGS} tags.")
            raise TemplateUnreadable
        text = self._source[begin : self.opened_at]
        return text.rstrip() if opening[0].endswith("-") else text

    def advance(self) -> None:
        """Go on to the next word of the tag; at the end of the source, `kind` is None."""
        match = _WORD.match(self._source, self._next)
        assert match is not None  # all of it is optional
        self.kind = match.lastgroup
        self.word = match[self.kind] if self.kind else ""
        self._next = match.end()
        self.at = self._next - len(self.word)

    def leave_tag(self) -> None:
        """Step out of the tag, whose end is the current word, and over the white space it takes."""
        if self.word.startswith("-"):
            text_behind = _NOT_SPACE.search(self._source, self._next)
            self._next = text_behind.start() if text_behind else len(self._source)

    def skip_tag(self) -> None:
        """Step out of a tag that cannot be read."""
        closing = (_END_OF_COMMENT if self.closing == "#}" else _CLOSING).search(
            self._source, self.at
        )
        self._next = closing.end() if closing else len(self._source)

    def fault(
        self,
        detail: str,
        at: int | None = None,
        allowed: tuple[str, ...] = (),
        mistyped: str = "",
    ) -> None:
        """Note what is wrong at a place, usually that of the current word.

        Raises:
            TemplateUnreadable: there are more faults than anybody reads.
        """
        at = self.at if at is None else at
        if len(self.faults) < _MOST_HINTS:
            detail += did_you_mean(mistyped, allowed)
        line = self._source.count("\n", 0, at) + 1
        column = at - self._source.rfind("\n", 0, at)
        self.faults.append(Fault(detail, line, column, self._excerpt(at), allowed))
        if len(self.faults) == _MOST_FAULTS:
            raise TemplateUnreadable

    def _excerpt(self, at: int) -> str:
        """The tag around a place, or what is near it if that is long."""
        begin = max(min(self.opened_at, at), at - _LONGEST_EXCERPT // 2)
        end = begin + _LONGEST_EXCERPT
        closing = _CLOSING.search(self._source, at, end)
        end = closing.end() if closing else end
        return CONTROL_CHARACTERS.sub("\ufffd", self._source[begin:end])
