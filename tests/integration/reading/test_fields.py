"""The paths that matching events have."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from eventsvc.query import ast
from eventsvc.query.parse import parse
from eventsvc.query.render import render
from eventsvc.query.to_predicate import Candidate, to_predicate
from eventsvc.search import paths

KEYS = st.sampled_from(["a", "b", "a.b", "user id", "it's", "ä"])
DATA = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3),
    max_leaves=8,
)


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.dictionaries(KEYS, DATA, max_size=4), st.lists(KEYS, min_size=1, max_size=3).map(tuple))
def test_a_path_is_listed_exactly_when_a_query_finds_it(make_event: Any, data: Any, keys: tuple[str, ...]) -> None:
    event = make_event(data=json.dumps(data))
    found = paths.paths_of(event.parsed_data())
    for path in {*found, ast.path(keys).keys}:
        node = ast.Exists(ast.path(path))
        assert (path in found) == to_predicate(parse(render(node), now=0))(Candidate(event))


def test_paths_have_counts_types_and_examples(world: Any, api: Any) -> None:
    for data in (
        {"level": "info", "http": {"status": 200}},
        {"level": "error", "tags": ["x", 1, "x"], "large": 2**70},
        {"level": None, "user id": True, "http": {"status": 404}},
        ["no object"],
    ):
        world.store("m", data=json.dumps(data), component="orders")
    world.index_all()
    world.store("m", data='{"level": "info", "amount": 0.1}', component="orders")
    world.store("m", data='{"hidden": 1}', component="others")
    answer = api("GET", "/event/fields", q="component eq 'orders'")
    assert {
        "data.level": (4, {"string": 3, "null": 1}, ["info", "error"]),
        "data.http": (2, {"object": 2}, []),
        "data.http.status": (2, {"number": 2}, [404, 200]),
        "data.tags": (1, {"string": 1, "number": 1}, ["x", 1]),
        "data.large": (1, {"number": 1}, [2**70]),
        "data.'user id'": (1, {"boolean": 1}, [True]),
        "data.amount": (1, {"number": 1}, [0.1]),
    } == {each["path"]: (each["count"], each["types"], each["examples"]) for each in answer.json}
    assert answer.json[0]["path"] == "data.level"
    assert ("all 5", "index+tail") == (answer.headers["eventsvc-examined"], answer.headers["eventsvc-source"])


def test_only_the_newest_are_looked_at_and_that_is_said(world: Any, api: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(paths, "_PAGE", 3)
    for number in range(10):
        world.store("m", data=f'{{"n{number}": 1}}')
    answer = api("GET", "/event/fields", newest=7)
    assert ({f"data.n{number}" for number in range(3, 10)}, "newest 7") == (
        {each["path"] for each in answer.json},
        answer.headers["eventsvc-examined"],
    )
    assert "all 10" == api("GET", "/event/fields", newest=10).headers["eventsvc-examined"]


def test_more_paths_than_can_be_listed_are_an_error(world: Any, api: Any) -> None:
    for number in range(3):
        world.store("m", data=json.dumps({f"k{number}-{key}": 1 for key in range(4000)}))
    answer = api("GET", "/event/fields")
    assert (400, True) == (answer.status_code, "10,000" in answer.json["detail"])
    assert len(api("GET", "/event/fields", newest=2).json) == 8000
