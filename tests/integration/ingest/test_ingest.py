"""POST /event as clients see it."""

from __future__ import annotations

import gzip
import http.client
import json
import math
import re
import socket
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import zstandard

GOOD = {
    "email": "diego@chefhero.com",
    "environment": "production",
    "component": "orders",
    "message": "the buyer #123456 has placed an order",
    "data": {"order_id": 123, "amount": 300},
}
NDJSON = "application/x-ndjson"


def lines(count: int, **changes: Any) -> bytes:
    return b"".join(json.dumps(GOOD | {"message": f"m {n}"} | changes).encode() + b"\n" for n in range(count))


def test_one_event_is_answered_as_every_later_get_gives_it(service: Any) -> None:
    answer = service.post(GOOD | {"data": {"z": 1.0, "a": [1e300, -0.0, 10**30, "é\u2028"], "": None}})
    assert answer.status == 201
    stored = answer.json()
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["location"] == f"/event/{stored['id']}"
    assert uuid.UUID(stored["id"]).version == 4
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", stored["createdAt"])
    assert list(stored) == ["id", "createdAt", "occurredAt", "email", "environment", "component", "message", "data"]
    got = service.ask("GET", answer.headers["location"])
    assert got.json() == stored
    assert stored["data"]["a"][:3] == [1e300, 0.0, 10**30]
    assert isinstance(stored["data"]["a"][0], float)
    assert stored["occurredAt"] == stored["createdAt"]


@pytest.mark.parametrize("form", ["one", "many"])
def test_when_it_happened_is_kept_and_given_back_to_its_last_digit(service: Any, form: str) -> None:
    """Under an Idempotency-Key as well; and createdAt stays the clock of the log."""
    event = GOOD | {"occurredAt": "2018-01-31T12:00:00.123456789+01:00"}
    body, content_type = (event, "application/json") if form == "one" else (lines(2, **event), NDJSON)
    headers = {"Content_Type": content_type, "Idempotency_Key": form, "Prefer": "return=representation"}
    answers = [service.post(body, **headers) for _ in range(2)]
    assert [answer.status for answer in answers] == [201, 201]
    assert answers[1].headers["idempotency-replayed"] == "true"
    first, again = ([answer.json()] if form == "one" else answer.json() for answer in answers)
    assert first == again
    for stored in first:
        assert stored["occurredAt"] == "2018-01-31T11:00:00.123456789Z"
        assert stored["createdAt"] > "2020"
        assert service.ask("GET", f"/event/{stored['id']}").json() == stored


def test_a_time_of_its_own_is_refused_with_a_hint(service: Any) -> None:
    answer = service.post(GOOD | {"createdAt": "2018-01-31T12:00:00Z"})
    assert (answer.status, answer.json()["errors"][0]["pointer"]) == (422, "/createdAt")
    assert "say in occurredAt when it happened" in answer.json()["errors"][0]["detail"]


@pytest.mark.parametrize(
    ("content_type", "status"),
    [
        ("application/json", 201),
        ("application/json; charset=utf-8", 201),
        ("Application/JSON", 201),
        ("application/x-ndjson", 201),
        ("application/jsonl", 201),
        ("application/json; charset=latin-1", 415),
        ("text/plain", 415),
        ("application/x-www-form-urlencoded", 415),
        ("", 415),
    ],
)
def test_the_content_type_decides(service: Any, content_type: str, status: int) -> None:
    answer = service.post(GOOD, Content_Type=content_type)
    assert answer.status == status
    if status == 415:
        assert answer.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize("body", [lines(3), b"\r\n\n" + lines(3).replace(b"\n", b"\r\n\r\n")])
