"""What lies outside of a key's restriction does not exist for the key: compared with a filter in Python."""

from __future__ import annotations

import json
import random
import re
import time
from collections import Counter
from typing import Any

import pytest

from eventsvc.access.rights import AUDIT_COMPONENT
from eventsvc.api.access import ROUTES
from eventsvc.api.stream import make_token
from eventsvc.event import Event, parse_nanoseconds, parse_time
from eventsvc.query.parse import parse
from eventsvc.query.to_predicate import Candidate, to_predicate

WHERES = [
    "component in ('orders', 'billing')",
    "NOT (email ct 'secret' OR data.level gt 3)",
    "message sw 'the buyer' AND environment ne 'staging'",
    "data.tags ct 'vip' OR component eq 'none'",
    "createdAt gte 'now-1d'",
    "createdAt lt '2020-01-01'",  # nothing at all
]
NDJSON = {"Content-Type": "application/x-ndjson"}
SHOW_NONE = {"/", "/page/{name}", "/ticket", "/problems", "/openapi.json", "/docs", "/healthz", "/readyz"}
SHOW_NONE |= {"/metrics", "/key", "/key/{key_id}", "/key/{key_id}/rotation", "/view", "/view/{name}"}
ERASURES = {"/erasure", "/erasure/{erasure_id}"}
QUERIES = ["", "message ct 'buyer'", "component eq 'secrets' OR data.level exists", "NOT environment eq 'staging'"]


@pytest.fixture(scope="module")
def events(world: Any) -> list[dict[str, Any]]:
    """Events, the older two thirds in the index; as the whole log is seen, newest first."""
    all_rights = world.make_key("read", "write", "audit")
    numbers = random.Random(7)
    world.fetch(
        "INSERT INTO event (id, created_at, email, environment, component, message, data) VALUES"
        " (gen_random_uuid(), now() - interval '2 days', 'a@b.c', 'production', 'orders', 'the buyer #0', '{}')"
    )
    for part in range(3):
        lines = b"\n".join(json.dumps(_draw(numbers)).encode() for _ in range(60))
        answer = world.service.ask("POST", "/event", lines, key=all_rights, headers=NDJSON)
        assert answer.status == 201, answer.body
        if part == 1:
            world.index_all()
    found: list[dict[str, Any]] = world.service.ask("GET", "/event", key=all_rights, limit="1000").json
    assert len(found) == 181
    return found


def _draw(numbers: random.Random) -> dict[str, Any]:
    return {
        "email": numbers.choice(["a@b.c", "secret@b.c", "d@e.f"]),
        "environment": numbers.choice(["production", "staging"]),
        "component": numbers.choice(["orders", "billing", "secrets", AUDIT_COMPONENT]),
        "message": numbers.choice(["the buyer #1", "the buyer #2 left", "a Buyer", "nothing"]),
        "data": numbers.choice([{"level": numbers.randrange(6)}, {"tags": ["vip", "new"]}, {"tags": []}, None]),
    }


@pytest.fixture(params=WHERES, scope="module")
def restricted(
    request: pytest.FixtureRequest, world: Any, events: list[dict[str, Any]]
) -> tuple[str, list[dict[str, Any]]]:
    """A key, and the events that it may see."""
    inside = _filter(request.param)
    allowed = [event for event in events if inside(event) and event["component"] != AUDIT_COMPONENT]
    return world.make_key("read", "write", where=request.param), allowed


