"""A lean HTTP load generator: keep-alive connections, one request under way on each, one epoll loop.

The machine that is measured also runs this, so it does as little as it can: no client library, no event loop.
"""

from __future__ import annotations

import itertools
import select
import socket
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Load:
    """What came out."""

    requests: int
    seconds: float
    latencies: tuple[float, ...]
    refused: int

    @property
    def rate(self) -> float:
        """Requests answered 2xx, per second."""
        return self.requests / self.seconds

    def percentile(self, share: float) -> float:
        """Seconds within which that share was answered."""
        return sorted(self.latencies)[min(len(self.latencies) - 1, int(share * len(self.latencies)))]


def post(host: str, port: int, body: bytes, *, connections: int, seconds: float, fields: str = "") -> Load:
    """Send the same POST /event again and again; ``fields`` are more lines of its head."""
    request = (
        b"POST /event HTTP/1.1\r\nHost: bench\r\n%s"
        b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n" % (fields.encode(), len(body))
    ) + body
    return _send(host, port, [request], connections=connections, seconds=seconds)


def get(host: str, port: int, paths: Sequence[str], *, connections: int, seconds: float) -> Load:
    """Send GET requests for these paths, with their queries, in turns."""
    requests = [f"GET {path} HTTP/1.1\r\nHost: bench\r\n\r\n".encode() for path in paths]
    return _send(host, port, requests, connections=connections, seconds=seconds)


def _send(host: str, port: int, requests: Sequence[bytes], *, connections: int, seconds: float) -> Load:
    poller = select.epoll()
    sockets = {}
    for _ in range(connections):
        connection = socket.create_connection((host, port))
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sockets[connection.fileno()] = connection
        poller.register(connection.fileno(), select.EPOLLIN)
    try:
        return _run(poller, sockets, itertools.cycle(requests), seconds)
    finally:
        poller.close()
        for connection in sockets.values():
            connection.close()


def _run(poller: select.epoll, sockets: dict[int, socket.socket], requests: Iterator[bytes], seconds: float) -> Load:
    clock = time.perf_counter
    began = clock()
    sent = {}
    for number, connection in sockets.items():
        sent[number] = clock()
        connection.sendall(next(requests))
    latencies = []
    refused = 0
    parts: dict[int, bytes] = {}
    while (now := clock()) < began + seconds:
        for number, _ in poller.poll(1):
            answer = parts.pop(number, b"") + sockets[number].recv(65536)
            if not answer:
                raise ConnectionError("the server closed a connection")
            if not _is_whole(answer):
                parts[number] = answer
                continue
            now = clock()
            if answer.startswith((b"HTTP/1.1 201", b"HTTP/1.1 200")):
                latencies.append(now - sent[number])
            else:
                refused += 1
            sent[number] = now
            sockets[number].sendall(next(requests))
    return Load(len(latencies), now - began, tuple(latencies), refused)


def _is_whole(answer: bytes) -> bool:
    head = answer.find(b"\r\n\r\n")
    if head < 0:
        return False
    at = answer.find(b"ontent-length: ") + 15
    return len(answer) >= head + 4 + int(answer[at : answer.index(b"\r", at)])
