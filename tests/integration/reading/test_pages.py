"""GET and QUERY /event as clients see them."""

from __future__ import annotations

import json
import re
import threading
from base64 import urlsafe_b64encode
from typing import Any

import pytest

from eventsvc.access.rights import EVERYTHING
from eventsvc.api import cursor
from eventsvc.log.connection import connect

NDJSON = {"Accept": "application/x-ndjson"}


def relation(response: Any, name: str) -> str | None:
    found = re.search(rf'<([^>]*)>; rel="{name}"', response.headers["link"])
    return found[1] if found else None


def follow(api: Any, response: Any, **options: Any) -> Any:
    path, _, query = (relation(response, "next") or "").partition("?")
    from urllib.parse import parse_qsl

    return api("GET", path, **options, **dict(parse_qsl(query)))


def texts(response: Any) -> list[str]:
    return [event["message"] for event in response.json]


def test_pages_are_linked_and_hold_each_event_once_while_writers_are_busy(world: Any, api: Any) -> None:
    world.store(*(f"m{number}" for number in range(40)))
    world.index_all()
    world.store(*(f"m{number}" for number in range(40, 60)))
    stop = threading.Event()

    def write() -> None:
        connection = connect(world.settings.database_url.get_secret_value())
        with connection.cursor() as cursor:
            while not stop.is_set():
                cursor.execute(
                    "INSERT INTO event (id, email, environment, component, message, data)"
                    " VALUES (gen_random_uuid(), 'a@b.c', 'test', 'c', 'new', '{}')"
                )
        connection.close()

    writer = threading.Thread(target=write)
    writer.start()
    try:
        seen: list[str] = []
        response = api("GET", "/event", q="environment eq 'test'", limit=7)
        while True:
            seen += [event["id"] for event in response.json if event["message"] != "new"]
            if relation(response, "next") is None:
                break
            response = follow(api, response)
    finally:
        stop.set()
        writer.join()
    assert 60 == len(seen) == len(set(seen))


def test_a_clock_that_steps_back_while_pages_are_turned_loses_and_doubles_nothing_that_was_there(
    world: Any, api: Any
) -> None:
    """As the documentation says: what is stored then lies where its time says, before or behind the reader."""
    now = 1_790_000_000_000
    for place, message in enumerate("abcdef"):
        world.store(message, at=now + place)
    world.index_all()
    newest, oldest = (api("GET", "/event", limit=2, q="environment eq 'test'", order=o) for o in ("desc", "asc"))
    world.store("late", at=now)  # the clock has been put back
    world.index_all()
    seen = {"desc": texts(newest), "asc": texts(oldest)}
    for order, response in (("desc", newest), ("asc", oldest)):
        while relation(response, "next"):
            response = follow(api, response)  # noqa: PLW2901
            seen[order] += texts(response)
    assert seen == {"desc": ["f", "e", "d", "c", "b", "late", "a"], "asc": list("abcdef")}


def test_a_clock_that_steps_back_into_a_month_that_is_gone_stores_events_that_are_found(world: Any, api: Any) -> None:
    world.store("long ago", at=1_000_000_000_000)
    assert world.execute("SELECT count(*) FROM event_default") == [(1,)]
    for _ in range(2):
        assert texts(api("GET", "/event", q="createdAt lt '2002-01-01' AND message ct 'ago'")) == ["long ago"]
        world.index_all()


def test_the_first_page_is_linked_from_every_other(world: Any, api: Any) -> None:
    world.store("a", "b")
    second = follow(api, api("GET", "/event", limit=1, order="asc"))
    assert (texts(second), relation(second, "first")) == (["b"], "/event?limit=1&order=asc")


def test_a_page_counts_all_and_shows_what_was_asked_for(world: Any, api: Any) -> None:
    world.store("a", "b", "c")
    world.index_all()
    world.store("d")
    response = api("GET", "/event", count="true", limit=2, fields="message, component")
    assert (
        response.headers["x-total-count"], response.json,
    ) == ("4", [{"message": "d", "component": "orders"}, {"message": "c", "component": "orders"}])  # fmt: skip


