"""What stands in the tags of a message template: values, their filters, and conditions."""

import re
from collections.abc import Callable
from typing import NoReturn, TypeVar

from service.conditions import (
    ORDERS,
    Containing,
    Defined,
    Equal,
    Joined,
    Not,
    Ordered,
    Truth,
    Within,
)
from service.expressions import (
    NOTHING,
    Choice,
    Condition,
    Constant,
    Defaulted,
    Expression,
    Filtered,
    Variable,
)
from service.filters import TEXT_FILTERS, Value
from service.tokens import LONGEST_NAME, TagUnreadable, TemplateUnreadable, Tokens

FILTERS = tuple(sorted(["default", *TEXT_FILTERS]))

# Levels of nesting, filters in a template, values in a list.
DEEPEST = 20
MOST_FILTERS = 200
MOST_CHOICES = 50

_CONSTANTS = {"true": True, "True": True, "false": False, "False": False}
_COMPARING = frozenset({"==", "!=", *ORDERS, "in", "not", "is"})
_OF_CONDITIONS = _COMPARING | {"and", "or"}
_RESERVED = frozenset(
    {"if", "elif", "else", "and", "or", "not", "in", "is", "none", "None", *_CONSTANTS}
)

_ESCAPE = re.compile(r"\\(.)", re.DOTALL)
_ESCAPES = {"n": "\n", "'": "'", '"': '"', "\\": "\\"}

# What people write who know more of Jinja2, or who write in a word processor.
_HINTS = {
    **dict.fromkeys("+*/~", "Templates cannot calculate or join values."),
    **dict.fromkeys("\u2018\u2019\u201c\u201d", "Use straight quotation marks."),
    **dict.fromkeys("'\"", "This quotation mark is never closed."),
    **dict.fromkeys("0123456789", "A name begins with a letter; a number has up to 15 digits."),
    ",": "A list is written in square brackets: ['one', 'two'].",
    "&": "Write 'and'.",
    "if": "A tag that begins with 'if' is written {% if ... %}.",
    "none": "What is missing is asked for with 'is defined'.",
    ".": "A variable has no parts; give what you need a name of its own.",
    "(": "Nothing can be called; a filter is written with a bar, as in name|upper.",
    "[": "A variable has no parts; a list can only follow 'in'.",
    "-": "Templates cannot calculate; a name has underscores, no hyphens.",
    "=": "To compare, write ==; the value of a filter has no name.",
}

_Read = TypeVar("_Read")


def is_name(text: str) -> bool:
    """Whether a template can use a variable of this name."""
    return len(text) <= LONGEST_NAME and text.isidentifier() and text not in _RESERVED


