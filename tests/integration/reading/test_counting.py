"""Counts by anything, compared with a plain Python count over the same events: random events, random questions."""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from decimal import Decimal
from itertools import product
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from psycopg2.extras import execute_values

from eventsvc.query import ast
from eventsvc.search.both_stores import Source
from eventsvc.search.counts import STEPS, CountRequest, Counts
from eventsvc.search.stats import Stats

START, DAY = 1_790_000_000_000, 86_400_000
EXAMPLES, QUESTIONS = 6, 30

SCALARS = [
    None,
    True,
    False,
    "",
    "a",
    "A",
    "10",
    "true",
    "ä😀",
    "it's",
    "%_\\",
    10,
    10.0,
    1e1,
    -0.0,
    0,
    0.1,
    2**63,
    1e22,
]
KEYS = ["a", "b", "c d", "ä"]
NAMES = [ast.Name(name) for name in ("email", "environment", "component", "message")]
PATHS = [ast.Path(keys) for keys in [("a",), ("a",), ("b",), ("a", "b"), ("c d",), ("ä", "c d"), ("a", "b", "a")]]


Event = tuple[int, str, str, str, str, Any, int | None]  # the last: when it happened, in ns


@dataclass
class Draw:
    """Draws events and questions from a seed: values that meet again, and arrays and objects now and then."""

    numbers: random.Random

    def value(self, depth: int = 0) -> Any:
        kind = self.numbers.random()
        if kind < 0.6 or depth > 3:
            return self.numbers.choice(SCALARS)
        inner = [self.value(depth + 1) for _ in range(self.numbers.randrange(4))]
        return inner if kind < 0.75 else dict(zip(self.numbers.sample(KEYS, 4), inner, strict=False))

    def event(self) -> Event:
        choice = self.numbers.choice
        data = {key: self.value() for key in self.numbers.sample(KEYS, 3)}
        return (
            START + self.numbers.randrange(40) * DAY // 7,
            choice(["x@y.z", "u@y.z", "w@y.z"]),
            choice(["test", "Test"]),
            choice(["orders", "ä", "😀"]),
            choice(["m", "n%", "long " * 30]),
            choice([data, data, data, [data, self.value()], self.value()]),
            choice([None, None, (START - self.numbers.randrange(40) * DAY // 7) * 1_000_000 - 1]),
        )

    def subjects(self, most: int) -> tuple[ast.Subject, ...]:
        pool: list[ast.Subject] = [*NAMES[: self.numbers.choice([3, 4])], *self.numbers.choice([[], PATHS])]
        return tuple(dict.fromkeys(self.numbers.choices(pool, k=self.numbers.randrange(most + 1))))

    def question(self) -> CountRequest:
        choice = self.numbers.choice
        return CountRequest(
            interval=choice(["", "1h", "1d"]),
            by=self.subjects(3),
            top=choice([1, 2, 100]),
            distinct=self.subjects(choice([0, 2])),
            numbers=tuple(self.numbers.sample(PATHS, choice([0, 0, 1]))),
            percentiles=(0.0, 50.0, 95.0),
            time=choice(["createdAt", "occurredAt"]),
        )


def unwrap(value: Any) -> Iterator[Any]:
    if isinstance(value, list):
        for inner in value:
            yield from unwrap(inner)
    else:
        yield value


def at(data: Any, keys: tuple[str, ...]) -> list[Any]:
    """All scalars at a path."""
    found = list(unwrap(data))
    for key in keys:
        found = [inner for value in found if isinstance(value, dict) and key in value for inner in unwrap(value[key])]
    return [value for value in found if not isinstance(value, dict)]


def code(value: Any) -> str:
    match value:
        case None:
            return "z:"
        case bool():
            return f"b:{json.dumps(value)}"
        case str():
            return f"s:{value}"
        case _:
            number = Decimal(repr(value)) if isinstance(value, float) else Decimal(value)
            text = f"{number + 0:f}"  # + 0: there is no -0
            return f"n:{text.rstrip('0').rstrip('.') if '.' in text else text}"


def values(event: Event, subject: ast.Subject) -> set[str]:
    if isinstance(subject, ast.Path):
        return {code(value) for value in at(event[5], subject.keys)}
    place = ("email", "environment", "component", "message").index(subject.name) + 1
    return {f"s:{event[place]}"}


def keys(event: Event, wanted: CountRequest) -> Iterable[tuple[str, ...]]:
    return product(*(values(event, subject) for subject in wanted.by)) if wanted.by else ()


def start_of(event: Event, wanted: CountRequest) -> int:
    width = STEPS.get(wanted.interval, DAY)
    moment = event[0] if wanted.time == "createdAt" or event[6] is None else event[6] // 1_000_000
    return moment - moment % width


def expected(events: list[Event], wanted: CountRequest) -> dict[str, Any]:
    counted = Counter(key for event in events for key in keys(event, wanted))
    top = sorted(counted, key=lambda key: (-counted[key], key))[: wanted.top]
    cells = Counter((key, start_of(event, wanted)) for event in events for key in keys(event, wanted))
    return {
        "total": len(events),
        "buckets": Counter(start_of(event, wanted) for event in events) if wanted.interval else {},
        "top": [(key, counted[key]) for key in top],
        "cells": {
            key: {start: n for (owner, start), n in cells.items() if owner == key} for key in top if wanted.interval
        },
        "valued": counted.total(),
        "missing": sum(not list(keys(event, wanted)) for event in events) if wanted.by else 0,
        "distinct": tuple(len({v for e in events for v in values(e, subject)}) for subject in wanted.distinct),
        "numbers": [measure(events, path) for path in wanted.numbers],
    }


def measure(events: list[Event], path: ast.Path) -> list[Any]:
    numbers = sorted(
        Decimal(code(value)[2:])
        for event in events
        for value in at(event[5], path.keys)
        if isinstance(value, int | float) and not isinstance(value, bool)
    )
    count = len(numbers)
    if not numbers:
        return [0, None, None, None, None]
    places = [max(0, -(-count * percent // 100) - 1) for percent in (0, 50, 95)]
    return [count, numbers[0], numbers[-1], sum(numbers), [numbers[place] for place in places]]


def told(counts: Counts, wanted: CountRequest) -> dict[str, Any]:
    """Give an answer in the form of ``expected``."""
    top = counts.top(wanted.top)
    return {
        "total": counts.total,
        "buckets": counts.buckets,
        "top": [(key, counts.values[key]) for key in top],
        "cells": {key: dict(counts.cells[key]) for key in top if wanted.interval},
        "valued": counts.valued,
        "missing": counts.missing,
        "distinct": counts.distinct,
        "numbers": [
            [each.count, *(exact(raw) for raw in (each.min, each.max, each.sum)), exact_all(each.percentiles)]
            for each in counts.numbers
        ],
    }


def exact(raw: Any) -> Decimal | None:
    return None if bytes(raw) == b"null" else Decimal(bytes(raw).decode())


def exact_all(raws: Any) -> list[Decimal | None] | None:
    return None if raws is None else [exact(raw) for raw in raws]


def store(world: Any, events: list[Event]) -> None:
    rows = [(e[0] / 1000, e[1], e[2], e[3], e[4], json.dumps(e[5]), e[6]) for e in events]
    with world.connection.cursor() as cursor:
        execute_values(
            cursor,
            "INSERT INTO event (id, created_at, email, environment, component, message, data, occurred_at) VALUES %s",
            rows,
            template="(gen_random_uuid(), to_timestamp(%s), %s, %s, %s, %s, %s, %s)",
        )


@pytest.fixture
def askers(world: Any) -> list[Stats]:
    """By index and tail, by kept answers and tail, and by PostgreSQL alone."""
    return [world.stats(), world.stats(cache=1_000_000), world.stats(index=False)]


def test_counts_are_those_of_a_plain_count_wherever_the_events_lie(world: Any, askers: list[Stats]) -> None:
    stored: list[Event] = []
    sources: Counter[Source] = Counter()
    inside: Counter[Source] = Counter()  # those about values in data

    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(st.integers(0, 2**32))
    def check(seed: int) -> None:
        draw = Draw(random.Random(seed))
        for index in (True, False):  # so that some lie in the index, and some in the tail
            events = [draw.event() for _ in range(20)]
            store(world, events)
            stored.extend(events)
            if index:
                world.index_all()
        for wanted in [draw.question() for _ in range(QUESTIONS)]:
            right = expected(stored, wanted)
            for stats in askers:
                answer = world.run(stats.count(world.compiled(""), wanted))
                sources[answer.provenance.source] += 1
                inside[answer.provenance.source] += bool(wanted.paths)
                assert right == told(answer, wanted), (wanted, answer.provenance)

    check()
    assert min(inside[Source.INDEX_AND_TAIL], inside[Source.SQL]) >= EXAMPLES * QUESTIONS // 5, inside
    assert min(sources[source] for source in (Source.INDEX_AND_TAIL, Source.CACHE_AND_TAIL, Source.SQL)) > 0
