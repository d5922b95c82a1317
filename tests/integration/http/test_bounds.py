"""What a client sends, or holds back, takes no more memory, time or places than is set."""

from __future__ import annotations

import gzip
import http.client
import json
import re
import select
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import zstandard

EVENT = {"email": "a@b.test", "environment": "test", "component": "edge", "message": "hello"}
MIB = 2**20
_NOT_READ = ("GET /event/stream", "POST /healthz", "GET /event")
_LENGTHS = ("Content-Length: 419430400", "Transfer-Encoding: chunked")
BULK = b"POST /event HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-ndjson\r\n"


@pytest.fixture(scope="module")
def hasty(module_database: str, make_module_service: Callable[..., Any]) -> Any:
    """A service that waits for nobody long."""
    return make_module_service(
        module_database,
        EVENTSVC_HEAD_SECONDS="2",
        EVENTSVC_BODY_SECONDS="3",
        EVENTSVC_BULK_CONCURRENCY="1",
        EVENTSVC_SPOOL_BYTES=str(4 * MIB),
        EVENTSVC_CONNECTIONS="32",
    )


@pytest.mark.parametrize(
    "head", [f"{target} HTTP/1.1\r\nHost: x\r\n{length}\r\n\r\n" for target in _NOT_READ for length in _LENGTHS]
)
def test_a_body_that_nobody_reads_is_not_kept(
    service: Any, wire: Any, memory: Callable[[Any], int], send_for: Callable[..., int], head: str
) -> None:
    before = memory(service)
    wire.send(head.encode())
    send_for(wire, b"10000\r\n" + b"x" * 65536 + b"\r\n", most=100 * MIB, seconds=15)
    assert memory(service) - before < 32 * MIB
    assert service.ask("GET", "/healthz").status == 200


