"""What every request meets before its resource: the form of its URL, and HEAD where there is GET."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import unquote_to_bytes

import falcon

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from falcon.asgi import Request, Response

    Responder = Callable[..., Awaitable[None]]


class Edge:
    """Middleware."""

    async def process_request(self, req: Request, _resp: Response) -> None:
        """Refuse a URL that is not UTF-8, and forgive a slash too many."""
        _check_text(req.scope["query_string"])
        _check_text(req.scope.get("raw_path", b""))
        if req.path.startswith("//"):  # the base URL of the client ends in a slash
            req.path = "/" + req.path.lstrip("/")


def _check_text(raw: bytes) -> None:
    if not raw.isascii():
        raise falcon.HTTPBadRequest(description="The URL holds bytes beyond ASCII; send them percent-encoded.")
    if b"%" not in raw:
        return
    try:
        unquote_to_bytes(raw).decode()
    except UnicodeDecodeError as exc:
        detail = f"The URL is not UTF-8 once its %XX are decoded ({exc.reason}); é, for one, is %C3%A9."
        raise falcon.HTTPBadRequest(description=detail) from exc


def answer_head(on_get: Responder) -> Responder:
    """Make a responder for HEAD that does what GET does; the body is left out by the framework."""

    async def on_head(req: Request, resp: Response, **parameters: Any) -> None:
        await on_get(req, resp, **parameters)
        if resp.stream is not None:
            stream: Any = resp.stream
            await (stream.close if hasattr(stream, "close") else stream.aclose)()

    return on_head