def test_lines_are_stored_in_their_order(service: Any, body: bytes) -> None:
    answer = service.post(body, Content_Type=NDJSON)
    assert answer.status == 201
    summary = answer.json()
    stored = service.rows("SELECT id::text, message FROM event ORDER BY seq")
    assert [message for _, message in stored] == ["m 0", "m 1", "m 2"]
    assert (summary["count"], summary["firstId"], summary["lastId"]) == (3, stored[0][0], stored[-1][0])
    assert {uuid.UUID(name).version for name, _ in stored} == {4}


def test_an_array_is_many_events(service: Any) -> None:
    assert service.post(b" \n" * 100 + b"[" + b",".join(lines(5).splitlines()) + b"]\n").json()["count"] == 5
    assert service.count() == 5


def test_nothing_is_no_event(service: Any) -> None:
    for body, kind in [(b"[]", "application/json"), (b"", NDJSON), (b"\n \n", NDJSON)]:
        answer = service.post(body, Content_Type=kind)
        assert (answer.status, answer.json()["count"]) == (200, 0)


@pytest.mark.parametrize("encoding", ["gzip", "zstd", "identity"])
def test_packed_bodies_are_unpacked(service: Any, encoding: str) -> None:
    packers: dict[str, Callable[[bytes], bytes]] = {
        "gzip": gzip.compress,
        "zstd": zstandard.compress,
        "identity": bytes,
    }
    pack = packers[encoding]
    assert service.post(pack(lines(50)), Content_Type=NDJSON, Content_Encoding=encoding).json()["count"] == 50
    one = service.post(pack(json.dumps(GOOD).encode()), Content_Encoding=encoding)
    assert (one.status, one.json()["message"]) == (201, GOOD["message"])
    assert service.count() == 51


def test_other_encodings_are_refused(service: Any) -> None:
    answer = service.post(b"x", Content_Encoding="br")
    assert (answer.status, answer.json()["type"]) == (415, "/problems#unsupported-media-type")


def test_bad_lines_are_named_and_nothing_is_stored(service: Any) -> None:
    body = lines(2) + b'{"email": "x"}\n\nnot json\n' + lines(30, environment="") + lines(2)
    answer = service.post(body, Content_Type=NDJSON)
    assert answer.status == 422
    problem = answer.json()
    assert problem["total"] == 20  # further lines are not read
    assert len({error["line"] for error in problem["errors"]}) == 20
    assert problem["errors"][0] == {"line": 3, "pointer": "/environment", "detail": "is required"}
    (syntax,) = [error["detail"] for error in problem["errors"] if error["line"] == 5]
    assert syntax == "not JSON: Expecting value at line 1, column 1"
    assert service.count() == 0


def test_partial_stores_the_good_lines_and_reports_the_others(service: Any) -> None:
    answer = service.post(lines(2) + b"{}\n" + lines(1), "?partial=true", Content_Type=NDJSON)
    report = answer.json()
    assert (answer.status, report["count"], report["rejected"]) == (200, 3, 1)
    assert {error["line"] for error in report["errors"]} == {3}
    assert service.count() == 3
    assert service.post(b"{}\n", "?partial=true", Content_Type=NDJSON).json()["count"] == 0


def test_a_dry_run_stores_nothing(service: Any) -> None:
    assert service.post(GOOD, "?dryRun=true").json() == {"dryRun": True, "count": 1}
    assert service.post(lines(3), "?dryRun=true", Content_Type=NDJSON).json() == {"dryRun": True, "count": 3}
    assert service.post(b"{}", "?dryRun=true", Content_Type=NDJSON).status == 422
    report = service.post(lines(1) + b"{}", "?dryRun=true&partial=true", Content_Type=NDJSON).json()
    assert (report["count"], report["rejected"]) == (1, 1)
    assert service.count() == 0


@pytest.mark.parametrize("query", ["?dryrun=true", "?partial=maybe", "?dryRun=", "?q=x"])
def test_a_parameter_that_is_not_understood_stores_nothing(service: Any, query: str) -> None:
    answer = service.post(GOOD, query)
    assert (answer.status, answer.json()["type"]) == (400, "/problems#invalid-parameter")
    assert service.count() == 0


