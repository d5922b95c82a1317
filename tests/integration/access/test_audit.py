"""What keys are used for is in the log, for those with the right to see it, and in nobody's way."""

from __future__ import annotations

import json
import time
from typing import Any

AUDIT = "values"  # see the fixture world
EVENT = {"email": "a@b.c", "environment": "test", "component": "orders", "message": "hello"}
OF_AUDIT = "component eq 'eventsvc.audit'"


def _noted(world: Any, key: str) -> list[dict[str, Any]]:
    """Give the data of all audit events of a key, oldest first."""
    rows = world.fetch(
        "SELECT data::text FROM event WHERE component = 'eventsvc.audit' AND data #>> '{key,id}' = %s ORDER BY seq",
        key[:11],
    )
    return [json.loads(text) for (text,) in rows]


def _wait(world: Any, key: str, route: str, requests: int) -> list[dict[str, Any]]:
    """Wait until so many requests of a key are noted on a route; give what is noted there."""
    deadline = time.monotonic() + 60
    while True:
        found = [one for one in _noted(world, key) if one["route"] == route]
        if sum(one["requests"] for one in found) >= requests:
            assert sum(one["requests"] for one in found) == requests
            return found
        assert time.monotonic() < deadline, found
        time.sleep(0.1)


def test_what_a_key_is_used_for_is_noted_with_how_often_and_how_many(world: Any) -> None:
    key = world.make_key("read", "write", "erase")
    ask = world.service.ask
    assert [ask("POST", "/event", EVENT, key=key).status for _ in range(3)] == [201] * 3
    assert ask("GET", "/event", key=key, q="message eq 'hello'").status == 200
    assert ask("GET", "/metrics", key=key).status == 403
    erased = ask("POST", "/erasure", {"q": "message eq 'hello'", "reason": "test"}, key=key).json

    on_events = _wait(world, key, "/event", 4)
    posts = [one for one in on_events if one["method"] == "POST"]
    assert sum(one["events"] for one in posts) == sum(one["requests"] for one in posts) == 3
    (page,) = [one for one in on_events if one["method"] == "GET"]
    assert (page["status"], page["events"], page["q"]) == (200, 3, "message eq 'hello'")
    assert [one["status"] for one in _wait(world, key, "/metrics", 1)] == [403]
    (erasure,) = _wait(world, key, "/erasure", 1)
    assert (erasure["erasure"], erasure["events"]) == (erased["id"], 3)


def test_reading_the_audit_is_noted_once_and_only_the_right_opens_it(world: Any) -> None:
    auditor, other = world.make_key("read", "audit"), world.make_key("read", "admin")
    answers = [world.service.ask("GET", "/event", key=auditor, q=OF_AUDIT) for _ in range(4)]
    assert {answer.status for answer in answers} == {200}
    _wait(world, auditor, "/event", 4)
    seen = world.service.ask("GET", "/event", key=auditor, q=OF_AUDIT).json
    assert {event["component"] for event in seen} == {"eventsvc.audit"}
    assert world.service.ask("GET", "/event", key=other, q=OF_AUDIT).json == []
    assert world.service.ask("GET", "/event/stats", key=other, q=OF_AUDIT).json["count"] == 0
    assert world.service.ask("GET", f"/event/{seen[0]['id']}", key=other).status == 404
    _wait(world, auditor, "/event", 5)


def test_who_is_not_let_in_is_noted_as_nobody(world: Any) -> None:
    auditor = world.make_key("read", "audit")
    assert world.service.ask("GET", "/event/stats").status == 401
    deadline = time.monotonic() + 60
    query = f"{OF_AUDIT} AND message sw 'nobody: GET /event/stats 401'"
    while not (found := world.service.ask("GET", "/event", key=auditor, q=query).json):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert found[0]["data"]["key"] is None


def test_what_was_noted_last_is_written_when_the_service_stops(world: Any) -> None:
    key = world.make_key("read")
    service = world.serve()
    assert service.ask("GET", "/event/fields", key=key, q="message eq 'last'").status == 200
    service.stop()
    assert [one["q"] for one in _noted(world, key) if one["route"] == "/event/fields"] == ["message eq 'last'"]
    world.forget(service)
