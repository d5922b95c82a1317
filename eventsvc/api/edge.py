"""Checks and changes for every request and every answer.

They concern the form of the URL, proxies in front of the service, pages of other origins (CORS), and HEAD.
"""

from __future__ import annotations

import ipaddress
import re
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote_to_bytes

import falcon

from eventsvc.api.media import choose_type
from eventsvc.errors import SetupError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from falcon.asgi import Request, Response

    from eventsvc.settings import Settings

    Responder = Callable[..., Awaitable[None]]

_PREFIX = re.compile(r"(/[A-Za-z0-9._~-]+)+")
_PREFLIGHT_SECONDS = "600"
_SENT_HEADERS = (
    "Accept, Authorization, Content-Encoding, Content-Type, Idempotency-Key, If-None-Match, Last-Event-ID, Prefer,"
    " X-Request-Id"
)
_READ_HEADERS = (
    "Accept-Query, ETag, Eventsvc-Lag, Eventsvc-Reason, Eventsvc-Source, Eventsvc-Watermark, Idempotency-Replayed,"
    " Link, Location, Preference-Applied, RateLimit, RateLimit-Policy, Retry-After, WWW-Authenticate, X-Request-Id,"
    " X-Total-Count"
)


class Edge:
    """Middleware for URLs, proxies, types and origins."""

    def __init__(self, settings: Settings) -> None:
        self._origins = set(_split(settings.cors_origins))
        self._proxies = _read_networks(settings.trusted_proxies)

    async def process_request(self, req: Request, _resp: Response) -> None:
        """Refuse a URL that is not UTF-8, remove an extra slash, and read the headers of a trusted proxy."""
        _check_text(req.scope["query_string"])
        _check_text(req.scope.get("raw_path", b""))
        if req.path.startswith("//"):  # the base URL of the client ends in a slash
            req.path = "/" + req.path.lstrip("/")
        if any(name.startswith(b"x-forwarded-") for name, _ in req.scope["headers"]):
            self._hear_proxy(req)

    async def process_resource(self, req: Request, _resp: Response, resource: object, _params: object) -> None:
        """Refuse a read whose Accept allows no type of the resource. A write is never refused for its answer's type."""
        types = getattr(resource, "types", None)
        if types and req.method not in {"POST", "OPTIONS", "DELETE"}:
            choose_type(req, types)

    async def process_response(self, req: Request, resp: Response, _resource: object, _succeeded: bool) -> None:  # noqa: FBT001
        """Put the proxy's prefix into links, and let pages of the configured origins read the answer."""
        if req.scope.get("root_path"):
            _lead_back(req.scope["root_path"], resp)
        if self._origins:
            self._allow_origin(req, resp)

    def _hear_proxy(self, req: Request) -> None:
        """Take prefix, scheme and client from the headers of a trusted proxy."""
        client = (req.scope.get("client") or ("",))[0]
        if not self._is_trusted(client):
            return
        prefix = (req.get_header("X-Forwarded-Prefix") or "").strip().rstrip("/")
        if _PREFIX.fullmatch(prefix):
            req.scope["root_path"] = prefix
        scheme = (req.get_header("X-Forwarded-Proto") or "").strip().lower()
        if scheme in {"http", "https"}:
            req.scope["scheme"] = scheme
        # Each proxy appends the address that it saw. The client is the last address that is no trusted proxy.
        hops = [hop.strip() for hop in (req.get_header("X-Forwarded-For") or "").split(",") if hop.strip()]
        for hop in reversed(hops):
            req.scope["client"] = (hop, 0)
            if not self._is_trusted(hop):
                break

    def _is_trusted(self, text: str) -> bool:
        try:
            address = ipaddress.ip_address(text)
        except ValueError:
            return False
        return any(address in network for network in self._proxies)

    def _allow_origin(self, req: Request, resp: Response) -> None:
        resp.append_header("Vary", "Origin")
        origin = req.get_header("Origin")
        if origin is None or not self._origins & {origin, "*"}:
            return
        resp.set_header("Access-Control-Allow-Origin", origin)
        if req.method == "OPTIONS" and req.get_header("Access-Control-Request-Method"):
            resp.set_header("Access-Control-Allow-Methods", resp.get_header("Allow") or "")
            resp.set_header("Access-Control-Allow-Headers", _SENT_HEADERS)
            resp.set_header("Access-Control-Max-Age", _PREFLIGHT_SECONDS)
        else:
            resp.set_header("Access-Control-Expose-Headers", _READ_HEADERS)


def _split(text: str) -> list[str]:
    return text.replace(",", " ").split()


def _read_networks(text: str) -> list[ipaddress.IPv4Network | ipaddress.IPv6Network]:
    try:
        return [ipaddress.ip_network(one) for one in _split(text)]
    except ValueError as exc:
        raise SetupError(f"EVENTSVC_TRUSTED_PROXIES: {exc}") from exc


def _lead_back(prefix: str, resp: Response) -> None:
    """Put the prefix before every link in the headers; all our links are paths."""
    if (location := resp.get_header("Location")) and location.startswith("/"):
        resp.set_header("Location", prefix + location)
    if link := resp.get_header("Link"):
        resp.set_header("Link", link.replace("</", f"<{prefix}/"))


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
    """Make a responder for HEAD that runs the one of GET. The framework leaves out the body."""

    async def on_head(req: Request, resp: Response, **parameters: Any) -> None:
        await on_get(req, resp, **parameters)
        if resp.stream is not None:
            stream: Any = resp.stream
            await (stream.close if hasattr(stream, "close") else stream.aclose)()

    return on_head