def test_prefer_decides_what_is_answered(service: Any) -> None:
    body = lines(1200)
    answer = service.post(body, Content_Type=NDJSON, Prefer="respond-async, return=representation")
    assert (answer.status, answer.headers["preference-applied"]) == (201, "return=representation")
    stored = answer.json()
    assert [event["message"] for event in stored] == [f"m {n}" for n in range(1200)]
    assert service.ask("GET", f"/event/{stored[-1]['id']}").json() == stored[-1]
    minimal = service.post(GOOD, Prefer="return=minimal")
    assert (minimal.status, minimal.body) == (201, b"")
    assert minimal.headers["location"].startswith("/event/")


def test_sizes_are_limited_while_reading(database: str, make_service: Any) -> None:
    service = make_service(database, EVENTSVC_BULK_BYTES=str(4 * 1024**2), EVENTSVC_BULK_EVENTS="1000")
    for body in (b" " * (1024**2 + 1), b" " * 20_000_000, iter([b"[" + b" " * 4_000_000, b" " * 20_000_000])):
        answer = service.post(body)
        assert (answer.status, answer.json()["type"]) == (413, "/problems#too-large")
    long = service.post(b"x" * (1024**2 + 1) + b"\n" + lines(1), Content_Type=NDJSON)
    assert (long.status, long.json()["errors"][0]["line"]) == (422, 1)
    bomb = service.post(gzip.compress(b"\n" * (4 * 1024**2 + 1)), Content_Type=NDJSON, Content_Encoding="gzip")
    assert bomb.status == 413
    many = service.post(lines(1_001), Content_Type=NDJSON)
    assert (many.status, many.json()["detail"]) == (413, "more than 1,000 events in one request")
    assert service.post(GOOD).status == 201


def test_a_refused_body_is_read_so_that_its_answer_arrives(service: Any) -> None:
    for query, kind, status in [("?x=1", NDJSON, 400), ("", "text/plain", 415)]:
        assert service.post(lines(30_000), query, Content_Type=kind).status == status


def test_a_body_that_breaks_off_stores_nothing(service: Any) -> None:
    with socket.create_connection(("127.0.0.1", service.port)) as client:
        head = f"POST /event HTTP/1.1\r\nHost: x\r\nContent-Type: {NDJSON}\r\nContent-Length: 100000\r\n\r\n"
        client.sendall(head.encode() + lines(10))
    with socket.create_connection(("127.0.0.1", service.port)) as client:
        head = f"POST /event HTTP/1.1\r\nHost: x\r\nContent-Type: {NDJSON}\r\nTransfer-Encoding: chunked\r\n\r\n"
        client.sendall(head.encode() + b"%x\r\n%b\r\n" % (len(lines(10)), lines(10)))
    for body, kind, encoding in [
        (gzip.compress(lines(10))[:-5], NDJSON, "gzip"),
        (zstandard.compress(lines(10))[:-5], NDJSON, "zstd"),
        (b"[" + b",".join(lines(10).splitlines()), "application/json", "identity"),
    ]:
        answer = service.post(body, Content_Type=kind, Content_Encoding=encoding)
        assert (answer.status, answer.json()["type"]) == (400, "/problems#invalid-body")
    assert service.count() == 0


def test_a_client_that_sends_slowly_holds_no_transaction(service: Any, until: Any) -> None:
    """The horizon waits for every transaction that writes: a slow upload would hold up the index."""
    body = lines(10)
    with socket.create_connection(("127.0.0.1", service.port)) as client:
        head = f"POST /event HTTP/1.1\r\nHost: x\r\nContent-Type: {NDJSON}\r\nContent-Length: {len(body)}\r\n\r\n"
        client.sendall(head.encode() + body[:-5])
        time.sleep(0.3)
        assert service.post(GOOD).status == 201
        busy = "SELECT count(*) FROM pg_locks WHERE relation = 'event'::regclass AND mode = 'RowExclusiveLock'"
        until(lambda: service.rows(busy) == [(0,)])
        client.sendall(body[-5:])
        assert client.recv(65536).startswith(b"HTTP/1.1 201")


