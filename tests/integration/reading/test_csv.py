"""Events as CSV: whole, readable by other programs, and harmless in spreadsheets."""

from __future__ import annotations

import csv
import io
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventsvc.api.csv import Csv, defuse

CSV = {"Accept": "text/csv"}
TRICKY = st.text(st.sampled_from("=+-@\t\r\n,;\"'aä😀＝ 1"), min_size=1, max_size=6)  # noqa: RUF001


def rows(text: str) -> list[list[str]]:
    return list(csv.reader(io.StringIO(text, newline=""), strict=True))


@given(TRICKY, TRICKY)
def test_every_cell_comes_back_and_none_begins_a_formula(message: str, component: str) -> None:
    class Event:
        data = json.dumps([message])

        def to_json(self) -> dict[str, str]:
            return {"message": message, "component": component}

    form = Csv(("message", "component", "data"))
    written = (form.begin() + form.write([Event()])).decode()  # type: ignore[list-item]
    header, row = rows(written)
    assert ["message", "component", "data"] == header
    assert all(cell[0] not in "=+-@\t\r\n＝＋－＠" for cell in row)  # noqa: RUF001
    assert [defuse(message), defuse(component), json.dumps([message])] == row


def test_all_matching_events_come_as_rows(world: Any, api: Any) -> None:
    world.store(*(f"m{number}" for number in range(1500)), component="orders", data='{"a": "x,\\"y\\""}')
    world.index_all()
    world.store("=HYPERLINK(1)", "a\r\nb", component="orders")
    answer = api("GET", "/event", CSV, q="component eq 'orders'", fields="message,data", order="asc", trailer="true")
    found = rows(answer.text)
    assert ["message", "data"] == found[0]
    assert [[f"m{number}", '{"a": "x,\\"y\\""}'] for number in range(1500)] == found[1:1501]
    assert [["'=HYPERLINK(1)", "{}"], ["a\r\nb", "{}"], ["#count", "1502"]] == found[1501:]
    assert "text/csv; charset=utf-8; header=present" == answer.headers["content-type"]
    assert "content-disposition" not in answer.headers
    assert 4 == len(rows(api("GET", "/event", CSV, limit=3).text))


@pytest.mark.parametrize(
    ("accept", "download", "content", "name"),
    [
        ("*/*", "true", "application/json", "events.json"),
        ("text/csv;q=0.9, application/x-ndjson", "true", "application/x-ndjson", "events.ndjson"),
        ("text/html, */*;q=0.8", "csv", "text/csv", "events.csv"),
        ("application/csv", "no", None, None),
    ],
)
def test_answers_are_files_on_request(api: Any, accept: str, download: str, content: Any, name: Any) -> None:
    answer = api("GET", "/event", {"Accept": accept}, download=download)
    if name is None:
        assert (400, "download") == (answer.status_code, answer.json["parameter"])
    else:
        assert content == answer.headers["content-type"].partition(";")[0]
        assert f'attachment; filename="{name}"' == answer.headers["content-disposition"]


def test_a_stream_that_breaks_off_does_not_look_whole() -> None:
    problem = {"title": "PostgreSQL cannot be reached", "detail": "gone"}
    assert [["#error", "PostgreSQL cannot be reached: gone"]] == rows(Csv(("id",)).break_off(problem).decode())
