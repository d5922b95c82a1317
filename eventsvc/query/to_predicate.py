"""AST → a Python test of one event, for the live tail, which filters events before the index holds them.

Each event is unpacked once for all queries. Equality is a look-up in a set, an order compares the least or the
greatest value, and ``ct`` searches all texts of a path at once. So the time for a query grows with the size of the
event plus the size of the query, not with their product.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Iterator
from decimal import Decimal
from functools import cached_property
from typing import Any, assert_never

from eventsvc.event import Event
from eventsvc.fields import ANY, TEXTS
from eventsvc.query import ast
from eventsvc.text import numbers
from eventsvc.text.fold import fold
from eventsvc.text.numbers import Number

# Separates texts; no text of an event or of a query holds a NUL.
_BETWEEN = "\0"
_LONGEST_PLACE = 6  # digits; no array of an event has more elements

_ORDERS: dict[ast.Order, Callable[[Any, Any], bool]] = {
    ast.Order.GT: operator.gt,
    ast.Order.GTE: operator.ge,
    ast.Order.LT: operator.lt,
    ast.Order.LTE: operator.le,
}


class Values:
    """All values at one path of data. An array on the path or at its end stands for its elements."""

    def __init__(self, values: Iterable[Any]) -> None:
        self._values: list[Any] = []
        self._arrays: list[list[Any]] = []
        self._spread(values)

    def _spread(self, values: Iterable[Any]) -> None:
        for value in values:
            if isinstance(value, list):
                self._arrays.append(value)
                self._spread(value)
            else:
                self._values.append(value)

    def __bool__(self) -> bool:
        return bool(self._values)

    def elements(self, key: str) -> list[Any]:
        """List the elements that the arrays at this path have at an index, which is given as a key."""
        if not self._arrays or not ast.is_array_index(key) or len(key) > _LONGEST_PLACE:
            return []
        place = int(key)
        return [array[place] for array in self._arrays if place < len(array)]

    @property
    def plain(self) -> Iterator[Any]:
        """The values that are not objects."""
        return (value for value in self._values if not isinstance(value, dict))

    @cached_property
    def inside(self) -> dict[str, list[Any]]:
        """Each key of the objects among the values, with the key's values."""
        found: dict[str, list[Any]] = {}
        for value in self._values:
            if isinstance(value, dict):
                for key, inner in value.items():
                    found.setdefault(key, []).append(inner)
        return found

    @cached_property
    def texts(self) -> frozenset[str]:
        """The strings among the values."""
        return frozenset(value for value in self._values if isinstance(value, str))

    @cached_property
    def numbers(self) -> frozenset[Number]:
        """The numbers among the values."""
        return frozenset(value for value in self._values if _is_number(value))

    @cached_property
    def words(self) -> frozenset[bool | None]:
        """Those of true, false and null that are among the values."""
        return frozenset(value for value in self._values if value is None or isinstance(value, bool))

    @cached_property
    def folded(self) -> str:
        """The strings in the form that ``ct`` and ``sw`` compare, each after a NUL."""
        return fold("".join(_BETWEEN + text for text in self.texts))

    @cached_property
    def shown(self) -> str:
        """The strings as in ``folded``, then the digits of the numbers, each after a NUL."""
        return self.folded + "".join(_BETWEEN + numbers.plain(value) for value in self._values if _is_number(value))

    @cached_property
    def ends(self) -> dict[type[ast.Value], tuple[Any, Any]]:
        """The least and the greatest number, and the least and the greatest string."""
        kinds = ((ast.Number, self.numbers), (ast.Text, self.texts))
        return {kind: (min(values), max(values)) for kind, values in kinds if values}


class Candidate:
    """An event under test for any number of queries. Parts that a query has unpacked are kept for the next query."""

    def __init__(self, event: Event) -> None:
        self.event = event
        self._folded: dict[str, str] = {}
        self._at: dict[tuple[str, ...], Values] = {}

    def folded(self, name: str) -> str:
        """Give a text field in the form that ``ct`` and ``sw`` compare."""
        if name not in self._folded:
            self._folded[name] = fold(getattr(self.event, name))
        return self._folded[name]

    def at(self, keys: tuple[str, ...]) -> Values:
        """Give the values at a path of data, whose dots may be steps or parts of keys. No keys: data itself."""
        found = self._at.get(keys)
        if found is None:
            found = self._at[keys] = Values(self._reach(keys) if keys else (self.event.parsed_data(),))
        return found

    def _reach(self, keys: tuple[str, ...]) -> Iterator[Any]:
        for size in range(len(keys)):
            yield from self.at(keys[:size]).inside.get(".".join(keys[size:]), ())
        yield from self.at(keys[:-1]).elements(keys[-1])

    @cached_property
    def leaves(self) -> Values:
        """The values at every path of data."""
        return Values(_leaves(self.at(())))

    @cached_property
    def anywhere(self) -> str:
        """Every text of the event in the form that ``ct`` and ``sw`` compare, each after a NUL."""
        return "".join(_BETWEEN + self.folded(name) for name in TEXTS) + self.leaves.shown