class Phrases:
    """Reads by recursive descent: from the first word of a phrase to the word behind it.

    Raises:
        TagUnreadable, TemplateUnreadable: from all methods, with the fault noted.
    """

    def __init__(self, tokens: Tokens) -> None:
        self._tokens = tokens
        self._depth = 0
        self._filters = 0
        self._in_condition = False

    def expression(self) -> Expression:
        """Read a value, which may depend on a condition behind it."""
        return self._chosen(self._operand())

    def _chosen(self, value: Expression) -> Expression:
        if not self._take("if"):
            return value
        condition = self.asked()
        otherwise = self.nested(self.expression) if self._take("else") else NOTHING
        return Choice(((condition, value),), otherwise)

    def _operand(self) -> Expression:
        if self._take("("):
            operand = self.nested(self.expression)
            self._expect(")")
        else:
            operand = self._word()
        return self._filtered(operand)

    def _word(self) -> Expression:
        word = self._tokens.word
        match self._tokens.kind:
            case "name" if word in _CONSTANTS:
                operand: Expression = Constant(_CONSTANTS[word])
            case "name" if is_name(word):
                operand = Variable(word)
            case "name" if word not in _RESERVED:
                self.stop(
                    "A variable's name is made of letters, digits and underscores, "
                    f"at most {LONGEST_NAME}."
                )
            case "text":
                operand = Constant(_ESCAPE.sub(self._unescaped, word[1:-1]))
            case "number":
                operand = Constant(float(word) if "." in word else int(word))
            case _:
                self.unexpected()
        self._tokens.advance()
        return operand

    def _unescaped(self, escape: re.Match[str]) -> str:
        if escape[1] not in _ESCAPES:
            at = self._tokens.at + 1 + escape.start()
            self._tokens.fault(
                "A backslash can only stand before n, a backslash or a quotation mark.", at
            )
        return _ESCAPES.get(escape[1], "")

    def _filtered(self, operand: Expression) -> Expression:
        while self._take("|"):
            self._filters += 1
            if self._filters > MOST_FILTERS:
                self._tokens.fault(f"Must have at most {MOST_FILTERS} filters.")
                raise TemplateUnreadable
            operand = self._filter(operand)
        return operand

    def _filter(self, operand: Expression) -> Expression:
        name, at = self._tokens.word, self._tokens.at
        if self._tokens.kind != "name":
            self.stop("A filter name must follow the bar.", FILTERS)
        self._tokens.advance()
        arguments = self._arguments() if self._take("(") else []
        if name == "default":
            if len(arguments) == 1:
                return Defaulted(operand, arguments[0])
            self._tokens.fault("'default' takes one value: default('text').", at)
            raise TagUnreadable
        if name not in TEXT_FILTERS:
            self._tokens.fault(f"There is no filter '{name[:20]}'.", at, FILTERS, mistyped=name)
        elif arguments:
            self._tokens.fault(f"'{name}' takes no value.", at)
        else:
            return Filtered(operand, name)
        return operand

    def _arguments(self) -> list[Expression]:
        arguments: list[Expression] = []
        if self._take(")"):
            return arguments
        arguments.append(self.nested(lambda: self._filtered(self._word())))
        while self._take(","):
            arguments.append(self.nested(lambda: self._filtered(self._word())))
        self._expect(")")
        return arguments

    def asked(self) -> Condition:
        """Read what follows `if`."""
        self._in_condition = True
        return self._condition()

    def _condition(self) -> Condition:
        first = self._conjunction()
        if self._tokens.word != "or":
            return first
        conditions = [first]
        while self._take("or"):
            conditions.append(self._conjunction())
        return Joined(tuple(conditions), all_must_hold=False)

    def _conjunction(self) -> Condition:
        first = self._negation()
        if self._tokens.word != "and":
            return first
        conditions = [first]
        while self._take("and"):
            conditions.append(self._negation())
        return Joined(tuple(conditions), all_must_hold=True)

    def _negation(self) -> Condition:
        word = self._tokens.word
        if word == "(":
            return self._bracketed()
        if word == "not":
            self._tokens.advance()
            return Not(self.nested(self._negation))
        return self._comparison(self._operand())

    def _bracketed(self) -> Condition:
        """Read a condition, or the value that only turns out to be one when it is over."""
        self._tokens.advance()
        self._go_deeper()
        condition = self._condition()
        value = self._chosen(condition.operand) if isinstance(condition, Truth) else None
        self._expect(")")
        self._depth -= 1
        return condition if value is None else self._comparison(self._filtered(value))

    def _comparison(self, left: Expression) -> Condition:
        at, word = self._tokens.at, self._tokens.word
        if word not in _COMPARING:
            return Truth(left)
        self._tokens.advance()
        if word == "in":
            condition = self._membership(left)
        elif word == "not":
            self._expect("in")
            condition = Not(self._membership(left))
        elif word == "is":
            condition = self._defined(left, at)
        else:
            condition = self._compared(left, word, self._operand())
        if self._tokens.word in _COMPARING:
            self.stop("Compare two values at a time, with 'and' or 'or' between.")
        return condition

    def _compared(self, left: Expression, symbol: str, right: Expression) -> Condition:
        if symbol in ORDERS:
            return Ordered(left, right, symbol)
        equal = Equal(left, right)
        return equal if symbol == "==" else Not(equal)

    def _membership(self, item: Expression) -> Condition:
        if not self._take("["):
            return Containing(item, self._operand())
        choices = [self._choice()]
        while self._take(","):
            if len(choices) == MOST_CHOICES:
                self.stop(f"Must have at most {MOST_CHOICES} values in a list.")
            choices.append(self._choice())
        self._expect("]")
        return Within(item, tuple(choices))

    def _choice(self) -> Value | None:
        choice = self._word()
        if not isinstance(choice, Constant):
            self.stop("A list holds texts, in quotation marks, and numbers.")
        return choice.constant

    def _defined(self, operand: Expression, at: int) -> Condition:
        negated = self._take("not")
        if self._tokens.word != "defined":
            self.stop("The only question with 'is' is 'is defined'.", ("defined",))
        self._tokens.advance()
        if not isinstance(operand, Variable):
            self._tokens.fault("Only a variable can be asked whether it is defined.", at)
            return Truth(operand)
        return Not(Defined(operand)) if negated else Defined(operand)

    def _take(self, word: str) -> bool:
        """Step over a word if it is the current one; a text in quotes never is."""
        if self._tokens.word != word:
            return False
        self._tokens.advance()
        return True

    def _expect(self, word: str) -> None:
        if not self._take(word):
            self.unexpected(f"Expected '{word}'.")

    def end_of_tag(self) -> None:
        """Step out of the tag, which has nothing left to say."""
        if self._tokens.word.removeprefix("-") != self._tokens.closing:
            self.unexpected()
        self._tokens.leave_tag()

    def nested(self, read: Callable[[], _Read]) -> _Read:
        """Read one level deeper."""
        self._go_deeper()
        result = read()
        self._depth -= 1
        return result

    def _go_deeper(self) -> None:
        self._depth += 1
        if self._depth > DEEPEST:
            self._tokens.fault(f"Must not be nested more than {DEEPEST} levels deep.")
            raise TemplateUnreadable

    def or_skip(self, read: Callable[[], _Read], instead: _Read) -> _Read:
        """Go on behind the tag when it cannot be read, to find all faults of a template."""
        depth, self._in_condition = self._depth, False
        try:
            return read()
        except TagUnreadable:
            self._depth = depth
            self._tokens.skip_tag()
            return instead

    def stop(self, detail: str, allowed: tuple[str, ...] = ()) -> NoReturn:
        """Give up the tag, for a fault at the current word."""
        self._tokens.fault(detail, allowed=allowed)
        raise TagUnreadable

    def unexpected(self, hint: str = "") -> NoReturn:
        """Give up the tag, or the template, because the current word makes no sense."""
        word, closing = self._tokens.word, self._tokens.closing
        if self._tokens.kind is None:
            self._tokens.fault(f"This tag is never closed with {closing}.", self._tokens.opened_at)
            raise TemplateUnreadable
        if self._tokens.kind == "end":
            if word.removeprefix("-") != closing:
                self.stop(f"This tag must be closed with {closing}.")
            self.stop(f"Something is missing before {closing}. {hint}".rstrip())
        hint = _HINTS.get(word) or hint
        if word in _OF_CONDITIONS and not self._in_condition:
            self.stop(f"'{word}' belongs in a condition, after 'if'.")
        if self._tokens.kind == "name":
            hint = hint or "A name has no spaces, and a text has quotation marks around it."
        shown = word[:20] if self._tokens.kind == "text" else f"'{word[:20]}'"
        self.stop(f"{shown} is not expected here. {hint}".rstrip())