@pytest.mark.parametrize("body", [b'{"a":' * 50_000, b"[" * 50_000, b"9" * 5000, b'{"data":' + b"9" * 100_000 + b"}"])
def test_hostile_json_is_a_clean_error(service: Any, body: bytes) -> None:
    answer = service.post(body)
    assert answer.status in {400, 422}
    assert answer.headers["content-type"] == "application/problem+json"


def test_every_error_is_a_problem_that_leads_to_its_section(service: Any) -> None:
    faulty = [
        service.ask("GET", "/nowhere"),
        service.ask("DELETE", "/event"),
        service.post(b"{"),
        service.post({"email": 1}),
        service.post(GOOD, Idempotency_Key="ä"),
    ]
    assert [answer.status for answer in faulty] == [404, 405, 400, 422, 400]
    for answer in faulty:
        assert answer.headers["content-type"] == "application/problem+json"
        problem = answer.json()
        assert problem["status"] == answer.status
        assert problem["type"].startswith("/problems#")
        assert problem["title"]


def test_a_kept_alive_connection_goes_on_after_errors(service: Any) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", service.port)
    good = json.dumps(GOOD).encode()
    for body, status in [(b"{", 400), (good, 201), (b"[]", 200), (b"[{}]", 422), (good, 201)]:
        connection.request("POST", "/event", body, {"Content-Type": "application/json"})
        answer = connection.getresponse()
        answer.read()
        assert answer.status == status
    connection.close()


@pytest.mark.parametrize("form", ["lines", "array", "packed"])
def test_a_hundred_thousand_events_need_little_memory(service: Any, form: str) -> None:
    def pieces() -> Iterator[bytes]:
        yield b"[" if form == "array" else b""
        separator = b",\n" if form == "array" else b"\n"
        for first in range(0, 100_000, 500):
            events = (json.dumps(GOOD | {"message": f"event {n}"}).encode() for n in range(first, first + 500))
            yield (separator if first else b"") + separator.join(events)
        yield b"]" if form == "array" else b"\n"

    service.post(lines(1000), Content_Type=NDJSON)
    status = Path(f"/proc/{service.worker_pid()}/status")
    status.with_name("clear_refs").write_text("5", encoding="ascii")  # VmHWM begins anew (proc_pid_clear_refs(5))
    before = _memory(status, "VmRSS")
    kind = "application/json" if form == "array" else NDJSON
    if form == "packed":
        answer = service.post(gzip.compress(b"".join(pieces()), 1), Content_Type=kind, Content_Encoding="gzip")
    else:
        answer = service.post(pieces(), Content_Type=kind)
    assert (answer.status, answer.json()["count"]) == (201, 100_000)
    # The highest it ever was, as the kernel counts it.
    assert _memory(status, "VmHWM") - before < 64 * 1024**2
    assert service.count() == 101_000


def _memory(status: Path, name: str) -> int:
    match = re.search(rf"{name}:\s+(\d+) kB", status.read_text(encoding="ascii"))
    assert match is not None
    return int(match[1]) * 1024


def test_numbers_keep_their_value_on_the_way(service: Any) -> None:
    numbers = [0, -0.0, 1e16, 1e22, 1e23, 1.7976931348623157e308, 5e-324, 0.1, 2**53 + 1, 10**300, -(10**40)]
    stored = service.post(GOOD | {"data": numbers}).json()["data"]
    assert [type(one) for one in stored] == [type(one) for one in numbers]
    assert all(math.isclose(left, right, rel_tol=0, abs_tol=0) for left, right in zip(stored, numbers, strict=True))
