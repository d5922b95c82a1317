"""One meaning: random events, random queries, three evaluators, the same answer.

LANGUAGE_EXAMPLES sets how many worlds are drawn (55 otherwise); each is asked 40 questions.
"""

from __future__ import annotations

import os
import unicodedata
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from decimal import Context, Decimal
from typing import Any
from uuid import uuid4

import msgspec
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from eventsvc.errors import QueryError
from eventsvc.event import Event
from eventsvc.query import ast
from eventsvc.query.parse import LONGEST, parse
from eventsvc.query.render import render
from eventsvc.text import numbers
from eventsvc.text.fold import fold

EXAMPLES = int(os.environ.get("LANGUAGE_EXAMPLES", "55"))
QUERIES = 40

_TRICKY = (
    "aAbBiI\u0131\u0130\u017fsSßẞKk\u212aåÅ\u212bς\u03c3ΣǅǆéÉ"  # letters whose case is not simple
    "\u0345\u0390\u1fd3ﬁŉǰJ\u030cᾳΐ\u1100\u1161가"  # more of them, and what has several spellings
    " \t\n\r\x0b\x1c\x85\xa0\u2003\u2028\u3000\u200b\ufeff"  # white space, by somebody's definition
    "%_*?\\'\"()[]{}~^$.|+-/:,;<>=&!@#"  # characters that mean something somewhere
    "\x01\x02\x03\x04\x05\x7f"  # what the trigrams' coding uses itself
    "\u0301\u0307\u200d😀👩💻𐐀𐐨\U00010d50\ua7cb\U0001d504漢\U0010ffff\ufffd\ue000\ud7ff"  # of every plane
)
_WORDS = st.sampled_from([
    "\x1b[31mERROR\x1b[0m: db", "\x1b[1;31m4711", "STRASSE", "straße", "οδος ΟΔΟΣ", "4711", "0.10", "buyer", "BUYER",
    "order 4711", "null", "true", "10", "AND", "e\u0301", "👩\u200d💻", "it's",
])  # fmt: skip
_TEXTS = st.one_of(
    st.text(_TRICKY, min_size=1, max_size=12),
    st.text(_TRICKY, min_size=1, max_size=12),
    st.text("ab ", min_size=1, max_size=12),
    st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=12),
    _WORDS,
)
_NUMBERS = st.one_of(
    st.sampled_from([0, -0.0, 1, -1, 10, 2**53, 2**53 + 1, 2**63, 0.1, 1e16, 1e22, 1e23]),
    st.sampled_from(
        ["1e30", "-1e30", "18446744073709551617", "7190000000000000789", "7190000000000000790", "123456789012345678.12",
         "0.10", "1.0", "1e3", "-0.30000000000000004", "-0.3", "1e-20", "9" * 60, "0." + "3" * 60, "5e-324", "-5e-324",
         "1.7976931348623157e308", "-1.7976931348623157e308", "1." + "0" * 900 + "1", "-1." + "0" * 900 + "1"]
    ).map(Decimal),
    st.integers(-20, 20),
    st.decimals(-1000, 1000, places=2),
    st.floats(allow_nan=False, allow_infinity=False),
)  # fmt: skip
_ENCODE = msgspec.json.Encoder(decimal_format="number").encode
_KEYS = _TEXTS | st.sampled_from(
    ["a", "b", "c", "user id", "0", "1", "a.0", "b.c", "0.a", "", ".", "a.b", "\\", "é", "*", "?", "k" * 120, "A"]
)
_LONG = st.sampled_from(["x" * 4096, "x" * 4097, "xY" * 4000 + "needle", "ab" * 2047 + "N\u0130eedle" + "z" * 5000])
_SCALARS = st.one_of(
    st.none(), st.booleans(), _NUMBERS, _TEXTS, st.just(""), st.sampled_from(["10", "1", "true", "null"])
)  # fmt: skip
_JSON = st.recursive(
    st.one_of(_SCALARS, _SCALARS, _SCALARS, _LONG) if EXAMPLES > 200 else _SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(_KEYS, inner, max_size=4),
    max_leaves=8,
)
_DATA = st.dictionaries(_KEYS, _JSON, max_size=4) | st.dictionaries(_KEYS, _JSON, max_size=4) | _JSON
_MOMENTS = st.sampled_from([0, -1, 1_514_764_800_000, 1_514_764_799_999, 1_514_851_200_000]) | (
    st.integers(1_514_764_799_990, 1_514_764_800_010)
)
# Of events that were stored at once, late, and before they happened: to the clock of the log.
_NANOSECONDS = st.none() | (
    st.sampled_from([0, 1, 1_514_764_800_123_456_789, 1_514_764_799_999_999_999, 1_514_764_800_000_000_000])
    | st.integers(1_514_764_799_999_999_990, 1_514_764_800_000_000_010)
    | st.integers(1_514_764_799_990, 1_514_764_800_010).map(lambda moment: moment * 1_000_000)
)


