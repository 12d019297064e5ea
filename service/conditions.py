"""Conditions of message templates: what `if` may ask.

A value that is missing is the empty text here, and has no order with anything.
"""

from __future__ import annotations

import operator
import re
from dataclasses import dataclass

from service.expressions import Condition, Expression, Uses, Values, Variable
from service.filters import Value, text

ORDERS = {"<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge}

_NUMBER = re.compile(r"[+-]?[0-9]{1,15}(?:\.[0-9]{1,15})?")


@dataclass(slots=True)
class Truth(Condition):
    """A value as a condition: missing, empty text, 0 and false do not hold."""

    operand: Expression

    def holds(self, values: Values) -> bool:
        return bool(self.operand.value(values))

    def note(self, uses: Uses, sure: frozenset[str]) -> None:
        self.operand.note(uses, sure)


@dataclass(slots=True)
class _Pair(Condition):
    left: Expression
    right: Expression

    def note(self, uses: Uses, sure: frozenset[str]) -> None:
        self.left.note(uses, sure)
        self.right.note(uses, sure)


class Equal(_Pair):
    """`left == right`."""

    __slots__ = ()

    def holds(self, values: Values) -> bool:
        return _equal(self.left.value(values), self.right.value(values))


@dataclass(slots=True)
class Ordered(_Pair):
    """`left < right`, and the like."""

    order: str

    def holds(self, values: Values) -> bool:
        return _ordered(self.order, self.left.value(values), self.right.value(values))


class Containing(_Pair):
    """`left in right`, as texts; nothing is in what is missing, nor is that in anything."""

    __slots__ = ()

    def holds(self, values: Values) -> bool:
        left, right = self.left.value(values), self.right.value(values)
        return left is not None and right is not None and text(left) in text(right)


@dataclass(slots=True)
class Within(Condition):
    """`item in ['one', 'two']`."""

    item: Expression
    choices: tuple[Value | None, ...]

    def holds(self, values: Values) -> bool:
        item = self.item.value(values)
        return any(_equal(item, choice) for choice in self.choices)

    def note(self, uses: Uses, sure: frozenset[str]) -> None:
        self.item.note(uses, sure)


@dataclass(slots=True)
class Defined(Condition):
    """`name is defined`: whoever asks lives with either answer, so this is no bare need."""

    variable: Variable

    def holds(self, values: Values) -> bool:
        return self.variable.value(values) is not None

    def note(self, uses: Uses, sure: frozenset[str]) -> None:
        self.variable.note(uses, sure, bare=False)

    def sure(self, *, held: bool) -> frozenset[str]:
        return frozenset({self.variable.name}) if held else frozenset()


@dataclass(slots=True)
class Not(Condition):
    condition: Condition

    def holds(self, values: Values) -> bool:
        return not self.condition.holds(values)

    def note(self, uses: Uses, sure: frozenset[str]) -> None:
        self.condition.note(uses, sure)

    def sure(self, *, held: bool) -> frozenset[str]:
        return self.condition.sure(held=not held)


@dataclass(slots=True)
class Joined(Condition):
    """Conditions joined by `and`, asked while they hold; or by `or`, asked until one does."""

    conditions: tuple[Condition, ...]
    all_must_hold: bool

    def holds(self, values: Values) -> bool:
        for condition in self.conditions:
            if condition.holds(values) is not self.all_must_hold:
                return not self.all_must_hold
        return self.all_must_hold

    def note(self, uses: Uses, sure: frozenset[str]) -> None:
        for condition in self.conditions:
            condition.note(uses, sure)
            sure = sure | condition.sure(held=self.all_must_hold)

    def sure(self, *, held: bool) -> frozenset[str]:
        if held is not self.all_must_hold:
            return frozenset()
        return frozenset().union(*(condition.sure(held=held) for condition in self.conditions))


def _equal(left: Value | None, right: Value | None) -> bool:
    """As what one of them is: a column of a CSV file, be it a number or a boolean, is text."""
    if isinstance(left, bool) or isinstance(right, bool):
        return _text(left).lower() == _text(right).lower()
    if _is_number(left) or _is_number(right):
        return _number(left) is not None and _number(left) == _number(right)
    return _text(left) == _text(right)


def _ordered(symbol: str, left: Value | None, right: Value | None) -> bool:
    """As numbers when both look like one; a number has no order with a text, nor has None."""
    if left is None or right is None:
        return False
    left_number, right_number = _number(left), _number(right)
    if left_number is not None and right_number is not None:
        return bool(ORDERS[symbol](left_number, right_number))
    if _is_number(left) or _is_number(right):
        return False
    return bool(ORDERS[symbol](text(left), text(right)))


def _text(value: Value | None) -> str:
    return "" if value is None else text(value)


def _is_number(value: Value | None) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _number(value: Value | None) -> float | None:
    if isinstance(value, str):
        bare = value.strip()
        return float(bare) if _NUMBER.fullmatch(bare) else None
    return None if value is None or isinstance(value, bool) else value
