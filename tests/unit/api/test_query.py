"""GET /query explains a query, or says what is wrong with it."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from falcon import testing
from falcon.asgi import App

from eventsvc.api import problems
from eventsvc.api.query import QueryResource, tree
from eventsvc.query import ast
from eventsvc.search.query_thread import QueryThread


@pytest.fixture
def client() -> testing.TestClient:
    app: Any = App()
    problems.install(app)
    app.add_route("/query", QueryResource(QueryThread(), None))  # type: ignore[arg-type]  # without paths=true it asks no store
    return testing.TestClient(app)


def explain(client: testing.TestClient, q: str, **parameters: str) -> Any:
    return client.simulate_get("/query", params={"q": q, **parameters})


def test_it_shows_what_each_store_is_asked(client: testing.TestClient) -> None:
    answer = explain(client, "(message ct 'Buyer') AND (createdAt eq '2018-1-1')", tz="Europe/Berlin")
    assert answer.status_code == 200
    found = answer.json
    span = "2017-12-31T23:00:00.000Z/2018-01-01T23:00:00.000Z"
    assert found["query"] == f"message ct 'Buyer' AND createdAt eq '{span}'"
    assert found["tz"] == "Europe/Berlin"
    assert found["tree"] == {
        "and": [
            {"field": "message", "ct": "Buyer"},
            {"field": "createdAt", "from": "2017-12-31T23:00:00.000Z", "before": "2018-01-01T23:00:00.000Z"},
        ]
    }
    assert found["elasticsearch"]["bool"]["filter"][0] == {"match_phrase": {"terms.message": "buy uye yer"}}
    assert found["sql"]["text"].count("%s") == len(found["sql"]["parameters"]) == 3
    assert found["sql"]["parameters"][0] == "%buyer%"


def test_what_the_index_cannot_say_is_null(client: testing.TestClient) -> None:
    assert explain(client, f"email ct '{'a' * 300}'").json["elasticsearch"] is None


@pytest.mark.parametrize("q", ["", "  ", "email = 'x'", "message ct buyer", "email eq '\U0001f600' and", "\u00a0"])
def test_a_wrong_query_is_shown_with_a_caret(client: testing.TestClient, q: str) -> None:
    answer = explain(client, q)
    assert answer.status_code == 400
    problem = answer.json
    assert problem["type"].endswith("#invalid-query")
    line, caret = problem["excerpt"].split("\n")
    assert caret.strip() in {"^", "^^^", "^^^^^"}
    assert caret.index("^") <= len(line)
    assert problem["column"] == problem["offset"] + 1


def test_unknown_zones_and_parameters_are_refused(client: testing.TestClient) -> None:
    assert explain(client, "id exists", tz="Mars/Olympus").json["parameter"] == "tz"
    assert explain(client, "id exists", zone="UTC").status_code == 400


def test_every_node_has_a_form() -> None:
    path = ast.Path(("a", "b c"))
    nodes = (
        ast.Equal(path, ast.Boolean(True)),
        ast.In(path, (ast.Null(), ast.Number(Decimal("1.5")), ast.Text("x"))),
        ast.StartsWith(ast.Name("email"), "x"),
        ast.Range(path, ast.Order.LTE, ast.Number(Decimal(2))),
        ast.Not(ast.Exists(path)),
        ast.Created(None, 0),
    )
    assert tree(ast.Or(nodes)) == {
        "or": [
            {"field": "data", "path": ["a", "b c"], "eq": True},
            {"field": "data", "path": ["a", "b c"], "in": [None, 1.5, "x"]},
            {"field": "email", "sw": "x"},
            {"field": "data", "path": ["a", "b c"], "lte": 2.0},
            {"not": {"field": "data", "path": ["a", "b c"], "exists": True}},
            {"field": "createdAt", "before": "1970-01-01T00:00:00.000Z"},
        ]
    }
