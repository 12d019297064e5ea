"""The language of message templates: a small part of Jinja2's, read into `expressions`.

It has a reader of its own because what cannot be read cannot hurt, because Jinja2 knows the line of
an error but not its column, and because its parser takes three milliseconds for a kilobyte of tags
(`bench/templates.py`). `tests/test_grammar.py` holds the two against each other: what is accepted
here is Jinja2, made of the allowed kinds of nodes only, and says the same there, but for what
`docs/templates.md` says of missing values and of numbers.
"""

from typing import NoReturn

from service.conditions import Truth
from service.expressions import NOTHING, Choice, Condition, Constant, Expression, Sequence
from service.phrases import Phrases
from service.tokens import Fault, TagUnreadable, TemplateUnreadable, Tokens

TAGS = ("if", "elif", "else", "endif")

# What other languages call it.
_ELIF_ELSEWHERE = ("elseif", "elsif")

# In place of a condition that cannot be read.
_NEVER: Condition = Truth(NOTHING)


def read(source: str) -> tuple[Sequence, list[Fault]]:
    """Read a template; what comes back may only be used when there are no faults."""
    tokens = Tokens(source)
    template = Sequence(())
    try:
        tokens.check_characters()
        if not tokens.faults:
            template = _Reader(tokens).body(inside_if=False)
    except TemplateUnreadable:
        assert tokens.faults
    return template, sorted(tokens.faults, key=lambda fault: (fault.line, fault.column))


class _Reader:
    """Reads tags: from the word behind an opening to the text behind the closing."""

    def __init__(self, tokens: Tokens) -> None:
        self._tokens = tokens
        self._phrases = Phrases(tokens)
        self._refused: set[str] = set()

    def body(self, *, inside_if: bool) -> Sequence:
        """Read until the end, or to the word of a tag that ends this branch of an `if`."""
        parts: list[Expression] = []
        while True:
            if text := self._tokens.skip_to_tag():
                parts.append(Constant(text))
            if not self._tokens.closing:
                break
            self._tokens.advance()
            tag = self._tokens.word if self._tokens.closing == "%}" else ""
            if self._tokens.closing == "}}":
                parts.append(self._phrases.or_skip(self._output, NOTHING))
            elif tag == "if":
                parts.append(self._phrases.nested(self._if))
            elif inside_if and tag in TAGS:
                break
            else:
                self._phrases.or_skip(self._refused_tag, None)
        return Sequence(tuple(parts))

    def _output(self) -> Expression:
        if self._tokens.kind in (None, "end"):
            self._empty_tag()
        expression = self._phrases.expression()
        self._phrases.end_of_tag()
        return expression

    def _empty_tag(self) -> NoReturn:
        if self._tokens.word.removeprefix("-") == self._tokens.closing:
            self._phrases.stop("This tag is empty.")
        self._phrases.unexpected()

    def _if(self) -> Expression:
        opened_at = self._tokens.opened_at
        branches: list[tuple[Condition, Expression]] = []
        otherwise = NOTHING
        while self._tokens.word in ("if", "elif"):
            condition = self._phrases.or_skip(self._test, _NEVER)
            branches.append((condition, self.body(inside_if=True)))
        if self._tokens.word == "else":
            self._phrases.or_skip(self._bare_tag, None)
            otherwise = self.body(inside_if=True)
        while self._tokens.closing and self._tokens.word != "endif":
            self._phrases.or_skip(self._behind_else, None)
            self.body(inside_if=True)
        if not self._tokens.closing:
            self._tokens.fault("This {% if %} has no {% endif %}.", at=opened_at)
            raise TemplateUnreadable
        self._phrases.or_skip(self._bare_tag, None)
        return Choice(tuple(branches), otherwise)

    def _test(self) -> Condition:
        self._tokens.advance()
        condition = self._phrases.asked()
        self._phrases.end_of_tag()
        return condition

    def _bare_tag(self) -> None:
        self._tokens.advance()
        self._phrases.end_of_tag()

    def _behind_else(self) -> NoReturn:
        self._phrases.stop("After {% else %} there can only be {% endif %}.")

    def _refused_tag(self) -> NoReturn:
        tag = self._tokens.word
        if self._tokens.closing == "#}":
            self._phrases.stop("Comments are not allowed.")
        if self._tokens.kind in (None, "end"):
            self._empty_tag()
        if tag in TAGS:
            self._phrases.stop(f"This '{tag}' has no {{% if %}}.")
        if tag.removeprefix("end") in self._refused:
            raise TagUnreadable
        self._refused.add(tag)
        hint = " Did you mean 'elif'?" if tag in _ELIF_ELSEWHERE else ""
        self._tokens.fault(
            f"There is no tag '{tag[:20]}'.{hint}", allowed=TAGS, mistyped="" if hint else tag
        )
        raise TagUnreadable