def test_requests_sent_ahead_without_end_are_not_kept(
    service: Any, connect: Callable[[int], Any], memory: Callable[[Any], int], send_for: Callable[..., int]
) -> None:
    before = memory(service)
    wire = connect(service.port).send(b"GET /event/stream HTTP/1.1\r\nHost: x\r\n\r\n")
    assert send_for(wire, b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n" * 1000, most=100 * MIB, seconds=15) < 32 * MIB
    assert memory(service) - before < 96 * MIB


@pytest.mark.parametrize("target", ["PUT /view/one", "POST /erasure", "POST /key", "POST /key/one/rotation"])
def test_a_chunked_body_that_is_read_into_memory_has_a_limit(
    service: Any, wire: Any, memory: Callable[[Any], int], send_for: Callable[..., int], target: str
) -> None:
    before = memory(service)
    wire.send(f"{target} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n{_LENGTHS[1]}\r\n\r\n".encode())
    send_for(wire, b"10000\r\n" + b"x" * 65536 + b"\r\n", most=100 * MIB, seconds=2)
    assert wire.answer().status == 413
    assert memory(service) - before < 32 * MIB


def test_chunks_that_carry_hardly_anything_are_refused(wire: Any, send_for: Callable[..., int]) -> None:
    wire.send(BULK + b"Transfer-Encoding: chunked\r\n\r\n")
    send_for(wire, b"1;" + b"x" * 60_000 + b"\r\n \r\n", most=8 * MIB, seconds=2)
    assert wire.answer().problem()["status"] == 400


def test_requests_sent_ahead_have_a_number(wire: Any) -> None:
    wire.send(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n" * 100)
    answers = [wire.answer() for _ in range(33)]
    assert [answer.status for answer in answers] == [200] * 33
    assert answers[-1].headers["connection"] == "close"
    assert wire.is_closed()


@pytest.fixture(scope="module")
def strict_service(module_database: str, make_module_service: Callable[..., Any]) -> Any:
    return make_module_service(module_database, EVENTSVC_ANSWER_SECONDS="3")


@pytest.fixture
def strict(strict_service: Any) -> Any:
    """A service with 6 MiB of events that does not wait long for clients that do not read."""
    return _filled(strict_service)


@pytest.fixture
def small(module_database: str, make_service: Callable[..., Any]) -> Any:
    """A service with 6 MiB of events that keeps little for clients that do not read."""
    return _filled(make_service(module_database, EVENTSVC_UNREAD_BYTES=str(16 * MIB)))


def _filled(service: Any) -> Any:
    line = json.dumps(EVENT | {"message": "x" * 8000, "data": ["y" * 1000] * 50}).encode() + b"\n"
    assert service.post(line * 100, Content_Type="application/x-ndjson").status == 201
    return service


def _is_cut_off(wire: Any) -> bool:
    """Whether the service has reset a connection, of which nothing was read."""
    poll = select.poll()
    poll.register(wire.socket, 0)
    return any(event & select.POLLERR for _, event in poll.poll(0))


@pytest.mark.parametrize("accept", ["application/json", "application/x-ndjson", "text/csv"])
def test_a_client_that_reads_nothing_is_cut_off_and_a_slow_client_is_not(
    strict: Any, connect: Callable[..., Any], until: Callable[..., Any], accept: str
) -> None:
    asked = f"GET /event HTTP/1.1\r\nHost: x\r\nAccept: {accept}\r\nConnection: close\r\n\r\n".encode()
    slow, deaf = connect(strict.port, buffer=4096).send(asked), connect(strict.port, buffer=4096).send(asked)
    read = bytearray()

    def step() -> bool:
        read.extend(slow.socket.recv(256))
        return _is_cut_off(deaf)

    until(step)
    while part := slow.socket.recv(65536):
        read += part
    assert bytes(read[-7:]) == b"\r\n0\r\n\r\n" or read.count(b"x" * 8000) > 50


@pytest.mark.parametrize("version", ["1.0", "1.1"])
def test_a_large_page_arrives_whole_and_in_order(strict: Any, connect: Callable[..., Any], version: str) -> None:
    """It is written in pieces, so that other requests do not wait for it."""
    target = "/event?limit=100&fields=id,message,data"
    wire = connect(strict.port).send(f"GET {target} HTTP/{version}\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
    answer = http.client.HTTPResponse(wire.socket)
    answer.begin()
    events = json.loads(answer.read())

    assert len(events) > 50
    exported = strict.ask("GET", target, Accept="application/x-ndjson").body.splitlines()
    assert events == list(map(json.loads, exported))[: len(events)]
    assert [*events[0]] == ["id", "message", "data"]


def test_a_client_that_leaves_only_the_end_of_an_answer_is_cut_off(
    strict: Any, connect: Callable[..., Any], until: Callable[..., Any]
) -> None:
    """However little of an answer waits in the process: of answers of many lengths, some leave just a few bytes."""
    asked = [
        f"GET /event?limit={limit} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode()
        for limit in range(1, 41)
        for _ in range(2)
    ]
    deaf = [connect(strict.port, buffer=4096).send(one) for one in asked]
    until(lambda: _connections(strict) <= 1)
    for wire in deaf:
        wire.close()


def _connections(service: Any) -> float:
    found = re.search(r"^eventsvc_connections ([0-9.e+]+)", service.ask("GET", "/metrics").body.decode(), re.MULTILINE)
    return float(found[1]) if found else 0.0


def test_answers_that_wait_for_slow_clients_have_so_much_room(
    small: Any, connect: Callable[..., Any], until: Callable[..., Any]
) -> None:
    deaf = [connect(small.port, buffer=4096).send(b"GET /event HTTP/1.1\r\nHost: x\r\n\r\n") for _ in range(12)]
    until(lambda: sum(map(_is_cut_off, deaf)) >= 6)
    until(lambda: b'eventsvc_refused_total{status="unread"}' in small.ask("GET", "/metrics").body)
    assert small.ask("GET", "/event?limit=1").status == 200


def test_a_head_that_does_not_come_is_a_408(hasty: Any, connect: Callable[[int], Any]) -> None:
    answer = connect(hasty.port).send(b"GET /event HTTP/1.1\r\nHo").answer()
    assert (answer.status, answer.problem()["type"]) == (408, "/problems#request-timeout")


@pytest.mark.parametrize("length", [b"Content-Length: 100", b"Transfer-Encoding: chunked"])
def test_a_body_that_does_not_come_is_a_408_and_nothing_is_stored(
    hasty: Any, connect: Callable[[int], Any], length: bytes
) -> None:
    before = hasty.count()
    wire = connect(hasty.port).send(BULK + length + b"\r\n\r\n5\r\n{")
    assert wire.answer().problem()["status"] == 408
    assert wire.is_closed()
    assert hasty.count() == before


def test_slow_uploads_hold_no_place_of_bulk_requests(hasty: Any, connect: Callable[[int], Any]) -> None:
    slow = [connect(hasty.port).send(BULK + b"Content-Length: 1000\r\n\r\n{") for _ in range(20)]
    answers = [hasty.post(json.dumps(EVENT).encode(), Content_Type="application/x-ndjson").status for _ in range(5)]
    assert answers == [201] * 5
    assert [wire.answer().status for wire in slow] == [408] * 20


@pytest.mark.parametrize(("encoding", "pack"), [("gzip", gzip.compress), ("zstd", zstandard.compress)])
def test_a_small_bulk_that_is_compressed_does_not_wait_for_one_that_is_read_for_seconds(
    module_database: str,
    make_service: Callable[..., Any],
    until: Callable[..., Any],
    encoding: str,
    pack: Callable[[bytes], bytes],
) -> None:
    """The large one has 600 lines of 70 kB, each of which is bad."""
    service = make_service(module_database, EVENTSVC_BULK_CONCURRENCY="1", EVENTSVC_BULK_SECONDS="4")
    bad = json.dumps(EVENT | {"data": [1e300] * 10_000}).encode() + b"\n"
    headers = {"Content_Type": "application/x-ndjson", "Content_Encoding": encoding}
    with ThreadPoolExecutor(1) as thread:
        large = thread.submit(service.post, pack(bad * 600), "?partial=true", **headers)
        until(lambda: _spooled(service) > 0)
        small = service.post(pack(json.dumps(EVENT).encode() + b"\n") * 3, **headers)
        waited = large.done()

    assert (small.status, small.json()["count"], waited) == (201, 3, False)
    assert large.result().status == 413


def _spooled(service: Any) -> float:
    found = re.search(
        r"^eventsvc_spooled_bytes ([0-9.e+]+)", service.ask("GET", "/metrics").body.decode(), re.MULTILINE
    )
    return float(found[1]) if found else 0.0


@pytest.fixture(scope="module")
def narrow(module_database: str, make_module_service: Callable[..., Any]) -> Any:
    """Little room for bodies under way and for connections, and time enough to send."""
    return make_module_service(
        module_database,
        EVENTSVC_SPOOL_BYTES=str(4 * MIB),
        EVENTSVC_HEAD_SECONDS="120",
        EVENTSVC_BODY_SECONDS="120",
        EVENTSVC_CONNECTIONS="32",
    )


def test_bodies_under_way_have_so_much_room_and_give_it_back(
    narrow: Any, connect: Callable[[int], Any], until: Callable[..., Any]
) -> None:
    line = json.dumps(EVENT | {"message": "x" * 8000}).encode() + b"\n"
    body = line * (3 * MIB // len(line))
    first = connect(narrow.port).send(BULK + b"Content-Length: %d\r\n\r\n" % len(body) + body[:-1])
    until(lambda: _spooled(narrow) >= 2 * MIB)  # more than a second body has room beside
    refused = narrow.post(body, Content_Type="application/x-ndjson")
    assert (refused.status, refused.json()["type"]) == (503, "/problems#write-queue-full")
    assert first.send(body[-1:]).answer().status == 201
    assert narrow.post(body, Content_Type="application/x-ndjson").status == 201


def test_more_connections_than_are_allowed_are_told_so(
    hasty: Any, connect: Callable[[int], Any], until: Callable[..., Any]
) -> None:
    wires = [connect(hasty.port).send(b"GET /event/stream HTTP/1.1\r\nHost: x\r\n\r\n") for _ in range(31)]
    for wire in wires:
        assert wire.answer(head_only=True).status == 200
    last, beyond = connect(hasty.port), connect(hasty.port)
    assert last.send(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n").answer().status == 200
    answer = beyond.answer()
    assert (answer.status, answer.problem()["type"]) == (503, "/problems#too-many-connections")
    assert answer.headers["retry-after"]
    for wire in (*wires, last, beyond):
        wire.close()
    until(lambda: hasty.ask("GET", "/healthz").status == 200)
    metrics = hasty.ask("GET", "/metrics").body.decode()
    assert re.search(r'eventsvc_refused_total\{status="503"\} [1-9]', metrics)
    assert re.search(r"^eventsvc_connections\{[^}]*\} [1-9]|^eventsvc_connections [1-9]", metrics, re.MULTILINE)


_TRICKLE = BULK + b"Content-Length: 100000\r\n\r\n "
_CHUNK = BULK + b"Transfer-Encoding: chunked\r\n\r\n1\r\n \r\n"


@pytest.mark.parametrize("begun", [b"", b"GET /event HTTP/1.1\r\nHo", _TRICKLE, _CHUNK])
def test_a_client_that_pauses_gives_its_place_to_another(
    narrow: Any, connect: Callable[[int], Any], until: Callable[..., Any], begun: bytes
) -> None:
    """As many connections as are allowed send nothing, half a head, or hardly any body: others are still served."""

    def count() -> int:
        metrics = narrow.ask("GET", "/metrics").body.decode()
        found = re.search(r'eventsvc_refused_total\{status="paused"\} (\d+)', metrics)
        return int(found[1]) if found else 0

    until(lambda: narrow.ask("GET", "/healthz").status == 200)
    before = count()
    wires = [connect(narrow.port).send(begun) for _ in range(32)]
    until(lambda: narrow.ask("GET", "/healthz").status == 200)
    assert narrow.post(EVENT).status == 201
    assert count() > before
    for wire in wires:
        wire.close()


def test_with_256_descriptors_everything_still_works(
    module_database: str, connect: Callable[[int], Any], few_descriptors: Callable[[str], Any]
) -> None:
    service = few_descriptors(module_database)
    wires = [connect(service.port) for _ in range(120)]
    line = json.dumps(EVENT | {"message": "x" * 8000}).encode() + b"\n"
    body = line * (MIB // len(line))
    assert service.post(body, Content_Type="application/x-ndjson").status == 201
    assert service.ask("GET", "/readyz").status == 200
    assert b"eventsvc_requests_total" in service.ask("GET", "/metrics").body
    stream = b"GET /event/stream HTTP/1.1\r\nHost: x\r\n\r\n"  # it gives its place to nobody
    assert [connect(service.port).send(stream) for _ in range(130)][-1].answer().status == 503
    assert len(wires) == 120


def test_what_a_driver_says_stays_in_the_log(module_database: str, make_service: Callable[..., Any]) -> None:
    """Hosts, ports and users are none of the client's business; a request id leads to them."""
    service = make_service("host=127.0.0.1 port=9 user=hidden-user dbname=hidden-name")
    asked = [service.ask("GET", "/event"), service.post(EVENT), service.ask("GET", "/readyz")]
    for answer in asked:
        assert answer.status == 503
        assert not re.search(rb"hidden|127\.0\.0\.1|port|psycopg|refused", answer.body), answer.body
    named = service.ask("GET", "/event", X_Request_Id="from-the-proxy-1")
    assert named.json()["requestId"] == named.headers["x-request-id"] == "from-the-proxy-1"


def test_the_api_says_nothing_of_what_only_the_indexer_knows(service: Any) -> None:
    metrics = service.ask("GET", "/metrics").body.decode()
    assert "eventsvc_requests_total" in metrics
    assert "eventsvc_watermark" not in metrics
    assert "eventsvc_horizon" not in metrics