def test_relative_times_stand_still_while_pages_are_turned(world: Any, api: Any) -> None:
    world.store(*"abc")
    query = "createdAt lte now"
    response = api("GET", "/event", q=query, limit=1)
    assert texts(response) == ["c"]
    world.store("d")
    assert texts(follow(api, response)) == ["b"]


@pytest.mark.parametrize(
    "change",
    [
        {"cursor": "abc"},
        {"cursor": "é"},
        {"cursor": ""},
        {"q": "message eq 'b'"},
        {"order": "asc"},
        {"tz": "Europe/Berlin"},
    ],
)
def test_a_cursor_of_another_query_or_made_by_hand_is_refused(world: Any, api: Any, change: Any) -> None:
    world.store("a", "b")
    found = re.search("cursor=([^&>]*)", api("GET", "/event", limit=1).headers["link"])
    assert found is not None
    response = api("GET", "/event", **({"limit": 1, "cursor": found[1]} | change))
    assert (response.status_code, response.json["parameter"]) == (400, "cursor")


def test_a_cursor_with_one_letter_changed_is_refused(world: Any, api: Any) -> None:
    world.store("a", "b")
    found = re.search("cursor=([^&>]*)", api("GET", "/event", limit=1).headers["link"])
    assert found is not None
    for place in range(len(found[1])):
        letter = "A" if found[1][place] != "A" else "B"
        forged = found[1][:place] + letter + found[1][place + 1 :]
        assert api("GET", "/event", limit=1, cursor=forged).status_code == 400


@pytest.mark.parametrize("place", ["now", "created_at", "seq"])
@pytest.mark.parametrize("value", [2**63 - 1, -(2**63), -1])
def test_a_forged_cursor_with_impossible_numbers_is_refused(api: Any, place: str, value: int) -> None:
    """Its digest is no secret: anybody can read how it is made."""
    numbers = {"now": 1_700_000_000_000, "created_at": 1_700_000_000_000, "seq": 7} | {place: value}
    content = cursor._CURSOR.pack(1, numbers["now"], 0, numbers["created_at"], numbers["seq"])
    forged = urlsafe_b64encode(
        content + cursor._digest(content, {"q": "createdAt gte 'now-1d'"}, EVERYTHING.visible_part)
    ).decode()
    response = api("GET", "/event", q="createdAt gte 'now-1d'", cursor=forged)
    possible = (place, value) in {("created_at", -1), ("seq", 2**63 - 1)}
    assert response.status_code == (200 if possible else 400), response.text


@pytest.mark.parametrize(
    ("parameters", "name", "hint"),
    [
        ({"limt": 1}, "limt", "did you mean limit?"),
        ({"limit": 0}, "limit", "1 to 1,000"),
        ({"limit": 1001}, "limit", "1 to 1,000"),
        ({"limit": "1e2"}, "limit", "whole number"),
        ({"order": "up"}, "order", "desc or asc"),
        ({"fields": "mesage"}, "fields", "did you mean message?"),
        ({"fields": ""}, "fields", "no field"),
        ({"count": "maybe"}, "count", "true or false"),
        ({"consistency": "weak"}, "consistency", "strong or eventual"),
        ({"tz": "Mars/Olympus"}, "tz", "IANA"),
        ({"limit": [1, 2]}, "limit", "more than once"),
    ],
)
def test_a_parameter_that_makes_no_sense_is_refused(api: Any, parameters: Any, name: str, hint: str) -> None:
    response = api("GET", "/event", **parameters)
    assert (400, name) == (response.status_code, response.json["parameter"])
    assert hint in response.json["detail"]


def test_an_unchanged_answer_is_not_sent_again(world: Any, api: Any) -> None:
    world.store("a")
    first = api("GET", "/event", q="message eq 'a'")
    etag = {"If-None-Match": first.headers["etag"]}
    assert api("GET", "/event", headers=etag, q="message eq 'a'").status_code == 304
    world.index_all()
    assert api("GET", "/event", headers=etag, q="message eq 'a'").status_code == 304
    assert api("GET", "/event", headers=etag, q="message eq 'b'").status_code == 200
    assert api("GET", "/event", headers=etag, q="message eq 'a'", limit=5).status_code == 200
    world.store("b")
    assert api("GET", "/event", headers=etag, q="message eq 'a'").status_code == 200


