"""What a query means, as frozen nodes; the parser makes them, the evaluators share nothing else.

Nodes are canonical: ``ne`` is NOT eq, NOT NOT is nothing, AND holds no AND and OR no OR, and everything that is
asked of a time is a half-open span: of milliseconds for createdAt, of nanoseconds for occurredAt. Build them with
``negation``, ``conjunction`` and ``disjunction``, which keep it so.
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
    """A field that is a column of its own, or ``any``: every text there is; see fields.py."""

    name: str


@dataclass(frozen=True, slots=True)
class Path:
    """A place in data; no keys stand for every place.

    No key holds a dot: whether a dot is a step or part of a key makes no difference. Make one with ``path``.
    """

    keys: tuple[str, ...]


Subject = Name | Path


def path(keys: Iterable[str]) -> Path:
    """Give the place in data with these keys."""
    given = tuple(keys)
    return Path(tuple(".".join(given).split("."))) if given else Path(())


# Values are classes of their own because Python holds True == 1 == 1.0, and JSON does not.
@dataclass(frozen=True, slots=True)
class Text:
    """A string."""

    value: str


@dataclass(frozen=True, slots=True)
class Number:
    """A number, to its last digit."""

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
    """How a value lies to a bound."""

    GT = "gt"
    GTE = "gte"
    LT = "lt"
    LTE = "lte"


@dataclass(frozen=True, slots=True)
class Equal:
    """The subject is the value."""

    subject: Subject
    value: Value


@dataclass(frozen=True, slots=True)
class In:
    """The subject is one of the values."""

    subject: Subject
    values: tuple[Value, ...]


@dataclass(frozen=True, slots=True)
class Contains:
    """The subject has the needle in it, whatever the case."""

    subject: Subject
    needle: str


@dataclass(frozen=True, slots=True)
class StartsWith:
    """The subject begins with the needle, whatever the case."""

    subject: Subject
    needle: str


@dataclass(frozen=True, slots=True)
class Range:
    """A number in data lies so to a number, or a string to a string (by code point)."""

    subject: Path
    order: Order
    bound: Text | Number


@dataclass(frozen=True, slots=True)
class Created:
    """The event was created at start or later, and before end: milliseconds since 1970; None is no bound."""

    start: int | None
    end: int | None


@dataclass(frozen=True, slots=True)
class Occurred:
    """The event happened at start or later, and before end: nanoseconds since 1970; None is no bound."""

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


def is_place(key: str) -> bool:
    """Tell whether a key may also be a place in an array."""
    return _PLACE.fullmatch(key) is not None


def on_data(node: Comparison) -> Comparison:
    """Give what a comparison of ``any`` asks of data: a number is equal to a text that reads as that number."""
    match node:
        case Equal(_, value):
            return on_data(In(node.subject, (value,)))
        case In(subject, values):
            numbers = [read_number(value.value) for value in values if isinstance(value, Text)]
            return In(subject, (*values, *(Number(number) for number in numbers if number is not None)))
        case _:
            return node


def negation(node: Node) -> Node:
    """NOT node."""
    return node.operand if isinstance(node, Not) else Not(node)


def conjunction(nodes: Iterable[Node]) -> Node:
    """All of the nodes (one at least)."""
    operands = [part for node in nodes for part in (node.operands if isinstance(node, And) else (node,))]
    return operands[0] if len(operands) == 1 else And(tuple(operands))


def disjunction(nodes: Iterable[Node]) -> Node:
    """Any of the nodes (one at least)."""
    operands = [part for node in nodes for part in (node.operands if isinstance(node, Or) else (node,))]
    return operands[0] if len(operands) == 1 else Or(tuple(operands))
