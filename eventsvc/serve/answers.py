"""Write answers that the app does not write itself, and change how the app's messages reach the client."""

from __future__ import annotations

import asyncio
import fcntl
import sys
import termios
from http import HTTPStatus
from typing import Any

import orjson
from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

from eventsvc.api.problem_types import BY_STATUS

_MOST_GATHERED = 64 * 1024  # bytes


class GatheringTransport:
    """A transport that sends what is written in one round of the event loop together.

    uvicorn writes the head and the body of an answer apart. Sent together, they cost one system call less, and wake the
    client once. And a process that is killed leaves no client with a head whose body never comes.
    """

    def __init__(self, transport: Any, loop: asyncio.AbstractEventLoop) -> None:
        self._transport, self._loop = transport, loop
        self._parts: list[bytes] = []
        self._size = 0

    def write(self, data: bytes) -> None:
        """Send the data at the end of this round, or at once if much waits."""
        if not self._parts:
            self._loop.call_soon(self._send)
        self._parts.append(data)
        self._size += len(data)
        if self._size > _MOST_GATHERED:
            self._send()

    def _send(self) -> None:
        data = b"".join(self._parts)
        self._parts.clear()
        self._size = 0
        if data and not self._transport.is_closing():
            self._transport.write(data)

    def write_eof(self) -> None:
        """Close the sending side after everything that was written."""
        self._send()
        self._transport.write_eof()

    def close(self) -> None:
        """Close the connection after everything that was written."""
        self._send()
        self._transport.close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)


def count_unsent(transport: asyncio.Transport) -> int:
    """Count the bytes that the kernel keeps because the other side has not acknowledged them."""
    try:
        counted = fcntl.ioctl(transport.get_extra_info("socket").fileno(), termios.TIOCOUTQ, bytes(4))
    except (OSError, ValueError):  # another system, or the socket is closed
        return 0
    return int.from_bytes(counted, sys.byteorder)


def send_without_chunks(cycle: RequestResponseCycle) -> Any:
    """Send an answer to HTTP/1.0, which knows no chunks: an answer of unknown length ends with its connection."""
    send, is_endless = cycle.send, False

    async def send_plainly(message: Any) -> None:
        nonlocal is_endless
        if message["type"] == "http.response.start":
            names = {name.lower() for name, _ in message.get("headers", [])}
            is_endless = b"content-length" not in names
            if is_endless:
                cycle.chunked_encoding, cycle.keep_alive = False, False
        elif is_endless:
            cycle.expected_content_length = len(message.get("body", b"")) + bool(message.get("more_body"))
        await send(message)

    return send_plainly


def begin_without_body(receive: Any) -> Any:
    """Let the app start before the body arrives, because it may refuse the request by the head alone."""
    begun = False

    async def receive_later() -> Any:
        nonlocal begun
        if begun:
            return await receive()
        begun = True
        return {"type": "http.request", "body": b"", "more_body": True}

    return receive_later


def render_problem(status: int, detail: str) -> bytes:
    """Write an answer with a problem (RFC 9457), the last of its connection."""
    problem = BY_STATUS[status]
    body = orjson.dumps(
        {"type": problem.type, "title": problem.title, "status": status, "detail": detail, "hint": problem.advice}
    )
    retry = f"retry-after: {problem.retry_after}\r\n" if problem.retry_after else ""
    head = (
        f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\ncontent-type: application/problem+json\r\n"
        f"content-length: {len(body)}\r\n{retry}connection: close\r\n\r\n"
    )
    return head.encode("ascii") + body
