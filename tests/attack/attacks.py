"""What a hostile or broken client does; each attack is bounded, and repeats itself from a seed."""

from __future__ import annotations

import gzip
import json
import socket
import struct
import time
import urllib.parse
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from random import Random

EVENT = {"email": "a@b.test", "environment": "attack", "component": "attack", "message": "hello"}
MIB = 2**20
_PATIENCE = 60.0  # seconds for an answer
_NDJSON = "application/x-ndjson"


@dataclass
class Target:
    """The service under attack.

    Attributes:
        size: 1 for a short attack, more for a long one.
        seconds: how long an attack may go on.
        answers: status codes seen; 0 where the connection ended without an answer.
    """

    port: int
    size: int
    seconds: float
    random: Random
    answers: Counter[int] = field(default_factory=Counter)

    @contextmanager
    def open(self) -> Iterator[socket.socket]:
        with socket.create_connection(("127.0.0.1", self.port), timeout=_PATIENCE) as wire:
            yield wire

    def send(self, *pieces: bytes, close: bool = False) -> int:
        """Send pieces on a connection of their own; give the status of the answer, 0 without one."""
        status = 0
        with suppress(OSError), self.open() as wire:
            for piece in pieces:
                wire.sendall(piece)
            if not close:
                status = _status(wire)
        self.answers[status] += 1
        return status

    def post(self, body: bytes, *fields: str, path: str = "/event") -> int:
        return self.send(head("POST", path, f"Content-Length: {len(body)}", *fields), body)

    def ask(self, query: str, path: str = "/event") -> int:
        return self.send(head("GET", f"{path}?{urllib.parse.urlencode({'q': query})}"))

    def many(self, work: Callable[[int], object], *, clients: int, times: int) -> None:
        """Do the work so many times, by so many clients at once, or until the time is up."""
        end = time.monotonic() + self.seconds

        def one(number: int) -> None:
            if time.monotonic() < end:
                work(number)

        with ThreadPoolExecutor(clients) as pool:
            for _ in pool.map(one, range(times)):
                pass

    def hold(self, stack: ExitStack, count: int, *pieces: bytes) -> list[socket.socket]:
        """Open connections that send this and then stay; those that find no room are left out."""
        wires = []
        for _ in range(count):
            with suppress(OSError):
                wire = stack.enter_context(self.open())
                for piece in pieces:
                    wire.sendall(piece)
                wires.append(wire)
        return wires


def head(method: str, path: str, *fields: str) -> bytes:
    lines = (f"{method} {path} HTTP/1.1", "Host: attack", "Connection: close", *fields)
    return ("\r\n".join(lines) + "\r\n\r\n").encode("utf-8", "surrogateescape")


def _status(wire: socket.socket) -> int:
    come = b""
    while b"\r\n" not in come and (part := wire.recv(4096)):
        come += part
    return int(come.split(b" ")[1]) if come.startswith(b"HTTP/1.1 ") else 0


def _lines(*events: bytes) -> bytes:
    return b"\n".join(events) + b"\n"


def _event(**changes: object) -> bytes:
    return json.dumps(EVENT | changes).encode()


def unclosed_strings(target: Target) -> None:
    """strings that never end, behind 501 brackets"""

    def one(number: int) -> None:
        escapes = 20_000 * target.random.randint(1, 5)
        body = b'{"email":"' + b"[" * 501 + b'\\"' * escapes
        if number % 2:
            target.post(body, "Content-Type: application/json")
        else:
            packed = gzip.compress(body + b"\n")
            target.post(packed, f"Content-Type: {_NDJSON}", "Content-Encoding: gzip", path="/event?dryRun=true")

    target.many(one, clients=8, times=12 * target.size)


def heavy_live_queries(target: Target) -> None:
    """live queries of a thousand comparisons, and events of thousands of numbers and texts"""
    numbers = ",".join(str(number) for number in range(10_000, 11_020))
    texts = " OR ".join(f"data ct 'x{number}y'" for number in range(400))
    queries = (f"data.a in ({numbers})", texts, " OR ".join(["message ct 'İx'"] * 380))
    events = (
        _event(data={"a": list(range(9_000))}),
        _event(data=["abc" * 2] * 6_000),
        _event(message="İ" * 8_000),
    )
    with ExitStack() as stack:
        for query in queries:
            target.hold(stack, 2, head("GET", f"/event/stream?{urllib.parse.urlencode({'q': query})}"))
        target.many(
            lambda number: target.post(events[number % 3], "Content-Type: application/json"),
            clients=4,
            times=12 * target.size,
        )