@dataclass
class Pool:
    """What a question may be about so that something is found: values of the events themselves."""

    events: list[Event]
    texts: list[str] = field(default_factory=list)
    leaves: list[tuple[tuple[str, ...], Any]] = field(default_factory=list)

    def __post_init__(self) -> None:
        for event in self.events:
            self.texts += [event.email, event.environment, event.component, event.message]
            self._walk((), event.parsed_data())
        self.texts += [value for _, value in self.leaves if isinstance(value, str)]

    def _walk(self, keys: tuple[str, ...], value: Any) -> None:
        if isinstance(value, list):
            for item in value:
                self._walk(keys, item)
        else:
            if keys:
                self.leaves.append((keys, value))
            if isinstance(value, dict):
                for key, inner in value.items():
                    self._walk((*keys, key), inner)


def _event(seq: int, name: str, created_at: int, occurred_at: int | None, *content: str) -> Event:
    own = max(0, created_at) * 1_000_000 if occurred_at is None else occurred_at
    return Event(seq, name, created_at, own, *content)


_EVENTS = st.lists(
    st.builds(
        _event,
        st.just(0),
        st.builds(lambda: str(uuid4())),
        _MOMENTS,
        _NANOSECONDS,
        st.sampled_from(["diego@chefhero.com", "Diego@ChefHero.com", "x@y.z"]) | _TEXTS,
        st.sampled_from(["production", "Production", "prod*"]) | _TEXTS,
        st.sampled_from(["orders", "or?ers", "or_ers", "or%ers"]) | _TEXTS,
        _TEXTS,
        _DATA.map(_ENCODE).map(bytes.decode),
    ),
    min_size=3,
    max_size=8,
)


def _value(raw: Any) -> ast.Value:
    match raw:
        case None | dict() | list():
            return ast.Null()
        case bool():
            return ast.Boolean(raw)
        case int() | float() | Decimal():
            # The neighbour of 0 is nearer to it than a query can say.
            return ast.Number(numbers.read_number(str(raw)) or Decimal(0))
        case _:
            return ast.Text(raw)


# PERF: strategies are made once; what they draw are recipes, which become queries about the events of a world.
_PICKS = st.integers(0, 2**16)


