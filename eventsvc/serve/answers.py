"""Write answers that the app does not write itself, and change how the app's messages reach the client."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

import orjson
from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

from eventsvc.api.problem_types import BY_STATUS


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


def count_unwritten(cycle: RequestResponseCycle | None) -> int:
    """Count the bytes of an answer under way that the app still holds, because the client has not taken the others."""
    if cycle is None or cycle.response_complete:
        return 0
    return int(cycle.scope.get("state", {}).get("unwritten", 0))


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
