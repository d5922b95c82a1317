"""Which right each route needs, and how somebody without it is turned away."""

from __future__ import annotations

import base64
import json
import re
import time
from typing import Any

import pytest

from eventsvc.access.key_text import make_key
from eventsvc.access.rights import Right
from eventsvc.api.access import PUBLIC, ROUTES

EVENT = {"email": "a@b.c", "environment": "test", "component": "orders", "message": "hello", "data": {"n": 1}}
BODIES = {
    "/key": {"name": "", "rights": ["read"]},  # no such name: a 400 behind the door
    "/key/{key_id}/rotation": {},
    "/event": EVENT,
    "/view/{name}": {"address": "last=7d"},
    "/erasure": {"q": "message eq 'no such'", "reason": "test", "dryRun": True},
}
NDJSON, NDJSON_BODY = {"Accept": "application/x-ndjson"}, {"Content-Type": "application/x-ndjson"}
CALLS = [(route, method) for route, methods in ROUTES.items() for method in methods]


def call(service: Any, route: str, method: str, key: str = "", **headers: str) -> int:
    """One request that would be right, if the key were."""
    body: Any = BODIES.get(route) if method in {"POST", "PUT"} else None
    if method == "QUERY":
        body, headers = b"message ct 'hello'", {"Content-Type": "text/plain"}
    query = {"q": "message ct 'hello'"} if route == "/query" else {}
    path = re.sub("{.*}", "00000000-0000-4000-8000-000000000000", route)
    if route == "/event/stream":
        with service.stream(path, key=key, headers=headers) as answer:
            return int(answer.status)
    return int(service.ask(method, path, body, key=key, headers=headers, **query).status)


@pytest.fixture(scope="module")
def keys(world: Any) -> dict[Right, str]:
    """One key for each right, with that right alone."""
    return {right: world.make_key(right) for right in Right}


@pytest.mark.parametrize(("route", "method"), CALLS)
def test_a_route_is_closed_without_a_key_and_opens_for_its_right_alone(
    world: Any, keys: dict[Right, str], route: str, method: str
) -> None:
    need = ROUTES[route][method]
    enough = {need, Right.ADMIN} if need is Right.METRICS else {need}

    assert (call(world.service, route, method) == 401) == (need is not PUBLIC)
    assert (call(world.service, route, method, make_key()) == 401) == (need is not PUBLIC)
    for right, key in keys.items():
        status = call(world.service, route, method, key)
        if need is PUBLIC or right in enough:
            assert status in {200, 201, 404} or (route == "/key" and status == 400), right
        else:
            assert status == 403, right


@pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH", "INVENTED"])
def test_a_method_that_does_not_exist_is_405_or_400_and_never_served(world: Any, method: str) -> None:
    assert world.service.ask(method, "/event").status in {400, 405}


@pytest.mark.parametrize(
    ("header", "fits"),
    [
        ("Bearer {key}", True),
        ("bearer  {key} ", True),
        ("Basic {basic}", True),
        ("Basic {alone}", True),
        ("Basic {key}", False),
        ("Basic !", False),
        ("Digest {key}", False),
        ("{key}", False),
        ("Bearer", False),
        ("Bearer {key}x", False),
    ],
)
def test_a_key_comes_as_bearer_or_basic(world: Any, keys: dict[Right, str], header: str, *, fits: bool) -> None:
    key = keys[Right.READ]
    text = header.format(
        key=key,
        basic=base64.b64encode(f"anybody:{key}".encode()).decode(),
        alone=base64.b64encode(f"{key}:".encode()).decode(),
    )

    assert world.service.ask("GET", "/event", headers={"Authorization": text}).status == (200 if fits else 401)


def test_a_key_in_the_url_is_no_key(world: Any, keys: dict[Right, str]) -> None:
    for name in ("api_key", "access_token", "ticket"):
        assert world.service.ask("GET", "/event", **{name: keys[Right.READ]}).status == 401


def test_refusals_are_problems_that_say_what_to_do(world: Any, keys: dict[Right, str]) -> None:
    nobody, wrong = world.service.ask("GET", "/event"), world.service.ask("GET", "/event", key=make_key())
    other = world.service.ask("POST", "/event", EVENT, key=keys[Right.READ])

    for answer in (nobody, wrong):
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.headers["www-authenticate"].startswith('Bearer realm="eventsvc"')
        assert answer.json["type"] == "/problems#unauthorized"
    assert other.json["type"] == "/problems#forbidden"
    assert "write" in other.json["detail"]
    script = world.service.ask("GET", "/event", headers={"Sec-Fetch-Dest": "empty"})
    assert "Basic" not in script.headers["www-authenticate"]  # no browser asks for a password


def test_a_wrong_key_learns_nothing(world: Any, keys: dict[Right, str]) -> None:
    """A good key, cut, is answered as one that never was; a mistyped one is told apart, which its text alone tells."""
    revoked = world.make_key("read")
    world.fetch("UPDATE access_key SET revoked_at = now() WHERE id = %s", revoked[:11])
    deadline = time.monotonic() + 30
    while (gone := world.service.ask("GET", "/event", key=revoked)).status != 401:
        assert time.monotonic() < deadline
    never = world.service.ask("GET", "/event", key=make_key())

    assert (gone.status, gone.body, gone.headers.keys()) == (never.status, never.body, never.headers.keys())