def _leaves(values: Values) -> Iterator[Any]:
    for inner in values.inside.values():
        yield from _leaves(Values(inner))
    yield from values.plain


Predicate = Callable[[Candidate], bool]
_ValuesTest = Callable[[Values], bool]


def to_predicate(node: ast.Node) -> Predicate:
    """Compile a node to a function that tells whether an event matches."""
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
        case ast.Occurred(start, end):
            return lambda candidate: (
                (start is None or start <= candidate.event.occurred_at)
                and (end is None or candidate.event.occurred_at < end)
            )
        case _:
            return _comparison(node)


_Plain = ast.Equal | ast.In | ast.Contains | ast.StartsWith | ast.Range | ast.Exists


def _comparison(node: _Plain) -> Predicate:
    if isinstance(node.subject, ast.Path):
        keys, on_values = node.subject.keys, _values_test(node)
        return lambda candidate: on_values(candidate.at(keys) if keys else candidate.leaves)
    if node.subject.name == ANY.name:
        return _anywhere(node)
    return _on_field(node.subject.name, node)


def _anywhere(node: _Plain) -> Predicate:
    match node:
        case ast.Contains(_, needle):
            folded = fold(needle)
            return lambda candidate: folded in candidate.anywhere
        case ast.StartsWith(_, needle):
            folded = _BETWEEN + fold(needle)
            return lambda candidate: folded in candidate.anywhere
        case _:
            fields = [_on_field(name, node) for name in TEXTS]
            on_data = ast.on_data(node)
            on_values = _is_one_of(on_data.values if isinstance(on_data, ast.In) else ())
            return lambda candidate: any(test(candidate) for test in fields) or on_values(candidate.leaves)


def _on_field(name: str, node: _Plain) -> Predicate:
    match node:
        case ast.Equal(_, value):
            return _on_field(name, ast.In(node.subject, (value,)))
        case ast.In(_, values):
            wanted = frozenset(value.value for value in values if isinstance(value, ast.Text))
            return lambda candidate: getattr(candidate.event, name) in wanted
        case ast.Contains(_, needle):
            folded = fold(needle)
            return lambda candidate: folded in candidate.folded(name)
        case ast.StartsWith(_, needle):
            folded = fold(needle)
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
            return _holds(node.subject, fold(needle))
        case ast.StartsWith(_, needle):
            return _holds(node.subject, _BETWEEN + fold(needle))
        case ast.Range(_, order, bound):
            return _lies(order, bound)
        case ast.Exists():
            return bool
        case _:
            assert_never(node)


def _holds(subject: ast.Subject, piece: str) -> _ValuesTest:
    if subject == ast.Path(()):
        return lambda found: piece in found.shown
    return lambda found: piece in found.folded


def _is_one_of(values: tuple[ast.Value, ...]) -> _ValuesTest:
    texts = frozenset(value.value for value in values if isinstance(value, ast.Text))
    wanted = frozenset(value.value for value in values if isinstance(value, ast.Number))
    words = frozenset(
        None if isinstance(v, ast.Null) else v.value for v in values if isinstance(v, ast.Null | ast.Boolean)
    )
    tests: list[_ValuesTest] = []
    if texts:
        tests.append(lambda found: not found.texts.isdisjoint(texts))
    if wanted:
        tests.append(lambda found: not found.numbers.isdisjoint(wanted))
    if words:
        tests.append(lambda found: not found.words.isdisjoint(words))
    return tests[0] if len(tests) == 1 else lambda found: any(test(found) for test in tests)


def _lies(order: ast.Order, bound: ast.Text | ast.Number) -> _ValuesTest:
    compare, limit, kind = _ORDERS[order], bound.value, type(bound)
    # Some value is above a bound if the greatest is, and some value is below a bound if the least is.
    end = 1 if order in (ast.Order.GT, ast.Order.GTE) else 0
    return lambda found: kind in found.ends and compare(found.ends[kind][end], limit)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | Decimal) and not isinstance(value, bool)