def test_an_answer_without_a_late_commit_has_no_etag_that_could_outlive_it(world: Any, api: Any) -> None:
    late = connect(world.settings.database_url.get_secret_value())
    with late.cursor() as cursor:
        cursor.execute(
            "BEGIN; INSERT INTO event (id, email, environment, component, message, data)"
            " VALUES (gen_random_uuid(), 'a@b.c', 'e', 'c', 'late', '{}')"
        )
        world.store("a")
        response = api("GET", "/event")
        assert (texts(response), response.headers.get("etag")) == (["a"], None)
        cursor.execute("COMMIT")
    late.close()
    assert {"a", "late"} == set(texts(api("GET", "/event")))


def test_erasing_changes_the_etag(world: Any, api: Any) -> None:
    (seq,) = world.store("a")
    etag = {"If-None-Match": api("GET", "/event").headers["etag"]}
    world.execute("DELETE FROM event WHERE seq = %s; UPDATE erasure_epoch SET epoch = epoch + 1", (seq,))
    assert api("GET", "/event", headers=etag).status_code == 200


def test_a_query_may_be_the_body(world: Any, api: Any) -> None:
    world.store("a", "b")
    response = api("QUERY", "/event", {"Content-Type": "text/plain"}, "message eq 'b'", limit=5)
    assert (texts(response), response.headers["accept-query"]) == (["b"], "text/plain")
    assert api("QUERY", "/event", {"Content-Type": "text/html"}, "message eq 'b'").status_code == 415
    assert api("QUERY", "/event", {"Content-Type": "text/plain"}, "message eq").status_code == 400
    assert api("QUERY", "/event", {"Content-Type": "text/plain"}, "x" * 70_000).status_code == 413


def lines(response: Any) -> list[Any]:
    assert response.text.endswith("\n")
    return [json.loads(line) for line in response.text.splitlines()]


@pytest.mark.parametrize("order", ["asc", "desc"])
def test_a_stream_holds_everything_and_says_that_it_is_whole(world: Any, api: Any, order: str) -> None:
    world.store(*(f"m{number}" for number in range(1500)))
    world.index_all()
    world.store(*(f"m{number}" for number in range(1500, 2500)))
    response = api("GET", "/event", NDJSON, order=order, trailer="true", fields="message", q="message sw 'M'")
    *events, trailer = lines(response)
    expected = [{"message": f"m{number}"} for number in range(2500)]
    assert ({"count": 2500}, expected if order == "asc" else expected[::-1]) == (trailer, events)


def test_an_empty_stream_is_empty_and_its_trailer_says_so(api: Any) -> None:
    assert api("GET", "/event", NDJSON).text == ""
    assert lines(api("GET", "/event", NDJSON, trailer="true")) == [{"count": 0}]


def test_a_stream_may_be_limited(world: Any, api: Any) -> None:
    world.store(*"abc")
    assert [event["message"] for event in lines(api("GET", "/event", NDJSON, limit=2))] == ["c", "b"]


def test_large_events_make_smaller_pages(world: Any, api: Any) -> None:
    world.store(*(f"m{number}" for number in range(300)), data=json.dumps({"x": "y" * 60_000}))
    response = api("GET", "/event", NDJSON, trailer="true", fields="message")
    assert lines(response)[-1] == {"count": 300}


def test_an_unknown_id_is_not_found(api: Any) -> None:
    for event_id in ("00000000-0000-4000-8000-000000000000", "nonsense"):
        assert api("GET", f"/event/{event_id}").status_code == 404


def test_headers_say_what_was_used(world: Any, api: Any) -> None:
    world.store("a")
    world.index_all()
    world.store("b")
    first, second = (api("GET", "/event", q="environment eq 'test'").headers for _ in range(2))
    assert (
        first["eventsvc-source"], second["eventsvc-source"], first["eventsvc-watermark"], first["eventsvc-lag"],
    ) == ("index+tail", "cache+tail", "1", "1")  # fmt: skip
    eventual = api("GET", "/event", q="environment eq 'test'", consistency="eventual")
    assert (eventual.headers["eventsvc-source"], texts(eventual)) == ("index", ["a"])
