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

import zstandard

from eventsvc.access.key_text import make_key
from tests.attack import malformed
from tests.attack.malformed import EVENT, NDJSON

MIB = 2**20
_PATIENCE = 150.0  # seconds for an answer: a bulk may wait for another to be read, a minute each


@dataclass
class Target:
    """The service under attack.

    Attributes:
        size: 1 for a short attack, more for a long one.
        seconds: how long an attack may go on.
        keys: keys that are valid, if the service needs keys; the first may read.
        limited_key: a key with a rate.
        malformed: how many malformed requests a long attack sends.
        answers: status codes seen; 0 where the connection ended without an answer.
    """

    port: int
    size: int
    seconds: float
    seed: int
    keys: tuple[str, ...] = ()
    limited_key: str = ""
    malformed: int = 100_000
    answers: Counter[int] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self.random = Random(self.seed)

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

    def shoot(self, pieces: tuple[bytes, ...], end: str) -> None:
        """Send pieces, then end: close our side and read the answer, close all, or reset."""
        status = 0
        with suppress(OSError), self.open() as wire:
            wire.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if end == "reset":
                wire.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            with suppress(OSError):  # it may have been refused already
                for piece in pieces:
                    wire.sendall(piece)
                wire.shutdown(socket.SHUT_WR)
            if end == "half":
                status = _status(wire)
        self.answers[status] += 1

    def post(self, body: bytes, *fields: str, path: str = "/event") -> int:
        return self.send(head("POST", path, f"Content-Length: {len(body)}", *fields), body)

    def ask(self, query: str, path: str = "/event") -> int:
        return self.send(head("GET", f"{path}?{urllib.parse.urlencode({'q': query})}"))

    def many(self, work: Callable[[int], object], *, clients: int, times: int, seconds: float | None = None) -> None:
        """Do the work so many times, by so many clients at once, or until the time is up."""
        end = time.monotonic() + (seconds or self.seconds)

        def one(number: int) -> None:
            if time.monotonic() < end:
                work(number)

        with ThreadPoolExecutor(clients) as pool:
            for _ in pool.map(one, range(times)):
                pass

    def hold(self, stack: ExitStack, count: int, *pieces: bytes, deaf: bool = False) -> list[socket.socket]:
        """Open connections that send this and then stay; those that find no room are left out.

        With ``deaf``, our kernel takes next to nothing of the answers.
        """
        wires = []
        for _ in range(count):
            with suppress(OSError):
                wire = stack.enter_context(socket.socket())
                if deaf:
                    wire.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
                wire.settimeout(_PATIENCE)
                wire.connect(("127.0.0.1", self.port))
                for piece in pieces:
                    wire.sendall(piece)
                wires.append(wire)
        return wires


def head(method: str, path: str, *fields: str) -> bytes:
    lines = (f"{method} {path} HTTP/1.1", "Host: attack", "Connection: close", *fields)
    return ("\r\n".join(lines) + "\r\n\r\n").encode("utf-8", "surrogateescape")


def _status(wire: socket.socket) -> int:
    come = b""
    while b"\r\n" not in (come := come.removeprefix(_CONTINUE)) and (part := wire.recv(4096)):
        come += part
    return int(come.split(b" ")[1]) if come.startswith(b"HTTP/1.1 ") else 0


_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


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
            target.post(packed, f"Content-Type: {NDJSON}", "Content-Encoding: gzip", path="/event?dryRun=true")

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
    body = gzip.compress(_lines(*[line] * (100 if target.size == 1 else 300 * target.size)), 6)
    path = f"/event?{'partial=true' if target.size > 1 else 'dryRun=false'}"
    target.many(
        lambda _: target.post(body, f"Content-Type: {NDJSON}", "Content-Encoding: gzip", path=path),
        clients=4,
        times=4,
    )


