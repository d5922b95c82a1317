"""One meaning: random events, random queries, three evaluators, the same answer.

LANGUAGE_EXAMPLES sets how many worlds are drawn (80 otherwise); each is asked 25 questions.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from eventsvc.event import Event
from eventsvc.query import ast
from eventsvc.query.parse import LONGEST, parse
from eventsvc.query.render import render

EXAMPLES = int(os.environ.get("LANGUAGE_EXAMPLES", "80"))
QUERIES = 25

# fmt: off
_TRICKY = [
    *"aAbBiI\u0131\u0130\u017fsSßẞKk\u212aåÅ\u212bς\u03c3Σǅǆ",  # letters whose case is not simple
    *" \t\n\r\x0b\x1c\x85\xa0\u2003\u2028\u3000\u200b\ufeff",  # white space, by somebody's definition
    *"%_*?\\'\"()[]{}~^$.|+-/:,;<>=&!@#",  # characters that mean something somewhere
    *"\x01\x02\x03\x04\x05\x7f",  # what the trigrams' coding uses itself
    "é", "e\u0301", "\u0307", "😀", "👩\u200d💻", "𐐀", "𐐨", "\U00010d50", "\ua7cb", "\U0001d504", "漢", "\U0010ffff",
    "\ufffd", "\ue000", "\ud7ff", "buyer", "BUYER", "order 4711", "null", "true", "10", "AND",
]
# fmt: on
_CHARACTERS = st.sampled_from(_TRICKY) | st.characters(exclude_categories=["Cs"], exclude_characters="\0")
_TEXTS = st.lists(_CHARACTERS | st.sampled_from("ab "), min_size=1, max_size=12).map("".join)
_NUMBERS = st.one_of(
    st.sampled_from([0, -0.0, 1, -1, 10, 2**53, 2**53 + 1, 2**63, 2**64 + 1, 10**30, -(10**30), 0.1, 1e16, 1e22, 1e23]),
    st.sampled_from([5e-324, -5e-324, 2.2250738585072014e-308, 1.7976931348623157e308, -1.7976931348623157e308, 1e-7]),
    st.integers(-20, 20),
    st.floats(allow_nan=False, allow_infinity=False),
)
_KEYS = st.sampled_from(["a", "b", "c", "user id", "", ".", "a.b", "\\", "é", "*", "?", "k" * 120, "A"]) | _TEXTS
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


@dataclass
class Pool:
    """What a question may be about so that something is found: values of the events themselves."""

    events: list[Event]
    texts: list[str] = field(default_factory=list)
    leaves: list[tuple[tuple[str, ...], Any]] = field(default_factory=list)

    def __post_init__(self) -> None:
        for event in self.events:
            self.texts += [event.email, event.environment, event.component, event.message]
            self._walk((), json.loads(event.data))
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


@st.composite
def _events(draw: st.DrawFn) -> list[Event]:
    def one() -> Event:
        text = json.dumps(draw(_DATA))
        return Event(
            0, str(uuid4()), draw(_MOMENTS),
            draw(st.sampled_from(["diego@chefhero.com", "Diego@ChefHero.com", "x@y.z"]) | _TEXTS),
            draw(st.sampled_from(["production", "Production", "prod*"]) | _TEXTS),
            draw(st.sampled_from(["orders", "or?ers", "or_ers", "or%ers"]) | _TEXTS), draw(_TEXTS), text,
        )  # fmt: skip

    return [one() for _ in range(draw(st.integers(3, 8)))]


def _needles(pool: Pool) -> st.SearchStrategy[str]:
    @st.composite
    def piece(draw: st.DrawFn) -> str:
        text = draw(st.sampled_from(pool.texts))
        start = draw(st.integers(0, max(0, len(text) - 1)))
        found = text[start : start + draw(st.integers(1, 6) | st.just(60))]
        return draw(st.sampled_from([found, found.swapcase(), found.upper()])) or "a"

    return piece() | piece() | piece() | _TEXTS


def _values(pool: Pool, near: Any) -> st.SearchStrategy[ast.Value]:
    return st.one_of(st.just(near), _SCALARS, st.sampled_from(pool.texts)).map(_value)


def _value(raw: Any) -> ast.Value:
    match raw:
        case None | dict() | list():
            return ast.Null()
        case bool():
            return ast.Boolean(raw)
        case int() | float():
            return ast.Number(float(raw) + 0.0)
        case _:
            return ast.Text(raw)


@st.composite
def _comparisons(draw: st.DrawFn, pool: Pool) -> ast.Node:
    match draw(st.sampled_from(["text", "text", "data", "data", "data", "created", "id"])):
        case "text":
            return _on_text(draw, pool)
        case "data":
            return _on_data(draw, pool)
        case "id":
            some = draw(
                st.lists(st.sampled_from(pool.events).map(lambda event: ast.Text(event.id)), min_size=1, max_size=4)
            )
            name = ast.Name("id")
            return draw(st.sampled_from([ast.In(name, tuple(dict.fromkeys(some))), ast.Equal(name, some[0])]))
        case _:
            first, second = sorted((draw(_MOMENTS), draw(_MOMENTS)))
            return draw(
                st.sampled_from([ast.Created(first, None), ast.Created(None, first), ast.Created(first, second)])
            )


def _on_text(draw: st.DrawFn, pool: Pool) -> ast.Node:
    name = draw(st.sampled_from(["email", "environment", "component", "message", "message"]))
    subject, event = ast.Name(name), draw(st.sampled_from(pool.events))
    whole = st.just(str(getattr(event, name))) | st.sampled_from(pool.texts)
    return draw(
        st.one_of(
            st.builds(ast.Contains, st.just(subject), _needles(pool)),
            st.builds(
                ast.StartsWith, st.just(subject), st.just(str(getattr(event, name))[:3].swapcase()) | _needles(pool)
            ),
            st.builds(ast.Equal, st.just(subject), whole.map(ast.Text)),
            st.builds(
                ast.In, st.just(subject), st.lists(whole.map(ast.Text), min_size=1, max_size=4, unique=True).map(tuple)
            ),
            st.just(ast.Exists(subject)),
        )
    )


def _on_data(draw: st.DrawFn, pool: Pool) -> ast.Node:
    keys, near = draw(st.sampled_from([*pool.leaves, (("a",), 1)]))
    path = ast.Path(draw(st.sampled_from([keys, keys, keys, keys[:1], (*keys, "a"), keys[::-1]])))
    piece = (
        _needles(pool)
        if not isinstance(near, str) or not near
        else st.just(near[1:4].swapcase() or near) | st.just(near[:5])
    )
    values = _values(pool, near)
    bounds = values.filter(lambda value: isinstance(value, ast.Text | ast.Number))
    return draw(
        st.one_of(
            st.builds(ast.Equal, st.just(path), values),
            st.builds(ast.In, st.just(path), st.lists(values, min_size=1, max_size=4, unique=True).map(tuple)),
            st.builds(ast.Contains, st.just(path), piece),
            st.builds(ast.StartsWith, st.just(path), piece),
            st.builds(ast.Range, st.just(path), st.sampled_from(ast.Order), bounds),
            st.just(ast.Exists(path)),
        )
    )


def _nodes(pool: Pool) -> st.SearchStrategy[ast.Node]:
    def combine(inner: st.SearchStrategy[ast.Node]) -> st.SearchStrategy[ast.Node]:
        several = st.lists(inner, min_size=2, max_size=4)
        return inner.map(ast.negation) | several.map(ast.conjunction) | several.map(ast.disjunction)

    return st.recursive(_comparisons(pool), combine, max_leaves=4)


@st.composite
def _worlds(draw: st.DrawFn) -> tuple[list[Event], list[ast.Node]]:
    events = draw(_events())
    nodes = draw(st.lists(_nodes(Pool(events)), min_size=QUERIES, max_size=QUERIES))
    return events, nodes


def test_three_evaluators_agree_on_random_events_and_queries(world: Any) -> None:
    """Same ids from each; and enough questions find something, and not everything, to mean anything."""
    seen: Counter[str] = Counter()

    @settings(
        max_examples=EXAMPLES, deadline=None, database=None, suppress_health_check=list(HealthCheck), print_blob=False
    )
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