def bodies_that_nobody_reads(target: Target) -> None:
    """bodies of 100 MiB behind requests that have none"""
    chunk = b"10000\r\n" + b"x" * 65_536 + b"\r\n"

    def one(number: int) -> None:
        path = ("/event/stream", "/healthz", "/event")[number % 3]
        with suppress(OSError), target.open() as wire:
            wire.sendall(head("GET", path, "Transfer-Encoding: chunked"))
            wire.settimeout(0.5)
            for _ in range(1600):
                wire.sendall(chunk)

    target.many(one, clients=6, times=6 * target.size)


def queries_with_errors(target: Target) -> None:
    """queries of 8,000 characters with an error at the end, from 64 clients"""
    wrong = " OR ".join(["component eq 'a'"] * 400)[:5_000]

    def one(number: int) -> None:
        # URL-encoding triples the quotes: the whole must stay within a request line.
        text = urllib.parse.quote(f"{wrong} {number}", safe="'() =")[:7_800].replace(" ", "+")
        target.send(head("GET", f"/{'event' if number % 2 else 'query'}?q={text}"))
        body = (" OR ".join(["message ct 'ab'"] * 420) + " OR and").encode()
        target.send(head("QUERY", "/event", "Content-Type: text/plain", f"Content-Length: {len(body)}"), body)

    target.many(one, clients=64, times=20 * target.size)


def bulk_of_bad_numbers(target: Target) -> None:
    """bulk requests with 10,000 large numbers in each line"""
    line = _event(data=[1e300] * 10_000)
    body = gzip.compress(_lines(*[line] * (300 * target.size)), 6)
    path = f"/event?{'partial=true' if target.size > 1 else 'dryRun=false'}"
    target.many(
        lambda _: target.post(body, f"Content-Type: {_NDJSON}", "Content-Encoding: gzip", path=path),
        clients=4,
        times=4,
    )


