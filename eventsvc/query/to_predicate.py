"""AST → a test of one event: for the live tail, which filters events before any store has indexed them.

Each event is unpacked once, whoever asks: equality is a look into a set, order a look at the least and the greatest
value, and ``ct`` one search in all texts of a place. So the time a query takes grows with the event plus the query,
not with the one times the other.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable
from functools import cached_property
from typing import Any, assert_never

from eventsvc.event import Event
from eventsvc.query import ast
from eventsvc.text import terms

# No text of an event or a query holds it.
_BETWEEN = "\0"

_ORDERS: dict[ast.Order, Callable[[Any, Any], bool]] = {
    ast.Order.GT: operator.gt,
    ast.Order.GTE: operator.ge,
    ast.Order.LT: operator.lt,
    ast.Order.LTE: operator.le,
}


class Values:
    """All values at one path of data; arrays on the way, and at its end, stand for their elements."""

    def __init__(self, values: Iterable[Any]) -> None:
        self._values = list(values)

    def __bool__(self) -> bool:
        return bool(self._values)

    @cached_property
    def texts(self) -> frozenset[str]:
        """The strings."""
        return frozenset(value for value in self._values if isinstance(value, str))

    @cached_property
    def numbers(self) -> frozenset[float]:
        """The numbers."""
        return frozenset(terms.as_number(value) for value in self._values if _is_number(value))

    @cached_property
    def words(self) -> frozenset[bool | None]:
        """What there is of true, false and null."""
        return frozenset(value for value in self._values if value is None or isinstance(value, bool))

    @cached_property
    def folded(self) -> str:
        """The strings as ``ct`` and ``sw`` compare them, a NUL before each."""
        return terms.fold("".join(_BETWEEN + text for text in self.texts))

    @cached_property
    def ends(self) -> dict[type[ast.Value], tuple[Any, Any]]:
        """The least and the greatest number and string."""
        kinds = ((ast.Number, self.numbers), (ast.Text, self.texts))
        return {kind: (min(values), max(values)) for kind, values in kinds if values}

    @cached_property
    def inside(self) -> dict[str, Values]:
        """What the objects among the values hold, by key."""
        found: dict[str, list[Any]] = {}
        for value in self._values:
            if isinstance(value, dict):
                for key, inner in value.items():
                    found.setdefault(key, []).extend(terms.unwrap(inner))
        return {key: Values(values) for key, values in found.items()}


_NOTHING = Values(())


class Candidate:
    """An event under test, for any number of queries; what one of them has read of it the next need not read again."""

    def __init__(self, event: Event) -> None:
        self.event = event
        self._folded: dict[str, str] = {}
        self._at: dict[tuple[str, ...], Values] = {}

    def folded(self, name: str) -> str:
        """A text field as ``ct`` and ``sw`` compare it."""
        if name not in self._folded:
            self._folded[name] = terms.fold(getattr(self.event, name))
        return self._folded[name]

    def at(self, keys: tuple[str, ...]) -> Values:
        """The values at a path of data."""
        found = self._at.get(keys)
        if found is None:
            parent = self.at(keys[:-1]) if keys else None
            found = parent.inside.get(keys[-1], _NOTHING) if parent is not None else self._root()
            self._at[keys] = found
        return found

    def _root(self) -> Values:
        return Values(terms.unwrap(self.event.parsed_data()))


Predicate = Callable[[Candidate], bool]
_ValuesTest = Callable[[Values], bool]


def to_predicate(node: ast.Node) -> Predicate:
    """Compile node to a function that says whether an event matches."""
    match node:
        case ast.And(operands):
            tests = [to_predicate(operand) for operand in operands]
            return lambda candidate: all(test(candidate) for test in tests)
        case ast.Or(operands):
            tests = [to_predicate(operand) for operand in operands]
            return lambda candidate: any(test(candidate) for test in tests)
        case ast.Not(operand):
            test = to_predicate(operand)
            return lambda candidate: not test(candidate)
        case ast.Created(start, end):
            return lambda candidate: (
                (start is None or start <= candidate.event.created_at)
                and (end is None or candidate.event.created_at < end)
            )
        case _:
            return _comparison(node)


_Plain = ast.Equal | ast.In | ast.Contains | ast.StartsWith | ast.Range | ast.Exists


def _comparison(node: _Plain) -> Predicate:
    if isinstance(node.subject, ast.Path):
        keys, on_values = node.subject.keys, _values_test(node)
        return lambda candidate: on_values(candidate.at(keys))
    return _on_field(node.subject.name, node)


def _on_field(name: str, node: _Plain) -> Predicate:
    match node:
        case ast.Equal(_, value):
            return _on_field(name, ast.In(node.subject, (value,)))
        case ast.In(_, values):
            wanted = frozenset(value.value for value in values if isinstance(value, ast.Text))
            return lambda candidate: getattr(candidate.event, name) in wanted
        case ast.Contains(_, needle):
            folded = terms.fold(needle)
            return lambda candidate: folded in candidate.folded(name)
        case ast.StartsWith(_, needle):
            folded = terms.fold(needle)
            return lambda candidate: candidate.folded(name).startswith(folded)
        case ast.Exists():
            return lambda _: True
        case ast.Range():
            raise AssertionError("ranges are for data")
        case _:
            assert_never(node)


def _values_test(node: _Plain) -> _ValuesTest:
    match node:
        case ast.Equal(_, value):
            return _is_one_of((value,))
        case ast.In(_, values):
            return _is_one_of(values)
        case ast.Contains(_, needle):
            folded = terms.fold(needle)
            return lambda found: folded in found.folded
        case ast.StartsWith(_, needle):
            folded = _BETWEEN + terms.fold(needle)
            return lambda found: folded in found.folded
        case ast.Range(_, order, bound):
            return _lies(order, bound)
        case ast.Exists():
            return bool
        case _:
            assert_never(node)


def _is_one_of(values: tuple[ast.Value, ...]) -> _ValuesTest:
    texts = frozenset(value.value for value in values if isinstance(value, ast.Text))
    numbers = frozenset(value.value for value in values if isinstance(value, ast.Number))
    words = frozenset(
        None if isinstance(v, ast.Null) else v.value for v in values if isinstance(v, ast.Null | ast.Boolean)
    )
    tests: list[_ValuesTest] = []
    if texts:
        tests.append(lambda found: not found.texts.isdisjoint(texts))
    if numbers:
        tests.append(lambda found: not found.numbers.isdisjoint(numbers))
    if words:
        tests.append(lambda found: not found.words.isdisjoint(words))
    return tests[0] if len(tests) == 1 else lambda found: any(test(found) for test in tests)


def _lies(order: ast.Order, bound: ast.Text | ast.Number) -> _ValuesTest:
    compare, limit, kind = _ORDERS[order], bound.value, type(bound)
    # Some value lies above a bound if the greatest does, and some below if the least does.
    end = 1 if order in (ast.Order.GT, ast.Order.GTE) else 0
    return lambda found: kind in found.ends and compare(found.ends[kind][end], limit)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
