"""AST → function(Event) → bool: for live tail, which filters events before any store has indexed them."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Iterator
from functools import cached_property
from typing import Any, assert_never

from eventsvc.event import Event
from eventsvc.query import ast
from eventsvc.text import terms

Predicate = Callable[[Event], bool]


class _Subject:
    """An event under test; its data is read at most once."""

    def __init__(self, event: Event) -> None:
        self.event = event

    @cached_property
    def data(self) -> Any:
        return self.event.parsed_data()


_Test = Callable[[_Subject], bool]
_ValueTest = Callable[[Any], bool]

_ORDERS: dict[ast.Order, Callable[[Any, Any], bool]] = {
    ast.Order.GT: operator.gt,
    ast.Order.GTE: operator.ge,
    ast.Order.LT: operator.lt,
    ast.Order.LTE: operator.le,
}


def to_predicate(node: ast.Node) -> Predicate:
    """Compile node to a function that says whether an event matches."""
    test = _test(node)
    return lambda event: test(_Subject(event))


def _test(node: ast.Node) -> _Test:
    match node:
        case ast.And(operands):
            tests = [_test(operand) for operand in operands]
            return lambda subject: all(test(subject) for test in tests)
        case ast.Or(operands):
            tests = [_test(operand) for operand in operands]
            return lambda subject: any(test(subject) for test in tests)
        case ast.Not(operand):
            test = _test(operand)
            return lambda subject: not test(subject)
        case ast.Created(start, end):
            return lambda subject: (
                (start is None or start <= subject.event.created_at) and (end is None or subject.event.created_at < end)
            )
        case _:
            return _on_subject(node.subject, _value_test(node))


def _on_subject(subject: ast.Subject, test: _ValueTest) -> _Test:
    if isinstance(subject, ast.Path):
        keys = subject.keys
        return lambda under_test: any(test(value) for value in _values(under_test.data, keys))
    read = _READERS[subject.name]
    return lambda under_test: test(read(under_test.event))


_READERS: dict[str, Callable[[Event], Any]] = {
    "id": lambda event: event.id,
    "email": lambda event: event.email,
    "environment": lambda event: event.environment,
    "component": lambda event: event.component,
    "message": lambda event: event.message,
    "createdAt": lambda event: event.created_at,
}


def _values(data: Any, keys: tuple[str, ...]) -> Iterable[Any]:
    """All values at a path; arrays on the way, and at its end, stand for their elements."""
    found: Iterable[Any] = terms.unwrap(data)
    for key in keys:
        found = _step(found, key)
    return found


def _step(values: Iterable[Any], key: str) -> Iterator[Any]:
    for value in values:
        if isinstance(value, dict) and key in value:
            yield from terms.unwrap(value[key])


def _value_test(node: ast.Equal | ast.In | ast.Contains | ast.StartsWith | ast.Range | ast.Exists) -> _ValueTest:
    match node:
        case ast.Equal(_, value):
            return _equals(value)
        case ast.In(_, values):
            tests = [_equals(value) for value in values]
            return lambda found: any(test(found) for test in tests)
        case ast.Contains(_, needle):
            folded = terms.fold(needle)
            return lambda found: isinstance(found, str) and folded in terms.fold(found)
        case ast.StartsWith(_, needle):
            folded = terms.fold(needle)
            return lambda found: isinstance(found, str) and terms.fold(found).startswith(folded)
        case ast.Range(_, order, bound):
            return _lies(order, bound)
        case ast.Exists():
            return lambda _: True
        case _:
            assert_never(node)


def _equals(value: ast.Value) -> _ValueTest:
    match value:
        case ast.Null():
            return lambda found: found is None
        case ast.Boolean(truth):
            return lambda found: found is truth
        case ast.Number(number):
            return lambda found: _is_number(found) and terms.as_number(found) == number
        case ast.Text(text):
            return lambda found: isinstance(found, str) and found == text
        case _:
            assert_never(value)


def _lies(order: ast.Order, bound: ast.Text | ast.Number) -> _ValueTest:
    compare, limit = _ORDERS[order], bound.value
    if isinstance(bound, ast.Text):
        return lambda found: isinstance(found, str) and compare(found, limit)
    return lambda found: _is_number(found) and compare(terms.as_number(found), limit)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
