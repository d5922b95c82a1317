"""Counts that add up, wherever the events lie."""

from __future__ import annotations

import json
import random
from collections import Counter
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from eventsvc.query import ast
from eventsvc.search.both_stores import Source
from eventsvc.search.counts import STEPS, CountRequest
from eventsvc.search.stats import Stats

# Both changes of the clock of 2026 in Berlin, and the turn of the year, whose week belongs to both.
MOMENTS = [
    int(datetime(*parts, tzinfo=UTC).timestamp() * 1000)
    for parts in [(2026, 3, 28, 12), (2026, 10, 24, 12), (2026, 12, 30, 12)]
]


COMPONENT, EMAIL = ast.Name("component"), ast.Name("email")


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
        wanted = CountRequest(interval, zone, (COMPONENT,), 100)
        buckets = Counter(start_of(at, interval, zone) for at, _ in made) if interval else {}
        values = Counter((f"s:{component}",) for _, component in made)
        for stats, source in (
            (merged, Source.INDEX_AND_TAIL),
            (sql, Source.SQL),
            (kept, None),
            (kept, Source.CACHE_AND_TAIL),
        ):
            answer = world.run(stats.count(query, wanted))
            assert source in (None, answer.provenance.source)
            assert (400, buckets, values) == (answer.total, answer.buckets, answer.values)


def test_nothing_found_is_counted_as_nothing(world: Any) -> None:
    world.store("m")
    for stats in (world.stats(), world.stats(index=False)):
        answer = world.run(stats.count(world.compiled("message eq 'x'"), CountRequest("1d", "UTC", (EMAIL,))))
        assert (answer.total, dict(answer.buckets), dict(answer.values)) == (0, {}, {})


@pytest.mark.slow
def test_more_values_than_the_index_can_count_exactly_are_counted_by_postgresql(world: Any) -> None:
    world.execute(
        "INSERT INTO event (id, email, environment, component, message, data) SELECT gen_random_uuid(),"
        " 'user' || i % 10100 || '@b.c', 'e', 'c', 'm', '{}' FROM generate_series(1, 20000) AS i"
    )
    world.index_all()
    stores = world.both_stores()
    answer = world.run(Stats(world.reader(), stores).count(world.compiled(""), CountRequest(by=(EMAIL,), top=3)))
    assert (
        answer.provenance.source, answer.provenance.reason, answer.total,
    ) == (Source.SQL, "too many values", 20_000)  # fmt: skip
    assert {2} == set(list(answer.values.values())[:3])
    assert stores.unavailable_because == ""  # the index is well: other searches still go there


def test_without_postgresql_eventual_counts_are_given(world: Any) -> None:
    world.store("m")
    world.index_all()
    stats = world.stats()
    stats._reader = world.reader("postgresql://postgres@127.0.0.1:1/none")
    answer = world.run(stats.count(world.compiled(""), CountRequest(), strong=False))
    assert answer.total == 1


def test_counts_over_http_have_values_buckets_and_what_is_left(world: Any, api: Any) -> None:
    noon = 1_790_000_000_000 - 1_790_000_000_000 % 86_400_000
    for hour, level in enumerate(["info", "info", "error", 10, True, None, ["info", "error"], {"x": 1}]):
        world.store("m", at=noon + hour * 3_600_000, component="orders", data=json.dumps({"level": level}))
    answer = api("GET", "/event/stats", by="data.level", interval="1d", top=2, distinct="email, data.level").json
    assert {
        "count": 8,
        "interval": "1d",
        "tz": "UTC",
        "time": "createdAt",
        "buckets": [{"start": "2026-09-21T00:00:00.000Z", "count": 8}],
        "by": "data.level",
        "top": [
            {"value": "info", "count": 3, "buckets": [{"start": "2026-09-21T00:00:00.000Z", "count": 3}]},
            {"value": "error", "count": 2, "buckets": [{"start": "2026-09-21T00:00:00.000Z", "count": 2}]},
        ],
        "other": 3,
        "missing": 1,
        "distinct": {"email": 1, "data.level": 5},
    } == answer
    both = api("GET", "/event/stats", by="component,data.level", limit=6).json
    assert "component,data.level" == both["by"]
    assert [["orders", "info"], ["orders", "error"]] == [entry["values"] for entry in both["top"][:2]]
    assert {"true", "null", "10"} == {json.dumps(entry["values"][1]) for entry in both["top"][2:]}


