"""The log as it was: ``asOf`` gives the same answer whenever it is asked."""

from __future__ import annotations

import json
import threading
from typing import Any

import pytest

from eventsvc.log.connection import connect
from eventsvc.log.read import reader
from eventsvc.paging import PageRequest
from eventsvc.search.counts import CountRequest

NDJSON = {"Accept": "application/x-ndjson"}
QUERY = "environment eq 'test'"


def texts(response: Any) -> list[str]:
    assert response.status_code == 200, response.text
    return [event["message"] for event in response.json]


def newest_seq(response: Any) -> str:
    return str(int(response.headers["eventsvc-watermark"]) + int(response.headers["eventsvc-lag"]))


def test_a_frozen_answer_stays_the_same_from_either_store(world: Any, api: Any) -> None:
    """The bound lies in the tail, in the index, and in a log without an index."""
    world.store("a", "b", component="one")
    world.index_all()
    world.store("c", component="two")
    seq = newest_seq(api("GET", "/event", q=QUERY))
    world.store("d", "e", component="three")
    for bound, expected in ((seq, ["c", "b", "a"]), (seq, ["c", "b", "a"]), ("1", ["a"])):
        frozen = api("GET", "/event", q=QUERY, asOf=bound, count="true")
        assert (texts(frozen), frozen.headers["x-total-count"]) == (expected, str(len(expected)))
        assert frozen.headers["eventsvc-source"].endswith("+tail")
        stats = api("GET", "/event/stats", q=QUERY, asOf=bound, by="component").json
        assert stats["count"] == len(expected)
        assert {one["value"] for one in stats["top"]} == {"one", "two"} - ({"two"} if bound == "1" else set())

    query = world.compiled(QUERY).frozen(int(seq))
    page = world.run(world.search(index=False).find(query, PageRequest(10)))
    counts = world.run(world.stats(index=False).count(query, CountRequest()))
    assert ([event.message for event in page.events], page.provenance.source) == (["c", "b", "a"], "sql")
    assert (counts.total, counts.provenance.source) == (3, "sql")


def test_pages_lines_and_bodies_are_frozen_and_a_cursor_belongs_to_its_seq(world: Any, api: Any) -> None:
    (*_, seq) = world.store(*"abcd")
    world.store("later")
    first = api("GET", "/event", limit=3, asOf=seq)
    cursor = first.headers["link"].partition("cursor=")[2].partition(">")[0]
    assert f"asOf={seq}&" in first.headers["link"]
    assert texts(first) + texts(api("GET", "/event", limit=3, asOf=seq, cursor=cursor)) == [*"dcba"]
    for other in ({}, {"asOf": seq + 1}):
        assert api("GET", "/event", limit=3, cursor=cursor, **other).status_code == 400
    lines = api("GET", "/event", NDJSON, asOf=seq, order="asc", trailer="true").text.splitlines()
    assert json.loads(lines[-1]) == {"count": 4}
    assert texts(api("QUERY", "/event", {"Content-Type": "text/plain"}, QUERY, asOf=seq)) == [*"dcba"]


def test_a_copy_of_the_frozen_answer_is_none_of_another(world: Any, api: Any) -> None:
    world.store("a", "b")
    etag = {"If-None-Match": api("GET", "/event", asOf=2).headers["etag"]}
    assert api("GET", "/event", etag, asOf=2).status_code == 304
    assert texts(api("GET", "/event", etag, asOf=1)) == ["a"]
    assert texts(api("GET", "/event", etag)) == ["b", "a"]


def test_whoever_freezes_an_answer_waits_for_an_event_that_is_still_being_written(
    world: Any, api: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    late = connect(world.settings.database_url.get_secret_value())
    with late.cursor() as cursor:
        cursor.execute(
            "BEGIN; INSERT INTO event (id, email, environment, component, message, data)"
            " VALUES (gen_random_uuid(), 'a@b.c', 'e', 'c', 'late', '{}')"
        )
        (seq,) = world.store("a")
        monkeypatch.setattr(reader, "_LATE_WRITERS", 0.0)
        assert api("GET", "/event", asOf=seq).status_code == 503
        monkeypatch.setattr(reader, "_LATE_WRITERS", 60.0)
        timer = threading.Timer(0.1, lambda: cursor.execute("COMMIT"))
        timer.start()
        assert set(texts(api("GET", "/event", asOf=seq))) == {"late", "a"}
        timer.join()
    late.close()


def test_an_impossible_seq_is_refused(world: Any, api: Any) -> None:
    world.store("a")
    for parameters, status, hint in (
        ({"asOf": "now"}, 400, "whole number"),
        ({"asOf": "-1"}, 400, "whole number"),
        ({"asOf": "9" * 19}, 400, "whole number"),
        ({"asOf": "1", "consistency": "eventual"}, 400, "consistency=strong"),
        ({"asOf": "2"}, 422, "the log ends at seq 1"),
    ):
        for path in ("/event", "/event/stats", "/event/fields"):
            answer = api("GET", path, **parameters)
            assert (answer.status_code, hint in answer.json["detail"]) == (status, True), answer.text
    assert texts(api("GET", "/event", asOf="0")) == []