def bombs(target: Target) -> None:
    """gzip bombs of 100 MiB"""
    bomb = gzip.compress((b" " * 9_999 + b"\n") * (MIB // 100), 1)
    kinds = ("application/json", _NDJSON)
    target.many(
        lambda number: target.post(bomb, f"Content-Type: {kinds[number % 2]}", "Content-Encoding: gzip"),
        clients=4,
        times=4 * target.size,
    )


def unread_answers(target: Target) -> None:
    """pages, exports and streams that are asked for and not read"""
    large = _lines(*[_event(message="m" * 1_000, data=["d" * 1_000] * 50)] * 60)
    for _ in range(2 * target.size):
        target.post(large, f"Content-Type: {_NDJSON}")
    with ExitStack() as stack:
        target.hold(stack, 10 * target.size, head("GET", "/event?limit=1000&q=component%20eq%20'attack'"))
        target.hold(stack, 10 * target.size, head("GET", "/event", f"Accept: {_NDJSON}"))
        target.hold(stack, 20 * target.size, head("GET", "/event/stream"))
        target.many(lambda _: target.post(large, f"Content-Type: {_NDJSON}"), clients=2, times=4 * target.size)


def slow_queries(target: Target) -> None:
    """queries that only PostgreSQL can answer, some from clients that do not wait"""

    def one(number: int) -> None:
        query = " OR ".join(f"data.trace ct '{number}-{part}'" for part in range(120))
        request = head("GET", f"/event?{urllib.parse.urlencode({'q': query})}")
        target.send(request, close=number % 3 == 0)

    target.many(one, clients=32, times=24 * target.size)


def trickling_uploads(target: Target) -> None:
    """uploads that send a byte now and then"""
    request = head("POST", "/event", f"Content-Type: {_NDJSON}", "Content-Length: 100000")
    end = time.monotonic() + min(target.seconds, 2.0 * target.size)
    with ExitStack() as stack:
        wires = target.hold(stack, 132, request, b"{")
        while time.monotonic() < end:
            for wire in wires:
                with suppress(OSError):
                    wire.sendall(b" ")
            target.post(_lines(_event()), f"Content-Type: {_NDJSON}")


def idle_connections(target: Target) -> None:
    """connections that say nothing, half a head, or wait on a stream"""
    with ExitStack() as stack:
        target.hold(stack, 80 * target.size)
        target.hold(stack, 80 * target.size, b"GET /event HTTP/1.1\r\nHo")
        target.hold(stack, 60 * target.size, head("GET", "/event/stream"))
        target.many(lambda _: target.post(_event(), "Content-Type: application/json"), clients=4, times=20)


def malformed(target: Target) -> None:
    """malformed heads, bodies, chunks and pairs, and early ends"""

    def one(number: int) -> None:
        make = _MALFORMED[number % len(_MALFORMED)]
        target.send(*make(Random(number)), close=number % 7 == 0)

    target.many(one, clients=16, times=1_000 * target.size**2)


def _mutated(random: Random) -> tuple[bytes, ...]:
    request = bytearray(head("POST", "/event", "Content-Type: application/json", "Content-Length: 105") + _event())
    for _ in range(random.randint(1, 6)):
        request[random.randrange(len(request))] = random.choice(b"\x00\r\n \t:\x7f\xff%Z0")
    # Another line break may make a head that waits for more: a half-closed connection ends that.
    return (bytes(request) + b"\r\n\r\n",)


def _odd_body(random: Random) -> tuple[bytes, ...]:
    body = bytes(random.choice((*b'{}[]",:\\u0e-', 0, 0xC3, 0xED)) for _ in range(random.randint(0, 400)))
    kind = random.choice(("application/json", _NDJSON, "text/plain", "application/json; charset=utf-16"))
    coding = random.choice(("identity", "gzip", "zstd", "gzip, gzip", "br"))
    fields = (f"Content-Type: {kind}", f"Content-Encoding: {coding}", f"Content-Length: {len(body)}")
    return head("POST", "/event?partial=true", *fields), body


def _odd_chunks(random: Random) -> tuple[bytes, ...]:
    size = random.choice((b"-1", b"zz", b"ffffffffffffffffff", b"5;ext=" + b"x" * 200, b"0x5", b" 5", b"5\n"))
    request = head("POST", "/event", "Content-Type: application/json", "Transfer-Encoding: chunked")
    return request, size + b"\r\n{}   \r\n0\r\n\r\n"


def _smuggled(random: Random) -> tuple[bytes, ...]:
    fields = random.choice(
        (
            ("Content-Length: 5", "Transfer-Encoding: chunked"),
            ("Content-Length: 5", "Content-Length: 6"),
            ("Transfer-Encoding: chunked", "Transfer-Encoding: identity"),
            ("Transfer-Encoding : chunked",),
            ("Transfer-Encoding: xchunked",),
            ("Content-Length: +5",),
            ("Host: other",),
        )
    )
    return (head("POST", "/event", *fields) + b"0\r\n\r\nGET /metrics HTTP/1.1\r\nHost: x\r\n\r\n",)


def _odd_target(random: Random) -> tuple[bytes, ...]:
    path = random.choice(
        ("/event/%00", "/event?q=%ff", "//event///", "/event/../metrics", "*", "/event?cursor=" + "A" * 60, "/é")
    )
    method = random.choice(("GET", "QUERY", "BREW", "DELETE", "OPTIONS", "HEAD"))
    return (head(method, path, f"Accept: {random.choice(('*/*', 'x', 'text/csv', 'application/json;q=x'))}"),)


def _odd_parameters(random: Random) -> tuple[bytes, ...]:
    names = ("q", "limit", "cursor", "tz", "fields", "order", "interval", "by", "lastEventId", "before")
    values = ("", "-1", "1e9", "now", "'", "(" * 70, "\udc80", "data.a", "NaN", "A" * 300)
    pairs = [(random.choice(names), random.choice(values)) for _ in range(random.randint(1, 4))]
    path = random.choice(("/event", "/event/stats", "/event/fields", "/query", "/event/stream"))
    return (head("GET", f"{path}?{urllib.parse.urlencode(pairs, errors='surrogateescape')}"),)


def _large_head(random: Random) -> tuple[bytes, ...]:
    kinds = (
        head("GET", "/event?q=" + "a" * 9_000),
        head("GET", "/event", *[f"X-{number}: y" for number in range(200)]),
        head("GET", "/event", "X-Long: " + "y" * 80_000),
        struct.pack(">200B", *(random.randrange(256) for _ in range(200))) + b"\r\n\r\n",
        b"GET /ws HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade, close\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    )
    return (random.choice(kinds),)


_MALFORMED = (_mutated, _odd_body, _odd_chunks, _smuggled, _odd_target, _odd_parameters, _large_head)

ATTACKS: tuple[Callable[[Target], None], ...] = (
    unclosed_strings,
    heavy_live_queries,
    bodies_that_nobody_reads,
    queries_with_errors,
    bulk_of_bad_numbers,
    bombs,
    unread_answers,
    slow_queries,
    trickling_uploads,
    idle_connections,
    malformed,
)
