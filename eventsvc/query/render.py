"""AST → canonical text with as few brackets as possible. Parsing the text gives the same AST."""

from __future__ import annotations

import re
from decimal import Decimal
from typing import assert_never

from eventsvc.event import NANOSECONDS, format_nanoseconds, format_time
from eventsvc.query import ast
from eventsvc.text import numbers

_PLAIN_KEY = re.compile(r"[\w@$-]+")
_ESCAPES = {"'": "\\'", "\\": "\\\\", "\n": "\\n", "\r": "\\r", "\t": "\\t", "\b": "\\b", "\f": "\\f"}
_LONGEST_PLAIN = 40  # characters; longer numbers are written with an exponent
_ESCAPE_TABLE = str.maketrans(_ESCAPES)


def render(node: ast.Node) -> str:
    """Write the query of a node. The query means the same at any time and in any time zone."""
    match node:
        case ast.Or(operands):
            return " OR ".join(render(operand) for operand in operands)
        case ast.And(operands):
            return " AND ".join(_bracketed(operand, ast.Or) for operand in operands)
        case ast.Not(ast.Equal(subject, value)):
            return f"{_subject(subject)} ne {_value(value)}"
        case ast.Not(ast.Created(int(), int()) | ast.Occurred(int(), int()) as span):
            return _span(span, "ne")
        case ast.Not(operand):
            return f"NOT {_bracketed(operand, ast.Or, ast.And)}"
        case _:
            return _comparison(node)


def _bracketed(node: ast.Node, *kinds: type[ast.Or | ast.And]) -> str:
    return f"({render(node)})" if isinstance(node, kinds) else render(node)


def _comparison(node: ast.Comparison) -> str:  # noqa: PLR0911  (one for each node)
    match node:
        case ast.Equal(subject, value):
            return f"{_subject(subject)} eq {_value(value)}"
        case ast.In(subject, values):
            return f"{_subject(subject)} in ({', '.join(map(_value, values))})"
        case ast.Contains(subject, needle):
            return f"{_subject(subject)} ct {quote(needle)}"
        case ast.StartsWith(subject, needle):
            return f"{_subject(subject)} sw {quote(needle)}"
        case ast.Range(path, order, bound):
            return f"{_subject(path)} {order} {_value(bound)}"
        case ast.Exists(subject):
            return f"{_subject(subject)} exists"
        case ast.Created() | ast.Occurred():
            return _span(node, "eq")
        case _:
            assert_never(node)


def _span(node: ast.Created | ast.Occurred, operator: str) -> str:
    """Write a span of time; the operator is used for a span with both ends."""
    created = isinstance(node, ast.Created)
    name, show = ("createdAt", format_time) if created else ("occurredAt", format_nanoseconds)
    if node.end is None:
        return f"{name} gte '{show(node.start or 0)}'"
    if node.start is None:
        return f"{name} lt '{show(node.end)}'"
    instant = 1 if created or node.start % NANOSECONDS else NANOSECONDS
    is_instant = node.end == node.start + instant
    return f"{name} {operator} '{show(node.start)}{'' if is_instant else '/' + show(node.end)}'"


def _subject(subject: ast.Subject) -> str:
    if isinstance(subject, ast.Name):
        return subject.name
    return ".".join(["data", *[key if _PLAIN_KEY.fullmatch(key) else quote(key) for key in subject.keys]])


def _value(value: ast.Value) -> str:
    match value:
        case ast.Text(text):
            return quote(text)
        case ast.Number(number):
            return _number(number)
        case ast.Boolean(truth):
            return "true" if truth else "false"
        case ast.Null():
            return "null"
        case _:
            assert_never(value)


def _number(number: Decimal) -> str:
    text = numbers.plain(number)
    if len(text) > _LONGEST_PLAIN:
        return str(number)
    return text.rstrip("0").removesuffix(".") if "." in text else text


def quote(text: str) -> str:
    """Write a string literal."""
    return f"'{text.translate(_ESCAPE_TABLE)}'"
