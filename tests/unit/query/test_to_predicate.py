"""The test of single events: its meaning is proved in tests/integration/language; here is what it costs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import orjson
import pytest

from eventsvc.event import Event
from eventsvc.query.parse import parse
from eventsvc.query.to_predicate import Candidate, to_predicate
from tests.timing import least_seconds

# The largest queries and data that are allowed; each pair once took a second or more.
_HEAVY = {
    "in": (f"data.a in ({','.join(map(str, range(1020)))})", {"a": list(range(2000, 12_500))}),
    "eq": (" OR ".join(f"data.a eq {n}" for n in range(440)), {"a": list(range(10_000, 20_000))}),
    "ne": (" AND ".join(f"data.a ne '{n}'" for n in range(400)), {"a": [f"t{n}" for n in range(7_000)]}),
    "ct": (" OR ".join(f"data.a ct 'x{n}'" for n in range(400)), {"a": [f"t{n}" for n in range(7_000)]}),
    "gt": (" OR ".join(f"data.a gt {n}" for n in range(99_500, 99_900)), {"a": list(range(10_000))}),
    "paths": (" OR ".join(f"data.a.k{n} eq 1" for n in range(400)), {"a": [{"b": n} for n in range(5_000)]}),
}


@pytest.mark.parametrize("name", _HEAVY)
def test_the_largest_query_and_the_largest_event_take_little_time_together(
    name: str, make_event: Callable[..., Event]
) -> None:
    query, data = _HEAVY[name]
    matches = to_predicate(parse(query, now=0))
    text = orjson.dumps(data).decode()
    assert least_seconds(lambda: matches(Candidate(make_event(data=text)))) < 0.15
    assert matches(Candidate(make_event(data=text))) == (name == "ne")


def test_a_message_is_folded_once_for_all_comparisons(make_event: Callable[..., Event]) -> None:
    matches = to_predicate(parse(" OR ".join(f"message ct 'x{n}'" for n in range(380)), now=0))
    message = "\N{LATIN CAPITAL LETTER I WITH DOT ABOVE}" + "A" * 8000
    assert not matches(Candidate(make_event(message=message)))
    assert least_seconds(lambda: matches(Candidate(make_event(message=message)))) < 0.05


@pytest.mark.parametrize(
    ("query", "data", "expected"),
    [
        ("data.a eq true", {"a": 1}, False),
        ("data.a eq 1", {"a": True}, False),
        ("data.a in (1, null, 'x')", {"a": [[None]]}, True),
        ("data.a ct 'bc'", {"a": ["ab", "cd"]}, False),
        ("data.a sw 'B'", {"a": ["ab", "bc"]}, True),
        ("data.a sw 'b'", {"a": ["ab", 7]}, False),
        ("data.a gt 'b'", {"a": ["a", "c", 9]}, True),
        ("data.a lt 1", {"a": [3, "0", 0.5]}, True),
        ("data.a exists", {"a": []}, False),
        ("data.a.b exists", {"a": [[{"b": None}], 1]}, True),
        ("NOT data.a.b gte 1", {"a": 1}, True),
    ],
)
def test_the_kinds_of_values_stay_apart(
    query: str, data: Any, *, expected: bool, make_event: Callable[..., Event]
) -> None:
    assert to_predicate(parse(query, now=0))(Candidate(make_event(data=orjson.dumps(data).decode()))) is expected