def bombs(target: Target) -> None:
    """bombs of 100 MiB, gzip and zstd"""
    blanks = (b" " * 9_999 + b"\n") * (MIB // 100)
    made = (("gzip", gzip.compress(blanks, 1)), ("zstd", zstandard.compress(blanks)))
    kinds = ("application/json", NDJSON)

    def one(number: int) -> None:
        coding, bomb = made[number // 2 % 2]
        target.post(bomb, f"Content-Type: {kinds[number % 2]}", f"Content-Encoding: {coding}")

    target.many(one, clients=4, times=4 * target.size)


def unread_answers(target: Target) -> None:
    """pages, exports, streams and everything else that is long, asked for and not read"""
    large = _lines(*[_event(message="m" * 1_000, data=["d" * 1_000] * 50)] * 60)
    for _ in range(2 * target.size):
        target.post(large, f"Content-Type: {NDJSON}")
    with ExitStack() as stack:
        for limit in (1000, 100):
            page = f"/event?limit={limit}&q=component%20eq%20'attack'"
            target.hold(stack, 10 * target.size, head("GET", page), deaf=True)
        target.hold(stack, 20 * target.size, head("GET", "/event/stream"))
        for accept in (NDJSON, "text/csv"):
            target.hold(stack, 5 * target.size, head("GET", "/event", f"Accept: {accept}"), deaf=True)
        for path in ("/event/fields", "/event/stats?by=message", "/openapi.json", "/docs", "/problems", "/"):
            target.hold(stack, target.size, head("GET", path), deaf=True)
        target.many(lambda _: target.post(large, f"Content-Type: {NDJSON}"), clients=2, times=4 * target.size)


def slow_queries(target: Target) -> None:
    """queries that only PostgreSQL can answer, some from clients that do not wait"""

    def one(number: int) -> None:
        query = " OR ".join(f"data.trace ct '{number}-{part}'" for part in range(120))
        request = head("GET", f"/event?{urllib.parse.urlencode({'q': query})}")
        target.send(request, close=number % 3 == 0)

    target.many(one, clients=32, times=8 if target.size == 1 else 24 * target.size)


def slowloris(target: Target) -> None:
    """500 heads and bodies of which a byte comes now and then"""
    kinds = (
        b"GET /event HTTP/1.1\r\nHost: x\r\nX-Slow: ",
        head("POST", "/event", f"Content-Type: {NDJSON}", "Content-Length: 100000"),
        head("POST", "/event", f"Content-Type: {NDJSON}", "Transfer-Encoding: chunked") + b"fffff\r\n",
        head("PUT", "/view/slow", "Content-Type: application/json", "Content-Length: 1000"),
    )
    end = time.monotonic() + min(target.seconds, 4.0 * target.size)
    with ExitStack() as stack:
        wires = [wire for kind in kinds for wire in target.hold(stack, 33 if target.size == 1 else 125, kind)]
        while time.monotonic() < end:
            for wire in wires:
                with suppress(OSError):
                    wire.sendall(b" ")
            target.post(_lines(_event()), f"Content-Type: {NDJSON}")


def idle_connections(target: Target) -> None:
    """connections that say nothing or half a head, and 300 streams that wait"""
    with ExitStack() as stack:
        target.hold(stack, 80 * target.size)
        target.hold(stack, 80 * target.size, b"GET /event HTTP/1.1\r\nHo")
        target.hold(stack, 50 * target.size, head("GET", "/event/stream"))
        target.many(lambda _: target.post(_event(), "Content-Type: application/json"), clients=4, times=20)


def requests_sent_ahead(target: Target) -> None:
    """thousands of requests in one packet, behind a stream and behind nothing"""
    ahead = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n" * 2_000
    first = b"GET /event/stream HTTP/1.1\r\nHost: x\r\n\r\n"
    with ExitStack() as stack:
        target.hold(stack, 20 * target.size, first, ahead)
        target.many(lambda _: target.send(ahead), clients=8, times=20 * target.size)


def tiny_chunks(target: Target) -> None:
    """bodies in chunks of one byte, and chunks with extensions of 60 kB"""
    pieces = (b"1\r\n \r\n" * 10_000, (b"1;" + b"x" * 60_000 + b"\r\n \r\n") * 2)

    def one(number: int) -> None:
        request = head("POST", "/event", f"Content-Type: {NDJSON}", "Transfer-Encoding: chunked")
        target.send(request, *[pieces[number % 2]] * 20, b"0\r\n\r\n")

    target.many(one, clients=4, times=8 * target.size)


def malformed_requests(target: Target) -> None:
    """malformed requests of every route: heads, bodies, chunks, pairs, early ends"""

    def one(number: int) -> None:
        random = Random(target.seed * 10**7 + number)
        pieces = malformed.make(random, target.keys)
        target.shoot(pieces, random.choice(("half", "half", "half", "half", "half", "half", "close", "reset")))

    # The long attack makes all of them, however long it takes.
    target.many(one, clients=16, times=300 if target.size == 1 else target.malformed, seconds=target.seconds * 60)


def similar_paths(target: Target) -> None:
    """thousands of paths with similar names, compared and listed, beside floods of /readyz and /metrics"""
    name = "ab" * 20
    events = [_event(data={f"{name}{number:02}{part:03}": part for part in range(400)}) for number in range(20)]
    target.post(_lines(*events), f"Content-Type: {NDJSON}")
    alike = " OR ".join(f"data.{name}x{part} exists" for part in range(8))
    paths = (f"/query?{urllib.parse.urlencode({'q': alike, 'paths': 'true'})}", "/event/fields", "/readyz", "/metrics")
    target.many(lambda number: target.send(head("GET", paths[number % 4])), clients=32, times=40 * target.size**2)


def descriptors(target: Target) -> None:
    """spooled uploads, streams and connections that leave few descriptors, then none"""
    large = head("POST", "/event", f"Content-Type: {NDJSON}", "Content-Length: 2000000") + b" " * 400_000
    body = _lines(*[_event(message="m" * 8_000)] * 40)
    with ExitStack() as stack:
        target.hold(stack, 40, large)
        target.hold(stack, 40, head("GET", "/event/stream"))
        target.hold(stack, 40)
        for more in (0, 300):
            target.hold(stack, more)
            target.many(lambda _: target.post(body, f"Content-Type: {NDJSON}"), clients=8, times=50 * target.size)


def wrong_keys(target: Target) -> None:
    """10,000 wrong keys from one address, well-formed, mistyped and of no form"""
    kinds = (make_key, lambda: make_key()[:-1] + "x", lambda: "x" * target.random.randint(1, 4_000))

    def one(number: int) -> None:
        fields = (f"Authorization: Bearer {kinds[number % 3]()}", "X-Forwarded-For: 10.6.6.1")
        target.send(head("GET", "/event?limit=1", *fields))

    target.many(one, clients=16, times=300 if target.size == 1 else 10_000, seconds=target.seconds * 60)


def flooded_buckets(target: Target) -> None:
    """one key and one address far beyond their rates"""

    def one(number: int) -> None:
        address = f"10.6.{number % 200}.2" if number % 2 else "10.6.6.3"
        fields = (f"Authorization: Bearer {target.limited_key if number % 2 else target.keys[0]}",)
        target.send(head("GET", "/event?limit=1", *fields, f"X-Forwarded-For: {address}"))

    target.many(one, clients=16, times=200 * target.size**2)


def dear_reads_of_one_key(target: Target) -> None:
    """exports that are not read, and searches that only PostgreSQL can answer, all with one key"""
    fields = (f"Authorization: Bearer {target.keys[0]}",)
    large = _lines(*[_event(message="m" * 1_000, data=["d" * 1_000] * 50)] * 60)
    target.post(large, f"Content-Type: {NDJSON}", f"Authorization: Bearer {target.keys[1]}")

    def one(number: int) -> None:
        query = " OR ".join(f"data.trace ct '{number}-{part}'" for part in range(120))
        from_ = f"X-Forwarded-For: 10.6.{number % 200}.4"
        target.send(head("GET", f"/event?{urllib.parse.urlencode({'q': query})}", *fields, from_))
        target.send(head("GET", "/event", *fields, from_, f"Accept: {NDJSON}"))

    with ExitStack() as stack:
        target.hold(stack, 10 * target.size, head("GET", "/event", *fields, f"Accept: {NDJSON}"), deaf=True)
        target.hold(stack, 10 * target.size, head("GET", "/event/stream", *fields))
        target.many(one, clients=16, times=4 if target.size == 1 else 16 * target.size)


Attack = Callable[[Target], None]
ATTACKS: tuple[Attack, ...] = (
    unclosed_strings,
    heavy_live_queries,
    bodies_that_nobody_reads,
    queries_with_errors,
    bulk_of_bad_numbers,
    bombs,
    unread_answers,
    slow_queries,
    slowloris,
    idle_connections,
    requests_sent_ahead,
    tiny_chunks,
    similar_paths,
    malformed_requests,
)
WITH_KEYS: tuple[Attack, ...] = (wrong_keys, flooded_buckets, dear_reads_of_one_key, malformed_requests)
WITH_FEW_DESCRIPTORS: tuple[Attack, ...] = (descriptors,)