@dataclass(frozen=True)
class Recipe:
    """One comparison to be made: numbers that pick something of the world, and values of its own."""

    kind: str
    first: int
    second: int
    third: int
    text: str
    scalar: Any

    def make(self, pool: Pool) -> ast.Node:
        match self.kind:
            case "text":
                return self._on_text(pool)
            case "data":
                return self._on_data(pool)
            case "any":
                digits = [numbers.plain(value) for _, value in pool.leaves if type(value) in (int, Decimal)]
                near = [*pool.texts, *digits][self.first % (len(pool.texts) + len(digits))]
                return self._compare(ast.Name("any"), near, pool, self.third % 4)
            case "id":
                ids = [event.id for event in pool.events]
                some = tuple(map(ast.Text, ids[self.first % len(ids) :][: 1 + self.second % 3]))
                return ast.In(ast.Name("id"), some) if self.third % 2 else ast.Equal(ast.Name("id"), some[0])
            case "occurred":
                step = (1, 1_000_000)[self.third // 12 % 2]
                return ast.Occurred(*self._span([event.occurred_at for event in pool.events], step))
            case _:
                return ast.Created(*self._span([event.created_at for event in pool.events], 1))

    def _span(self, moments: list[int], step: int) -> tuple[int | None, int | None]:
        near = [moment + (self.third % 3 - 1) * step for moment in moments]
        start, end = sorted((near[self.first % len(near)], near[self.second % len(near)]))
        return [(start, None), (None, start), (start, end), (start, start + step)][self.third // 3 % 4]

    def _on_text(self, pool: Pool) -> ast.Node:
        name = ("email", "environment", "component", "message")[self.first % 4]
        own = [str(getattr(event, name)) for event in pool.events]
        return self._compare(ast.Name(name), own[self.second % len(own)], pool, self.third % 5)

    def _on_data(self, pool: Pool) -> ast.Node:
        keys, near = [*pool.leaves, (("a",), 1)][self.first % (len(pool.leaves) + 1)]
        places = (*keys[:1], str(self.first // 7 % 3), *keys[1:])
        path = ast.path((keys, keys, keys, keys, keys[:1], (*keys, "a"), keys[::-1], places, ())[self.second % 9])
        operator = self.third % 9
        if operator < 5 and isinstance(near, str):
            return self._compare(path, near, pool, operator)
        value = _value((near, _near_miss(near), self.scalar, self.text)[self.second % 4])
        if operator == 3 or not isinstance(value, ast.Text | ast.Number):
            return ast.Exists(path) if operator == 4 and path.keys else ast.Equal(path, value)
        if operator == 2:
            return ast.In(path, tuple(dict.fromkeys((value, _value(self.scalar), ast.Text(self.text)))))
        return ast.Range(path, list(ast.Order)[self.second % 4], value)

    def _compare(self, subject: ast.Subject, near: str, pool: Pool, operator: int) -> ast.Node:
        whole = (near, near, pool.texts[self.second % len(pool.texts)], self.text)[self.first // 4 % 4]
        start = 0 if operator == 1 else self.second // 16 % (len(whole) or 1)
        size = (1, 2, 3, 4, 6, 60)[self.first // 16 % 6]
        at_end = operator != 1 and self.first // 96 % 3 == 0
        piece = (whole[-size:] if at_end else whole[start : start + size]) or self.text
        needle = (piece, piece.swapcase(), piece.upper(), unicodedata.normalize("NFD", piece))[self.second % 4]
        needle = needle if fold(needle) else "a"
        match operator:
            case 0:
                return ast.Contains(subject, needle)
            case 1:
                return ast.StartsWith(subject, needle)
            case 2:
                return ast.Equal(subject, ast.Text(whole))
            case 3:
                return ast.In(subject, tuple(map(ast.Text, dict.fromkeys((whole, piece, self.text)))))
            case _:
                return ast.Exists(subject) if subject not in _WHOLE else ast.Equal(subject, ast.Text(needle))


_WHOLE = (ast.Name("any"), ast.Path(()))


def _near_miss(value: Any) -> Any:
    """Something that only a careless evaluator takes for value."""
    match value:
        case bool():
            return not value
        case int() | Decimal():
            return Context(prec=40).next_minus(Decimal(value))
        case str():
            return value.swapcase()
        case _:
            return "null"


_KINDS = st.sampled_from(
    ["any", "any", "text", "text", "text", "data", "data", "data", "data", "created", "occurred", "occurred", "id"]
)
_RECIPES = st.builds(Recipe, _KINDS, _PICKS, _PICKS, _PICKS, _TEXTS, _SCALARS)
_TREES = st.recursive(
    _RECIPES,
    lambda inner: st.tuples(st.sampled_from(["not", "and", "or"]), st.lists(inner, min_size=1, max_size=4)),
    max_leaves=4,
)
_QUESTIONS = st.lists(_TREES, min_size=QUERIES, max_size=QUERIES)


def _make(tree: Any, pool: Pool) -> ast.Node:
    if isinstance(tree, Recipe):
        return tree.make(pool)
    operator, inner = tree
    nodes = [_make(part, pool) for part in inner]
    if operator == "not":
        return ast.negation(nodes[0])
    return ast.conjunction(nodes) if operator == "and" else ast.disjunction(nodes)


@st.composite
def _worlds(draw: st.DrawFn) -> tuple[list[Event], list[ast.Node]]:
    events = draw(_EVENTS)
    pool = Pool(events)
    return events, [_make(tree, pool) for tree in draw(_QUESTIONS)]


# No shrinking, which would ask the servers for minutes: a failure names one question and the events that differ.
_SETTINGS: dict[str, Any] = {
    "deadline": None,
    "database": None,
    "phases": [Phase.generate],
    "suppress_health_check": list(HealthCheck),
    "print_blob": False,
}


def test_three_evaluators_agree_on_random_events_and_queries(world: Any) -> None:
    """Same ids from each; and enough questions find something, and not everything, to mean anything."""
    seen: Counter[str] = Counter()

    @settings(max_examples=EXAMPLES, **_SETTINGS)
    @given(_worlds())
    def check(drawn: tuple[list[Event], list[ast.Node]]) -> None:
        drafts, nodes = drawn
        events = world.store(drafts)
        for seqs in world.ask(nodes, events):
            seen["all" if len(seqs) == len(events) else "some" if seqs else "none"] += 1
        for node in nodes:
            text = render(node)
            if len(text) <= LONGEST:
                assert parse(text, now=0, tz="Asia/Tokyo") == node

    check()
    assert sum(seen.values()) >= EXAMPLES * QUERIES
    assert seen["some"] > sum(seen.values()) // 5, seen


_WRITTEN_COMPARISONS = st.tuples(
    st.sampled_from(
        [
            "message",
            "email",
            "any",
            "createdAt",
            "occurredAt",
            "data.a",
            "data",
            "data.a.0",
            "data.b.c",
            "data.'user id'",
        ]
    ),
    st.sampled_from(["eq", "ne", "ct", "sw", "gt", "gte", "lt", "lte", "eq", "ct"]),
    st.sampled_from(["'a'", '"A"', "'b '", "'buyer'", "'1970-1-1'", "'2018-01-01T00:00:00+01:00'", "'\\u0069'"])
    | st.sampled_from(["'10'", "0", "-0", "1", "10", "1e16", "0.1", "null", "true", "now", "now-1s", "now+1w", "'%'"]),
).map(" ".join)
_WRITTEN = st.recursive(
    _WRITTEN_COMPARISONS,
    lambda inner: st.one_of(
        st.tuples(inner, st.sampled_from([" AND ", " OR ", " AND NOT "]), inner).map("".join),
        inner.map("({})".format),
        inner.map("NOT ({})".format),
    ),
    max_leaves=3,
)


def test_three_evaluators_agree_on_queries_as_people_write_them(world: Any) -> None:
    asked = 0

    @settings(max_examples=max(4, EXAMPLES // 10), **_SETTINGS)
    @given(_EVENTS, st.lists(_WRITTEN, min_size=60, max_size=60))
    def check(drafts: list[Event], texts: list[str]) -> None:
        nonlocal asked
        nodes = []
        for text in texts:
            with suppress(QueryError):
                nodes.append(parse(text, now=1_514_764_800_000))
        world.ask(nodes, world.store(drafts))
        asked += len(nodes)

    check()
    assert asked > EXAMPLES
