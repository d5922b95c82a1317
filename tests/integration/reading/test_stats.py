"""Counts that add up, wherever the events lie."""

from __future__ import annotations

import random
from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from eventsvc.search.search import Source
from eventsvc.search.stats import STEPS, Stats, Wanted

# Both changes of the clock of 2026 in Berlin, and the turn of the year, whose week belongs to both.
MOMENTS = [
    int(datetime(*parts, tzinfo=UTC).timestamp() * 1000)
    for parts in [(2026, 3, 28, 12), (2026, 10, 24, 12), (2026, 12, 30, 12)]
]


def fill(world: Any) -> list[tuple[int, str]]:
    numbers = random.Random(1)
    made = []
    for place in range(400):
        at = numbers.choice(MOMENTS) + numbers.randrange(72 * 3_600_000)
        component = numbers.choice(["a", "b", "ä", "C", "\U0001f600"])
        world.store("m", at=at, component=component)
        made.append((at, component))
        if place == 250:
            world.index_all()
    return made


def start_of(at: int, interval: str, zone: str) -> int:
    if interval in STEPS:
        return at - at % STEPS[interval]
    local = datetime.fromtimestamp(at / 1000, ZoneInfo(zone))
    day = local.date() - timedelta(days=local.weekday() if interval == "1w" else 0)
    return int(datetime(day.year, day.month, day.day, tzinfo=ZoneInfo(zone)).timestamp() * 1000)


def test_counts_add_up_over_index_tail_and_postgresql(world: Any) -> None:
    made = fill(world)
    merged, kept, sql = world.stats(), world.stats(cache=1_000_000), world.stats(index=False)
    query = world.compiled("message eq 'm'")
    cases = [
        ("1m", "UTC"),
        ("1h", "UTC"),
        ("1d", "UTC"),
        ("1d", "Europe/Berlin"),
        ("1w", "Asia/Kathmandu"),
        ("", "UTC"),
    ]
    for interval, zone in cases:
        wanted = Wanted(interval, zone, "component", 100)
        buckets = Counter(start_of(at, interval, zone) for at, _ in made) if interval else {}
        values = Counter(component for _, component in made)
        for stats, source in (
            (merged, Source.INDEX_AND_TAIL),
            (sql, Source.SQL),
            (kept, None),
            (kept, Source.CACHE_AND_TAIL),
        ):
            answer = world.run(stats.count(query, wanted))
            assert source in (None, answer.provenance.source)
            assert (400, buckets, values) == (answer.counts.total, answer.counts.buckets, answer.counts.values)


def test_nothing_found_is_counted_as_nothing(world: Any) -> None:
    world.store("m")
    for stats in (world.stats(), world.stats(index=False)):
        answer = world.run(stats.count(world.compiled("message eq 'x'"), Wanted("1d", "UTC", "email", 10)))
        assert (answer.counts.total, dict(answer.counts.buckets), dict(answer.counts.values)) == (0, {}, {})


@pytest.mark.slow
def test_more_values_than_the_index_can_count_exactly_are_counted_by_postgresql(world: Any) -> None:
    world.execute(
        "INSERT INTO event (id, email, environment, component, message, data) SELECT gen_random_uuid(),"
        " 'user' || i % 10100 || '@b.c', 'e', 'c', 'm', '{}' FROM generate_series(1, 20000) AS i"
    )
    world.index_all()
    joined = world.joined()
    answer = world.run(Stats(world.reader(), joined).count(world.compiled(""), Wanted("", "UTC", "email", 3)))
    assert (
        answer.provenance.source, answer.provenance.reason, answer.counts.total,
    ) == (Source.SQL, "too many values", 20_000)  # fmt: skip
    assert {2} == set(list(answer.counts.values.values())[:3])
    assert joined.obstacle == ""  # the index is well: other searches still go there


def test_without_postgresql_eventual_counts_are_given(world: Any) -> None:
    world.store("m")
    world.index_all()
    stats = world.stats()
    stats._reader = world.reader("postgresql://postgres@127.0.0.1:1/none")
    answer = world.run(stats.count(world.compiled(""), Wanted("", "UTC", "", 3), strong=False))
    assert answer.counts.total == 1