def test_a_large_body_without_a_key_is_refused_and_the_refusal_arrives(world: Any) -> None:
    answer = world.service.ask("POST", "/event", json.dumps([EVENT] * 20_000).encode())

    assert answer.status == 401


def test_a_ticket_opens_the_stream_for_a_while_and_nothing_else(world: Any, keys: dict[Right, str]) -> None:
    ticket = world.service.ask("POST", "/ticket", key=keys[Right.READ]).json["ticket"]
    with world.service.stream("/event/stream", ticket=ticket) as answer:
        assert answer.status == 200
        assert answer.readline().startswith(b"retry:")
    identity, end, signature = ticket.split(".")
    forged = [f"{identity}.{int(end) + 1}.{signature}", f"{identity}..", ticket[:-1], "..", "", f".{end}.{signature}"]

    assert [401] * len(forged) == [world.service.ask("GET", "/event/stream", ticket=text).status for text in forged]
    assert world.service.ask("GET", "/event", ticket=ticket).status == 401
    assert keys[Right.READ] not in ticket


def test_a_key_that_is_taken_back_ends_its_streams_and_is_refused_within_five_seconds(world: Any) -> None:
    key = world.make_key("read")
    with world.service.stream("/event/stream", key=key) as answer:
        assert answer.status == 200
        began = time.monotonic()
        world.fetch("UPDATE access_key SET revoked_at = now() WHERE id = %s", key[:11])
        try:
            while answer.readline():
                pass
        except OSError:
            pass
        took = time.monotonic() - began

    assert took < 10  # 5 s, and a machine with other things to do
    assert world.service.ask("GET", "/event", key=key).status == 401
    assert "Traceback" not in world.service.log.read_text()


def test_a_rate_holds_for_all_processes_together_and_says_when_to_come_back(world: Any) -> None:
    key = world.make_key("read", rate="20/h")
    with world.serving(EVENTSVC_WORKERS="2") as service:  # both know it from the start
        first = service.ask("GET", "/query", key=key, q="message eq 'a'")
        (used,) = map(int, re.findall(r"r=(\d+)", first.headers["ratelimit"]))
        answers = [service.ask("GET", "/query", key=key, q="message eq 'a'") for _ in range(used + 5)]

        assert [200] * used + [429] * 5 == [answer.status for answer in answers]
        assert answers[0].headers["ratelimit-policy"] == '"key";q=20;w=3600'
        assert 1 <= int(answers[-1].headers["retry-after"]) <= 3600
        assert answers[-1].json["type"] == "/problems#too-many-requests"


def test_the_rate_of_an_address_counts_every_request_but_those_of_probes(world: Any) -> None:
    key = world.make_key("read", rate="900/h")
    with world.serving(EVENTSVC_ADDRESS_RATE="60/h") as service:
        both = service.ask("GET", "/query", key=key, q="message eq 'a'")
        statuses = [service.ask("GET", "/problems").status for _ in range(70)]

        assert both.headers["ratelimit-policy"] == '"address";q=60;w=3600, "key";q=900;w=3600'
        assert re.fullmatch(r'"address";r=\d+;t=\d+, "key";r=\d+;t=\d+', both.headers["ratelimit"])
        assert (statuses[0], statuses[-1]) == (200, 429)
        assert int(service.ask("GET", "/event", key=key).headers["retry-after"]) > 0
        assert service.ask("GET", "/healthz").status == 200


def test_many_wrong_keys_from_one_address_are_not_looked_at_any_more_and_a_good_one_is(world: Any) -> None:
    key = world.make_key("read")
    with world.serving() as service:
        statuses = [service.ask("GET", "/event", key=make_key()).status for _ in range(130)]
        last = service.ask("GET", "/event", key=make_key())

        assert statuses[0] == 401
        assert (last.status, "retry-after" in last.headers) == (429, True)
        assert service.ask("GET", "/event", key=key).status == 200


def test_one_key_has_a_few_exports_at_a_time_and_the_others_are_not_held_up(world: Any) -> None:
    writer = world.make_key("write")
    greedy, other = world.make_key("read"), world.make_key("read")
    lines = b"\n".join([json.dumps(EVENT | {"message": "x" * 8000}).encode()] * 4000)
    assert world.service.ask("POST", "/event", lines, key=writer, headers=NDJSON_BODY).status == 201
    with world.serving(EVENTSVC_EXPORTS="2") as service:
        with (
            service.stream("/event", key=greedy, headers=NDJSON) as first,  # 32 MB, which nobody takes
            service.stream("/event", key=greedy, headers=NDJSON) as second,
        ):
            third = service.ask("GET", "/event", key=greedy, headers=NDJSON)
            assert [200, 200, 429] == [first.status, second.status, third.status]
            assert third.headers["retry-after"] == "1"
            assert service.ask("GET", "/event", key=greedy).status == 200  # a page is no export
            assert service.ask("GET", "/event", key=other, headers=NDJSON, limit="1").status == 200
        deadline = time.monotonic() + 60
        while service.ask("GET", "/event", key=greedy, headers=NDJSON, limit="1").status == 429:
            assert time.monotonic() < deadline
            time.sleep(0.1)
