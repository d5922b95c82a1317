"""The abstract syntax tree of a query, as frozen nodes. The parser builds the tree; every evaluator reads it.

A tree is canonical. ``ne`` is written as NOT eq. No NOT holds a NOT, no AND an AND, and no OR an OR. Every comparison
with a time is a half-open span: in milliseconds for createdAt, in nanoseconds for occurredAt. ``negation``,
``conjunction`` and ``disjunction`` build canonical nodes only.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum

from eventsvc.text.numbers import read_number


@dataclass(frozen=True, slots=True)
class Name:
    """A field with a column of its own, or ``any``, which stands for every text of an event; see fields.py."""

    name: str


@dataclass(frozen=True, slots=True)
class Path:
    """A path into data. A path without keys stands for every path.

    A dot in a query may be a step of the path or part of a key. So ``path``, which makes a Path, cuts the keys at dots,
    and each evaluator tries all ways to join the keys again.
    """

    keys: tuple[str, ...]


Subject = Name | Path


def path(keys: Iterable[str]) -> Path:
    """Make a Path of these keys, which may hold dots."""
    given = tuple(keys)
    return Path(tuple(".".join(given).split("."))) if given else Path(())


# Values have classes of their own because True == 1 == 1.0 in Python, but not in JSON.
@dataclass(frozen=True, slots=True)
class Text:
    """A string."""

    value: str


@dataclass(frozen=True, slots=True)
class Number:
    """A number, exact to its last digit."""

    value: Decimal


@dataclass(frozen=True, slots=True)
class Boolean:
    """The value true or false."""

    value: bool


@dataclass(frozen=True, slots=True)
class Null:
    """JSON's null."""


Value = Text | Number | Boolean | Null


class Order(StrEnum):
    """How a value compares to a bound."""

    GT = "gt"
    GTE = "gte"
    LT = "lt"
    LTE = "lte"


@dataclass(frozen=True, slots=True)
class Equal:
    """The subject is equal to the value."""

    subject: Subject
    value: Value


@dataclass(frozen=True, slots=True)
class In:
    """The subject is equal to one of the values."""

    subject: Subject
    values: tuple[Value, ...]


@dataclass(frozen=True, slots=True)
class Contains:
    """The subject contains the needle, in any letter case."""

    subject: Subject
    needle: str


@dataclass(frozen=True, slots=True)
class StartsWith:
    """The subject begins with the needle, in any letter case."""

    subject: Subject
    needle: str


@dataclass(frozen=True, slots=True)
class Range:
    """A number in data compares in this order to a number, or a string to a string (by code point)."""

    subject: Path
    order: Order
    bound: Text | Number


@dataclass(frozen=True, slots=True)
class Created:
    """The event was created at start or later and before end, in ms since 1970; None means no bound."""

    start: int | None
    end: int | None


@dataclass(frozen=True, slots=True)
class Occurred:
    """The event happened at start or later and before end, in ns since 1970; None means no bound."""

    start: int | None
    end: int | None


@dataclass(frozen=True, slots=True)
class Exists:
    """The subject has a value."""

    subject: Subject


@dataclass(frozen=True, slots=True)
class Not:
    """The operand does not hold."""

    operand: Node


@dataclass(frozen=True, slots=True)
class And:
    """All operands hold."""

    operands: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Or:
    """At least one operand holds."""

    operands: tuple[Node, ...]


Comparison = Equal | In | Contains | StartsWith | Range | Created | Occurred | Exists
Node = Comparison | Not | And | Or


_PLACE = re.compile("0|[1-9][0-9]*")


def is_array_index(key: str) -> bool:
    """Tell whether a key may also be an index into an array."""
    return _PLACE.fullmatch(key) is not None


def on_data(node: Comparison) -> Comparison:
    """Give the comparison with data for a comparison with ``any``: the text '1.50' also equals the number 1.5."""
    match node:
        case Equal(_, value):
            return on_data(In(node.subject, (value,)))
        case In(subject, values):
            numbers = [read_number(value.value) for value in values if isinstance(value, Text)]
            return In(subject, (*values, *(Number(number) for number in numbers if number is not None)))
        case _:
            return node


def negation(node: Node) -> Node:
    """Build NOT node."""
    return node.operand if isinstance(node, Not) else Not(node)


def conjunction(nodes: Iterable[Node]) -> Node:
    """Join one or more nodes by AND."""
    operands = [part for node in nodes for part in (node.operands if isinstance(node, And) else (node,))]
    return operands[0] if len(operands) == 1 else And(tuple(operands))


def disjunction(nodes: Iterable[Node]) -> Node:
    """Join one or more nodes by OR."""
    operands = [part for node in nodes for part in (node.operands if isinstance(node, Or) else (node,))]
    return operands[0] if len(operands) == 1 else Or(tuple(operands))
