"""A place in data that no event has is not passed over in silence: explain names those that are called alike."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import parse_qsl

import pytest

from eventsvc.query.parse import parse
from eventsvc.search.paths import paths_in
from tests.integration.reading.test_pages import relation

DATA = {"level": "error", "http.method": "GET", "user": {"Name": "d", "id": 7}, "items": [{"sku": "A"}]}


@pytest.fixture
def told(world: Any, api: Any) -> Any:
    """Asks about a query's places, of one event in the index and one in the tail."""
    world.store("m", data=json.dumps(DATA))
    world.index_all()
    world.store("m", data=json.dumps({"level": 1, "late": True}))

    def ask(query: str) -> list[tuple[str, bool | None, list[str]]]:
        answer = api("GET", "/query", q=query, paths="true")
        assert answer.status_code == 200, answer.text
        return [(one["path"], one["exists"], one["near"]) for one in answer.json["paths"]]

    return ask


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("data.lvel eq 'error'", [("data.lvel", False, ["data.level"])]),
        ("data.LEVEL exists", [("data.LEVEL", False, ["data.level"])]),
        ("data.method eq 'GET'", [("data.method", False, ["data.http.method"])]),
        ("data.user.name eq 'd'", [("data.user.name", False, ["data.user.Name"])]),
        ("data.unheard exists", [("data.unheard", False, [])]),
        ("data.http.method eq 'POST' AND NOT data.late exists",
         [("data.http.method", True, []), ("data.late", True, [])]),
        ("data.items.0.sku eq 'B' OR data.items.1.sku eq 'B'",
         [("data.items.0.sku", True, []), ("data.items.1.sku", False, ["data.items.sku"])]),
        ("message ct 'x' AND data ct 'x'", []),
    ],
)  # fmt: skip
def test_places_that_no_event_has_are_named_with_those_called_alike(told: Any, query: str, expected: Any) -> None:
    assert told(query) == expected


def test_an_empty_page_leads_to_the_reason(told: Any, api: Any) -> None:
    empty = api("GET", "/event", q="data.lvel eq 'error'", tz="Europe/Berlin")
    path, _, query = (relation(empty, "help") or "").partition("?")
    assert (path, empty.json) == ("/query", [])
    assert api("GET", path, **dict(parse_qsl(query))).json["paths"][0]["near"] == ["data.level"]
    for q in ("data.level eq 'error'", "message eq 'none'", f"data.lvel eq '{'x' * 2000}'"):
        assert relation(api("GET", "/event", q=q), "help") is None
    assert "paths" not in api("GET", "/query", q="data.lvel exists").json


def test_each_place_is_looked_up_once() -> None:
    node = parse(
        "(data.a exists OR NOT data.a eq 1) AND createdAt gte now AND occurredAt lt now AND data.b.c sw 'x'", now=0
    )
    assert [path.keys for path in paths_in(node)] == [("a",), ("b", "c")]