def _filter(where: str) -> Any:
    if not where:
        return lambda _: True
    test = to_predicate(parse(where, now=time.time_ns() // 1_000_000))
    return lambda event: test(Candidate(_event(event)))


def _event(event: dict[str, Any]) -> Event:
    text = {name: event[name] for name in ("id", "email", "environment", "component", "message")}
    created, occurred = parse_time(event["createdAt"]), parse_nanoseconds(event["occurredAt"])
    return Event(seq=0, created_at=created, occurred_at=occurred, data=json.dumps(event["data"]), **text)


def _ids(events: Any) -> list[str]:
    return [event["id"] for event in events]


@pytest.mark.parametrize("consistency", ["strong", "eventual"])
@pytest.mark.parametrize("q", QUERIES)
def test_pages_counts_and_exports_hold_what_a_filter_finds(
    world: Any, restricted: Any, q: str, consistency: str
) -> None:
    key, allowed = restricted
    inside = _filter(q)
    expected = [event for event in allowed if inside(event)]
    if consistency == "eventual":  # the index alone
        indexed = world.fetch("SELECT id::text FROM event WHERE seq <= (SELECT seq FROM watermark)")
        expected = [event for event in expected if (event["id"],) in set(indexed)]
    target, found = "/event", []
    query = {"q": q, "limit": "7", "count": "true", "consistency": consistency}
    while target:
        answer = world.service.ask("GET", target, key=key, **query)
        assert str(len(expected)) == answer.headers["x-total-count"]
        found += answer.json
        link = re.search(r'<([^>]*)>; rel="next"', answer.headers["link"])
        target, query = (link[1], {}) if link else ("", {})

    assert _ids(expected) == _ids(found)
    export = world.service.ask(
        *("GET", "/event"), key=key, headers={"Accept": "application/x-ndjson"}, q=q, consistency=consistency
    )
    assert _ids(expected) == _ids(export.lines)
    shown = {"limit": "1000", "consistency": consistency}
    asked = world.service.ask("QUERY", "/event", q.encode(), key=key, headers={"Content-Type": "text/plain"}, **shown)
    assert _ids(expected) == _ids(asked.json)


@pytest.mark.parametrize("q", QUERIES)
@pytest.mark.parametrize("by", ["component", "email"])
def test_statistics_count_what_a_filter_finds(world: Any, restricted: Any, q: str, by: str) -> None:
    key, allowed = restricted
    inside = _filter(q)
    expected = [event for event in allowed if inside(event)]
    answer = world.service.ask("GET", "/event/stats", key=key, q=q, by=by, interval="1d").json

    assert len(expected) == answer["count"] == sum(one["count"] for one in answer["buckets"])
    assert Counter(event[by] for event in expected) == {one["value"]: one["count"] for one in answer["top"]}


def test_by_id_and_its_context_show_the_same_events_and_deny_the_others_alike(
    world: Any, restricted: Any, events: list[dict[str, Any]]
) -> None:
    key, allowed = restricted
    seen = set(_ids(allowed))
    never = world.service.ask("GET", "/event/00000000-0000-4000-8000-000000000000", key=key)
    for event in events[::3]:
        one = world.service.ask("GET", f"/event/{event['id']}", key=key)
        context = world.service.ask("GET", f"/event/{event['id']}/context", key=key, before="500", after="500")
        assert [one.status, context.status] == [200 if event["id"] in seen else 404] * 2
        if event["id"] not in seen:
            denied = one.body.replace(event["id"].encode(), b"00000000-0000-4000-8000-000000000000")
            assert (denied, one.headers.keys()) == (never.body, never.headers.keys())
            continue
        around = [*context.json["before"], context.json["event"], *context.json["after"]]
        assert _ids(allowed) == _ids(around)[::-1]
    for event in allowed[:5]:
        alike = world.service.ask(
            "GET", f"/event/{event['id']}/context", key=key, before="500", after="500", same="email"
        )
        around = [*alike.json["before"], alike.json["event"], *alike.json["after"]]
        assert [one["id"] for one in allowed if one["email"] == event["email"]] == _ids(around)[::-1]


def test_a_stream_sends_what_a_filter_finds(world: Any, restricted: Any) -> None:
    key, allowed = restricted
    found: list[str] = []
    headers = {"Last-Event-ID": make_token(0).decode()}
    with world.service.stream("/event/stream", key=key, headers=headers) as answer:
        while (line := answer.readline()) != b": live\n":
            if line.startswith(b"data: "):
                found.append(json.loads(line[6:])["id"])

    assert _ids(allowed)[::-1] == found


def test_the_paths_of_data_are_those_of_the_events_that_a_filter_finds(world: Any, restricted: Any) -> None:
    key, allowed = restricted
    found = world.service.ask("GET", "/event/fields", key=key).json
    levels = [event for event in allowed if isinstance(event["data"], dict) and "level" in event["data"]]

    assert [len(levels)] * bool(levels) == [one["count"] for one in found if one["path"] == "data.level"]
    explained = world.service.ask(
        "GET", "/query", key=key, q="data.level exists OR data.lvel exists", paths="true"
    ).json
    assert [(one["exists"], one["near"]) for one in explained["paths"]] == [
        (bool(levels), []),
        (False, ["data.level"] * bool(levels)),
    ]
    examples = {value for one in found if one["path"] == "data.level" for value in one["examples"]}
    assert examples <= {event["data"]["level"] for event in levels}


def test_every_route_that_shows_events_is_tried_here() -> None:
    """A new one is added to the tests above, and then to this list; what erases is tried in test_writes.py."""
    tried = {
        "/query",
        "/event/fields",
        "/event",
        "/event/{event_id}",
        "/event/{event_id}/context",
        "/event/stats",
        "/event/stream",
    }

    assert set(ROUTES) - SHOW_NONE - ERASURES == tried


def test_a_cursor_and_an_entity_tag_are_of_one_restriction(world: Any, events: list[dict[str, Any]]) -> None:
    orders, secrets = (world.make_key("read", where=f"component eq '{name}'") for name in ("orders", "secrets"))
    first = world.service.ask("GET", "/event", key=orders, limit="1")
    (target,) = re.findall(r'<([^>]*)>; rel="next"', first.headers["link"])
    unchanged = {"If-None-Match": first.headers["etag"]}

    assert [200, 400] == [world.service.ask("GET", target, key=key).status for key in (orders, secrets)]
    both = [world.service.ask("GET", "/event", key=key, limit="1", headers=unchanged) for key in (orders, secrets)]
    assert [304, 200] == [answer.status for answer in both]


def test_nobody_without_the_right_sees_the_audit(world: Any, events: list[dict[str, Any]]) -> None:
    key, auditor = world.make_key("read"), world.make_key("read", "audit")
    q = f"component eq '{AUDIT_COMPONENT}'"

    assert world.service.ask("GET", "/event", key=key, q=q).json == []
    assert world.service.ask("GET", "/event", key=auditor, q=q).json != []
