"""What clients accept, other origins, proxies in front, and line ends that are none."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

EVENT = {"email": "a@b.test", "environment": "test", "component": "edge", "message": "hello"}
NDJSON = "application/x-ndjson"
ORIGIN = "http://dash.example"


@pytest.mark.parametrize(
    ("accept", "content_type"),
    [
        ("application/x-ndjson", NDJSON),
        ("Application/X-NDJSON", NDJSON),
        ("application/jsonl", NDJSON),
        ("application/ndjson, */*", NDJSON),
        ("application/json;q=0.5, application/x-jsonlines", NDJSON),
        ("application/x-ndjson;q=0.1, text/html, */*;q=0.8", "application/json"),
        ("text/html, application/xml;q=0.9, */*;q=0.8", "application/json"),
        ("APPLICATION/*", "application/json"),
        ("text/json", "application/json"),
        ("", "application/json"),
    ],
)
def test_accept_is_read_in_any_case_and_by_any_usual_name(service: Any, accept: str, content_type: str) -> None:
    answer = service.ask("GET", "/event", Accept=accept)
    assert (answer.status, answer.headers["content-type"]) == (200, content_type)


@pytest.mark.parametrize(
    ("path", "accept"),
    [
        ("/event", "application/xml"),
        ("/event", "application/json;q=0, application/x-ndjson;q=0"),
        ("/event/stats", NDJSON),
        ("/query?q=id%20eq%20'1'", "image/png"),
        ("/event/stream", "application/json"),
    ],
)
def test_what_cannot_be_given_is_refused(service: Any, path: str, accept: str) -> None:
    answer = service.ask("GET", path, Accept=accept)
    assert (answer.status, answer.json()["type"]) == (406, "/problems#not-acceptable")


def test_storing_does_not_depend_on_accept(service: Any) -> None:
    assert service.post(EVENT, Accept="image/png").status == 201


@pytest.mark.parametrize(("text", "meant"), [("True", True), ("1", True), ("YES", True), ("off", False), ("0", False)])
def test_yes_and_no_are_read_alike_everywhere(service: Any, text: str, meant: object) -> None:
    assert ("rejected" in service.post([EVENT], f"?partial={text}").json()) == meant
    assert ("x-total-count" in service.ask("GET", f"/event?count={text}").headers) == meant
    for path in (f"/event?partial={text}x", f"/event?count={text}x"):
        assert (
            service.ask("POST" if "partial" in path else "GET", path, b"{}", Content_Type="application/json").status
            == 400
        )


@pytest.fixture(scope="module")
def open_service(module_database: str, make_module_service: Callable[..., Any]) -> Any:
    return make_module_service(module_database, EVENTSVC_CORS_ORIGINS=f"{ORIGIN}, https://other.example")


def test_a_page_of_another_origin_is_let_in_by_a_setting(open_service: Any) -> None:
    asked = {"Origin": ORIGIN, "Access_Control_Request_Method": "POST"}
    preflight = open_service.ask("OPTIONS", "/event", **asked, Access_Control_Request_Headers="content-type")
    assert preflight.status == 200
    assert preflight.headers["access-control-allow-origin"] == ORIGIN
    assert "POST" in preflight.headers["access-control-allow-methods"]
    assert "Content-Type" in preflight.headers["access-control-allow-headers"]
    answer = open_service.ask("GET", "/event?limit=0", Origin=ORIGIN)
    assert answer.status == 400
    assert answer.headers["access-control-allow-origin"] == ORIGIN
    assert "Link" in answer.headers["access-control-expose-headers"]
    assert "Origin" in answer.headers["vary"]


@pytest.mark.parametrize("origin", ["http://dash.example.evil", "null", "http://DASH.example:80"])
def test_other_origins_are_not_let_in(open_service: Any, origin: str) -> None:
    answer = open_service.ask("GET", "/healthz", Origin=origin)
    assert "access-control-allow-origin" not in answer.headers


def test_no_origin_is_let_in_by_default(service: Any) -> None:
    assert "access-control-allow-origin" not in service.ask("GET", "/healthz", Origin=ORIGIN).headers


def test_every_link_leads_through_the_proxy_that_says_its_prefix(service: Any) -> None:
    through = {"X_Forwarded_Prefix": "/logs/"}
    service.post(EVENT)
    stored = service.post(EVENT, **through)
    assert stored.headers["location"] == f"/logs/event/{stored.json()['id']}"
    link = service.ask("GET", "/event?limit=1", **through).headers["link"]
    assert link.count("</logs/event?") == link.count("<") == 2
    assert service.ask("GET", "/event?limit=0", **through).json()["type"] == "/logs/problems#invalid-parameter"
    assert service.ask("GET", "/nowhere", **through).json()["type"] == "/logs/problems#no-such-route"


@pytest.mark.parametrize("prefix", ["//evil.example", "/a>; rel=x", "http://evil.example", "/a/../b\u00e9"])
def test_a_prefix_that_is_no_path_is_passed_over(service: Any, prefix: str) -> None:
    assert service.ask("GET", "/event?limit=1", X_Forwarded_Prefix=prefix).headers["link"].startswith("</event?")


def test_a_proxy_that_is_not_trusted_is_not_heard(module_database: str, make_service: Callable[..., Any]) -> None:
    service = make_service(module_database, EVENTSVC_TRUSTED_PROXIES="192.0.2.0/24")
    assert service.ask("GET", "/event?limit=1", X_Forwarded_Prefix="/logs").headers["link"].startswith("</event?")


def test_line_ends_within_a_text_are_escaped(service: Any, connect: Callable[[int], Any]) -> None:
    message = "one\u2028two\u2029three\u0085four"
    listener = connect(service.port).send(b"GET /event/stream HTTP/1.1\r\nHost: x\r\n\r\n")
    listener.read_until(b": live\n\n")
    assert service.post(EVENT | {"message": message}).status == 201
    lines = service.ask("GET", "/event", Accept=NDJSON).body
    assert len(lines.decode().splitlines()) == 1
    assert json.loads(lines)["message"] == message
    live = listener.read_until(b"four").decode()
    assert not set(live) & set("\u2028\u2029\u0085")
    assert "one\\u2028two\\u2029three\\u0085four" in live