def test_values_that_the_index_cannot_list_are_counted_by_the_log(world: Any, api: Any) -> None:
    for value in ("x" * 4096, "y", "y", 7):
        world.store("m", data=json.dumps({"few": value, "many": {"long": value}}))
    world.store("m", data=json.dumps({"many": {"long": "x" * 4097}}))
    for number in range(11):
        world.store("m", data=json.dumps({"many": {"values": list(range(number * 100, number * 100 + 100))}}))
    world.index_all()
    for by, source, first, missing in [
        ("data.few", "index+tail", {"value": "y", "count": 2}, 12),
        ("data.many.long", "sql", {"value": "y", "count": 2}, 11),
        ("data.many.values", "sql", {"value": 0, "count": 1}, 5),
        ("data.none", "index+tail", None, 16),
        ("component,data.few", "index+tail", {"values": ["orders", "y"], "count": 2}, 12),
        ("data.few,data.many.long", "sql", {"values": ["y", "y"], "count": 2}, 12),
    ]:
        answer = api("GET", "/event/stats", by=by, top=1)
        assert (answer.headers["eventsvc-source"], answer.json["missing"]) == (source, missing), by
        assert answer.json["top"] == ([first] if first else []), by
    assert api("GET", "/event/stats", by="data.few", consistency="eventual").json["top"][0]["count"] == 2


def test_numbers_are_summed_up_exactly(world: Any, api: Any) -> None:
    for amount in ("0.1", "0.2", "[123456789012345678901, 7]", '"7"', "null"):
        world.store("m", data=f'{{"amount": {amount}}}')
    answer = api("GET", "/event/stats", numbers="data.amount,data.none", percentiles="0,50,100")
    numbers = json.loads(answer.text, parse_float=Decimal)["numbers"]
    large = 123456789012345678901
    assert {
        "data.amount": {
            "count": 4,
            "min": Decimal("0.1"),
            "max": large,
            "sum": large + Decimal("7.3"),
            "avg": Decimal("30864197253086419727.1"),  # sixteen digits and more
            "percentiles": {"0": Decimal("0.1"), "50": Decimal("0.2"), "100": large},
        },
        "data.none": {
            "count": 0,
            "min": None,
            "max": None,
            "sum": None,
            "avg": None,
            "percentiles": {"0": None, "50": None, "100": None},
        },
    } == numbers


@pytest.mark.parametrize(
    ("parameters", "said"),
    [
        ({"by": "level"}, "data.level"),
        ({"by": "id"}, "email"),
        ({"by": "data.a OR email"}, "by"),
        ({"by": "data.a, data.b, data.c, data.d, data.e"}, "at most 4"),
        ({"by": "email", "top": "3", "limit": "3"}, "another name of top"),
        ({"by": "email", "limit": "1001"}, "1,000"),
        ({"numbers": "email"}, "data.amount"),
        ({"percentiles": "50"}, "numbers"),
        ({"numbers": "data.a", "percentiles": "101"}, "from 0 to 100"),
        ({"numbers": "data.a", "percentiles": "nan"}, "from 0 to 100"),
        ({"time": "data.at"}, "createdAt"),
    ],
)
def test_what_cannot_be_counted_is_refused(api: Any, parameters: dict[str, str], said: str) -> None:
    answer = api("GET", "/event/stats", **parameters)
    assert (400, True) == (answer.status_code, said in answer.json["detail"]), answer.text


def test_more_stretches_of_time_than_the_index_takes_are_a_plain_error_and_it_is_asked_on(world: Any, api: Any) -> None:
    world.execute(
        "INSERT INTO event (id, created_at, email, environment, component, message, data) SELECT gen_random_uuid(),"
        " timestamptz '2026-11-01' + i % 9000 * interval '1 minute', 'a' || i / 9000 || '@b.c', 'e', 'c', 'm', '{}'"
        " FROM generate_series(0, 71999) AS i"
    )
    world.index_all()
    answer = api("GET", "/event/stats", by="email", interval="1m")
    assert (400, "interval") == (answer.status_code, answer.json["parameter"])
    after = api("GET", "/event/stats", by="email")
    assert ("index+tail", 8) == (after.headers["eventsvc-source"], len(after.json["top"]))
