"""What RFC 9110 and RFC 9112 ask of a server, seen through raw sockets."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

EVENT = {"email": "a@b.test", "environment": "test", "component": "edge", "message": "hello"}
BODY = json.dumps(EVENT).encode()
HOST = b"Host: x\r\n"


def _post(target: bytes = b"/event", *fields: bytes, body: bytes = BODY, media: bytes = b"application/json") -> bytes:
    lines = (HOST, b"Content-Type: ", media, b"\r\nContent-Length: %d\r\n" % len(body), *(f + b"\r\n" for f in fields))
    return b"POST " + target + b" HTTP/1.1\r\n" + b"".join(lines) + b"\r\n" + body


def _get(target: bytes, *fields: bytes, method: bytes = b"GET") -> bytes:
    return method + b" " + target + b" HTTP/1.1\r\n" + HOST + b"".join(f + b"\r\n" for f in fields) + b"\r\n"


def test_a_client_that_asks_first_gets_the_go_ahead_and_keeps_its_connection(wire: Any) -> None:
    for _ in range(2):
        wire.send(_post(b"/event", b"Expect: 100-continue").removesuffix(BODY))
        assert wire.answer().status == 100
        assert wire.send(BODY).answer().status == 201


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (_post(b"/nowhere"), 404),
        (_post(b"/healthz"), 405),
        (_post(media=b"text/plain"), 415),
        (_post(b"/event?partil=true"), 400),
    ],
)
def test_a_request_that_is_refused_by_its_head_is_answered_though_its_body_does_not_come(
    wire: Any, request_: bytes, status: int
) -> None:
    assert wire.send(request_.removesuffix(BODY)).answer().status == status
    assert wire.send(BODY + _get(b"/healthz")).answer().status == 200


def test_a_client_that_asks_first_and_is_refused_gets_no_go_ahead(wire: Any) -> None:
    answer = wire.send(_post(b"/nowhere", b"Expect: 100-continue").removesuffix(BODY)).answer()
    assert (answer.status, answer.headers["connection"]) == (404, "close")


def test_requests_sent_ahead_are_answered_in_order(wire: Any, service: Any) -> None:
    wire.send(_post() + _get(b"/healthz") + _post() + _get(b"/nowhere") + _get(b"/event"))
    assert [wire.answer().status for _ in range(4)] == [201, 200, 201, 404]
    assert len(json.loads(wire.answer().body)) == 2
    assert service.count() == 2


def test_a_body_in_chunks_of_one_byte_is_stored_and_the_next_request_is_answered(wire: Any, service: Any) -> None:
    lines = (BODY + b"\n") * 150
    chunks = b"".join(b"1\r\n%c\r\n" % byte for byte in lines)
    fields = (b"Content-Type: application/x-ndjson", b"Transfer-Encoding: chunked")
    wire.send(_get(b"/event", *fields, method=b"POST") + chunks + b"0\r\n\r\n" + _get(b"/healthz"))
    assert [wire.answer().status for _ in range(2)] == [201, 200]
    assert service.count() == 150


_BROKEN = (
    b"secret\r\n\r\n",
    b"GET /event HTTP/1.1\r\nHo",
    _get(b"/event", b"Content-Type: application/json", b"Transfer-Encoding: chunked", method=b"POST") + b"zz\r\n",
    _get(b"/event", b"Content-Type: application/json", b"Content-Length: 9", method=b"POST") + b"{",
)


@pytest.mark.parametrize("ends", [True, False])
@pytest.mark.parametrize("broken", _BROKEN)
def test_a_request_gets_its_answer_whatever_is_sent_behind_it(
    wire: Any, service: Any, broken: bytes, *, ends: bool
) -> None:
    wire.send(_post() + broken)
    if ends or broken.endswith((b"Ho", b"{")):
        wire.socket.shutdown(1)
    assert wire.answer().status == 201
    assert wire.is_closed()
    assert service.count() == 1


@pytest.mark.parametrize("line", [b"GET http:// HTTP/1.1", b"CONNECT secret:443 HTTP/1.1", b"OPTIONS * HTTP/1.1"])
def test_a_target_that_is_no_url_of_this_service_is_a_problem(wire: Any, line: bytes) -> None:
    wire.send(_get(b"/healthz"))
    assert wire.answer().status == 200
    problem = wire.send(line + b"\r\n" + HOST + b"\r\n").answer().problem()
    assert problem["status"] in {400, 404}
    assert "secret" not in json.dumps(problem)


def test_a_target_may_be_a_whole_url(wire: Any) -> None:
    assert wire.send(_get(b"http://x/event?limit=1")).answer().status == 200


@pytest.mark.parametrize("target", [b"/query?q=message%20ct%20'caf\xe9'", b"/event/caf\xe9"])
def test_raw_bytes_in_a_url_are_the_clients_fault(wire: Any, target: bytes) -> None:
    assert wire.send(_get(target)).answer().problem()["status"] == 400


@pytest.mark.parametrize("target", [b"/query?q=message%20ct%20'caf%E9'", b"/event/caf%E9", b"/event?q=%ff"])
def test_a_url_that_is_not_utf_8_is_refused(wire: Any, target: bytes) -> None:
    problem = wire.send(_get(target)).answer().problem()
    assert (problem["status"], "UTF-8" in problem["detail"]) == (400, True)


@pytest.mark.parametrize(
    "path", [b"/healthz", b"/readyz", b"/metrics", b"/event", b"/event/stats", b"/problems", b"/query?q=id%20eq%20'1'"]
)
def test_head_is_answered_as_get_is(wire: Any, path: bytes) -> None:
    asked = wire.send(_get(path)).answer()
    head = wire.send(_get(path, method=b"HEAD")).answer(head_only=True)
    varying = ("date", "content-length") if path == b"/metrics" else ("date",)
    assert head.status == asked.status
    assert {**head.headers, **dict.fromkeys(varying)} == {**asked.headers, **dict.fromkeys(varying)}


@pytest.mark.parametrize(("path", "accept"), [(b"/event/stream", b"*/*"), (b"/event", b"application/x-ndjson")])
def test_head_of_a_stream_ends_at_once(wire: Any, path: bytes, accept: bytes) -> None:
    assert wire.send(_get(path, b"Accept: " + accept, method=b"HEAD")).answer(head_only=True).status == 200
    assert wire.send(_get(b"/nowhere", method=b"HEAD")).answer(head_only=True).status == 404


def test_options_and_405_name_every_method(wire: Any) -> None:
    for method, status in ((b"OPTIONS", 200), (b"DELETE", 405)):
        answer = wire.send(_get(b"/event", method=method)).answer()
        assert answer.status == status
        assert {"GET", "HEAD", "POST", "QUERY"} <= set(answer.headers["allow"].split(", "))


@pytest.mark.parametrize("path", [b"//event", b"/event/", b"//event/"])
def test_a_slash_too_many_is_forgiven_and_links_lead_back_here(wire: Any, path: bytes) -> None:
    assert wire.send(_post(path)).answer().status == 201
    answer = wire.send(_get(path + b"?limit=1")).answer()
    assert len(json.loads(answer.body)) == 1
    assert answer.headers["link"].startswith("</event?")


def test_a_request_line_may_have_8190_bytes(wire: Any) -> None:
    query = b"/event?q=message%20ct%20'" + b"a" * (8190 - len(b"GET /event?q=message%20ct%20'' HTTP/1.1")) + b"'"
    assert wire.send(_get(query)).answer().status == 200
    answer = wire.send(_get(query[:-1] + b"a'")).answer()
    problem = answer.problem()
    assert (problem["status"], "QUERY /event" in problem["hint"]) == (414, True)
    assert answer.line in {b"HTTP/1.1 414 URI Too Long", b"HTTP/1.1 414 Request-URI Too Long"}
    assert wire.is_closed()


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (b"GET /event?q=message ct 'secret' HTTP/1.1\r\nHost: x\r\n\r\n", 400),
        (b"secret\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: x\r\nsecret\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: x\r\nHost: secret\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: secret/../x y\r\n\r\n", 400),
        (_get(b"/", b"secret: " + b"a" * 70_000), 431),
        (_get(b"/", *[b"secret: a"] * 101), 431),
        (_get(b"/" + b"secret" * 2000), 414),
        (_post(b"/event", b"Transfer-Encoding: chunked"), 400),
        (_get(b"/event", b"Transfer-Encoding: secret", method=b"POST"), 501),
        (_get(b"/event", b"Transfer-Encoding: gzip, chunked", method=b"POST"), 501),
        (_get(b"/event", b"Transfer-Encoding: chunked", b"Transfer-Encoding: chunked", method=b"POST"), 400),
        (b"GET /event HTTP/0.9\r\nHost: x\r\n\r\n", 505),
        (b"GET /event HTTP/2.0\r\nHost: x\r\n\r\n", 505),
        (b"POST /event HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n", 400),
        (_get(b"/event", b"Content-Length: -1", method=b"POST"), 400),
        (_get(b"/event", b"Content-Length: 1", b"Content-Length: 2", method=b"POST"), 400),
    ],
)
def test_a_broken_head_is_a_problem_that_quotes_nothing(wire: Any, request_: bytes, status: int) -> None:
    answer = wire.send(request_).answer()
    assert answer.problem()["status"] == answer.status == status
    assert answer.headers["connection"] == "close"
    assert b"secret" not in answer.line + answer.body
    assert wire.is_closed()


def test_fields_that_never_end_are_refused(wire: Any, send_for: Callable[..., int]) -> None:
    wire.send(b"GET / HTTP/1.1\r\nHost: x\r\nfield: ")
    send_for(wire, b"a" * 4096, most=2**18)
    assert wire.answer().status == 431


def test_fields_behind_a_body_change_nothing(wire: Any, service: Any) -> None:
    head = _get(b"/event", b"Content-Type: application/json", b"Transfer-Encoding: chunked", method=b"POST")
    chunk = b"%x\r\n%s\r\n" % (len(BODY), BODY)
    wire.send(head + chunk + b"0\r\nIdempotency-Key: later\r\nPrefer: return=minimal\r\n\r\n")
    answer = wire.answer()
    assert (answer.status, json.loads(answer.body)["message"]) == (201, "hello")
    assert service.rows("SELECT count(*) FROM idempotency_key") == [(0,)]


@pytest.mark.parametrize("fields", [(b"Connection: close",), ()])
def test_a_refused_client_that_goes_on_sending_reads_its_answer(
    wire: Any, fields: tuple[bytes, ...], send_for: Callable[..., int]
) -> None:
    wire.send(_get(b"/nowhere", b"Content-Length: 8000000", *fields, method=b"POST"))
    send_for(wire, b"x" * 65536, most=7_000_000, seconds=2.0)
    assert wire.answer().status == 404


def test_a_client_that_ends_its_side_gets_its_answer(wire: Any, service: Any) -> None:
    wire.send(_post())
    wire.socket.shutdown(1)
    assert wire.answer().status == 201
    assert wire.is_closed()
    assert service.count() == 1


def test_a_websocket_handshake_is_answered_like_any_request(wire: Any) -> None:
    fields = (b"Connection: Upgrade", b"Upgrade: websocket", b"Sec-WebSocket-Version: 13", b"Sec-WebSocket-Key: AA==")
    assert wire.send(_get(b"/healthz", *fields)).answer().status == 200
    assert wire.send(_get(b"/healthz", *fields)).answer().status == 200


JAVA = b"""POST /event HTTP/1.1\r
Connection: Upgrade, HTTP2-Settings\r
Content-Length: %d\r
Host: 127.0.0.1:8012\r
HTTP2-Settings: AAEAAEAAAAIAAAABAAMAAABkAAQBAAAAAAUAAEAA\r
Upgrade: h2c\r
User-Agent: Java-http-client/17.0.15\r
Content-Type: application/json\r
\r
%s"""  # as Java's HttpClient sends a request by default


@pytest.mark.parametrize("cut", [0, 1, 30, 100, 280, 320])
def test_a_client_that_offers_http_2_is_served_with_http_1_1(wire: Any, service: Any, cut: int) -> None:
    """The offer is ignored, and the body counts, wherever the packets begin."""
    request = JAVA % (len(BODY), BODY)
    wire.send(request[:cut]).send(request[cut:] + request)
    assert [json.loads(wire.answer().body)["message"] for _ in range(2)] == ["hello", "hello"]
    wire.send(request.replace(b"Content-Length: %d" % len(BODY), b"Content-Length: 0x"))
    assert wire.answer().status == 400
    assert wire.is_closed()
    assert service.count() == 2


def test_a_chunked_body_counts_although_the_client_offers_http_2(wire: Any) -> None:
    head, _, body = (JAVA % (len(BODY), BODY)).partition(b"\r\n\r\n")
    head = head.replace(b"Content-Length: %d" % len(BODY), b"Transfer-Encoding: chunked\r\nExpect: 100-continue")
    wire.send(head + b"\r\n\r\n")
    assert wire.read_until(b"\r\n\r\n").startswith(b"HTTP/1.1 100 ")
    assert wire.send(b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)).answer().status == 201


def test_a_client_of_http_1_0_is_served(wire: Any) -> None:
    assert wire.send(b"GET /event HTTP/1.0\r\n\r\n").answer().status == 200
    assert wire.is_closed()


def test_a_client_of_http_1_0_gets_a_stream_without_chunks(wire: Any, service: Any) -> None:
    assert service.post(BODY).status == 201
    wire.send(b"GET /event?trailer=true HTTP/1.0\r\nAccept: application/x-ndjson\r\nConnection: keep-alive\r\n\r\n")
    assert b"transfer-encoding" not in wire.read_until(b"\r\n\r\n").lower()
    assert json.loads(wire.read_until(b"\n"))["message"] == "hello"
    assert json.loads(wire.read_until(b"\n"))["count"] == 1
    assert wire.is_closed()
