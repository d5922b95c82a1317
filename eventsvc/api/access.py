"""Access control of the API: which right a request needs, whether its key has the right, and which events it may see.

ROUTES declares the right of each route; a route without an entry needs the right admin. The middleware ``Access`` finds
the request's key. Every search of this package compiles its query with ``visible``, which adds the restriction of the
key. An erasure adds the restriction with ``restricted``.
"""

from __future__ import annotations

import asyncio
import ipaddress
import math
import time
from base64 import b64decode
from binascii import Error as Base64Error
from collections import Counter
from functools import partial
from typing import TYPE_CHECKING, Any

from eventsvc.access.rights import EVERYTHING, Rate, Right, read_rate
from eventsvc.access.ticket import LIFETIME, make_ticket, redeem
from eventsvc.access.without_keys import MAKE_ONE
from eventsvc.api.media import send_json
from eventsvc.errors import Forbidden, TooManyRequests, Unauthenticated
from eventsvc.query import ast
from eventsvc.search.search import Compiled, compile_query
from eventsvc.telemetry import DENIED

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from falcon.asgi import Request, Response

    from eventsvc.access.audit import Audit
    from eventsvc.access.keys import Keys
    from eventsvc.access.limiter import Limiter
    from eventsvc.access.rights import Grant
    from eventsvc.search.query_thread import QueryThread
    from eventsvc.settings import Settings

PUBLIC = None
_PROBES = {"/healthz", "/readyz"}  # monitors of the service request these from any address
_STREAM = "/event/stream"

# The right that each method of a route needs. HEAD needs the right of GET. A route without an entry needs admin.
ROUTES: dict[str, dict[str, Right | None]] = {
    "/": {"GET": PUBLIC},  # the page, which requests all that it shows with a key
    "/page/{name}": {"GET": PUBLIC},
    "/event": {"POST": Right.WRITE, "GET": Right.READ, "QUERY": Right.READ},
    "/event/{event_id}": {"GET": Right.READ},
    "/event/{event_id}/context": {"GET": Right.READ},
    "/event/fields": {"GET": Right.READ},
    "/event/stats": {"GET": Right.READ},
    _STREAM: {"GET": Right.READ},
    "/erasure": {"POST": Right.ERASE, "GET": Right.ERASE},
    "/erasure/{erasure_id}": {"GET": Right.ERASE},
    "/ticket": {"POST": Right.READ},
    "/key": {"GET": Right.ADMIN, "POST": Right.ADMIN},
    "/key/{key_id}": {"DELETE": Right.ADMIN},
    "/key/{key_id}/rotation": {"POST": Right.ADMIN},
    "/view": {"GET": Right.READ},
    "/view/{name}": {"GET": Right.READ, "PUT": Right.WRITE, "DELETE": Right.WRITE},
    "/query": {"GET": Right.READ},
    "/problems": {"GET": PUBLIC},
    "/openapi.json": {"GET": PUBLIC},
    "/docs": {"GET": PUBLIC},
    "/healthz": {"GET": PUBLIC},
    "/readyz": {"GET": PUBLIC},
    "/metrics": {"GET": Right.METRICS},
}

_WRONG_KEYS = Rate(100, 60)  # from one address; further attempts are refused unseen
_CHALLENGE = 'Bearer realm="eventsvc"'
_CHALLENGES = f'{_CHALLENGE}, Basic realm="eventsvc", charset="UTF-8"'


class Access:
    """Middleware that admits requests by their keys, limits rates, and tells the audit."""

    def __init__(
        self, keys: Keys, limiter: Limiter, query_thread: QueryThread, audit: Audit, settings: Settings
    ) -> None:
        self._keys, self._limiter, self._query_thread, self._audit = keys, limiter, query_thread, audit
        self._most_exports, self._for_all = settings.exports, settings.open
        self._address_rate = read_rate(settings.address_rate)
        self._exports: Counter[str] = Counter()

    async def process_resource(self, req: Request, resp: Response, resource: object, _params: dict[str, Any]) -> None:
        """Let the request in, or answer 401, 403 or 429."""
        need = needed(req, resource)
        if self._address_rate is not None and req.uri_template not in _PROBES:
            network = _network(req.remote_addr)
            self._limit(resp, "address", network, self._address_rate, f"from {network} may come")
        if need is PUBLIC:
            return
        grant = self._admit(req, resp, need)
        if grant.id and _is_export(req):
            self._begin_export(req, resp, grant)
        req.context.grant, req.context.query_thread = grant, self._query_thread

    async def process_response(self, req: Request, resp: Response, _resource: object, _succeeded: bool) -> None:  # noqa: FBT001
        """Make a long answer end when its key is revoked, and forbid browsers to guess the type of an answer."""
        resp.set_header("X-Content-Type-Options", "nosniff")
        self._note(req, resp)
        if resp.stream is not None and (grant := getattr(req.context, "grant", None)) is not None:
            resp.stream = _UnderWay(resp.stream, self._keys, grant, getattr(req.context, "end_export", lambda: None))
        elif (end := getattr(req.context, "end_export", None)) is not None:
            end()

    def _note(self, req: Request, resp: Response) -> None:
        """Tell the audit about a request that needs a key, if keys are known to be in use."""
        asker: Grant | None = getattr(req.context, "asker", EVERYTHING)
        if asker is not EVERYTHING:
            more = getattr(resp.context, "audit", {})
            values = (
                {} if asker is None else {name: str(value) for name, value in req.params.items() if name != "ticket"}
            )
            self._audit.note(asker, (req.method, req.uri_template or ""), resp.status_code, values, more)

    def _begin_export(self, req: Request, resp: Response, grant: Grant) -> None:
        """Count an export that begins, because each key may have only a few; ``end_export`` counts its end."""
        if self._exports[grant.id] >= self._most_exports:
            DENIED.labels("exports").inc()
            resp.set_header("Retry-After", "1")
            raise TooManyRequests(f"the key {grant.name} has {self._most_exports} exports under way already")
        self._exports[grant.id] += 1
        req.context.end_export = partial(self._end_export, grant.id)

    def _end_export(self, identity: str) -> None:
        self._exports[identity] -= 1
        if not self._exports[identity]:
            del self._exports[identity]

    def _admit(self, req: Request, resp: Response, need: Right) -> Grant:
        try:
            grant = self._find(req)
        except Unauthenticated:
            req.context.asker = None
            self._refuse(req, resp)
            raise
        req.context.asker = grant
        if not grant.allows(need):
            DENIED.labels("right").inc()
            raise Forbidden(f"this needs the right {need}; the key {grant.name} has {', '.join(sorted(grant.rights))}")
        if grant.rate is not None:
            self._limit(resp, "key", grant.id, grant.rate, f"the key {grant.name} may send")
        return grant

    def _find(self, req: Request) -> Grant:
        if self._keys.is_open and not self._for_all and not _is_here(req):
            raise Unauthenticated(f"this came through a proxy to a service without keys: make one with `{MAKE_ONE}`")
        text = _read_key(req.get_header("Authorization"))
        if text is None and req.uri_template == _STREAM and (ticket := req.get_param("ticket")):
            return self._keys.find(None) if self._keys.is_open else redeem(self._keys, ticket)
        return self._keys.find(text)

    def _refuse(self, req: Request, resp: Response) -> None:
        """Answer with a challenge, or with a pause if the address has sent many wrong keys."""
        # A page's own requests must not make the browser ask for a password.
        by_script = req.get_header("Sec-Fetch-Dest", default="document") == "empty"
        if req.get_header("Authorization") is None and not req.get_param("ticket"):
            DENIED.labels("no key").inc()
        else:
            DENIED.labels("wrong key").inc()
            taken = self._limiter.take(f"wrong {_network(req.remote_addr)}", _WRONG_KEYS)
            if taken.wait:
                resp.set_header("Retry-After", str(math.ceil(taken.wait)))
                raise TooManyRequests("too many wrong keys came from this address")
        resp.set_header("WWW-Authenticate", _CHALLENGE if by_script else _CHALLENGES)

    def _limit(self, resp: Response, kind: str, name: str, rate: Rate, who: str) -> None:
        taken = self._limiter.take(f"{kind} {name}", rate)
        resp.append_header("RateLimit-Policy", f'"{kind}";q={rate.requests};w={rate.seconds}')
        resp.append_header("RateLimit", f'"{kind}";r={taken.left};t={math.ceil(taken.full)}')
        if taken.wait:
            DENIED.labels("rate").inc()
            resp.set_header("Retry-After", str(math.ceil(taken.wait)))
            raise TooManyRequests(f"{who} {rate.requests:,} requests in {rate.seconds} s")


class TicketResource:
    """POST /ticket: a short-lived ticket that opens /event/stream, for clients that cannot send a header."""

    async def on_post(self, req: Request, resp: Response) -> None:
        """Answer with a new ticket."""
        send_json(resp, {"ticket": make_ticket(req.context.grant), "expiresIn": LIFETIME})


def needed(req: Request, resource: object) -> Right | None:
    """Give the right that a request needs; PUBLIC if it needs none, or the route has no such method."""
    method = "GET" if req.method == "HEAD" else req.method
    methods = ROUTES.get(req.uri_template or "", {})
    if method in methods:
        return methods[method]
    responder = f"on_{method.lower()}"
    return Right.ADMIN if any(name.startswith(responder) for name in dir(resource)) else PUBLIC


def visible(req: Request, node: ast.Node | None = None) -> Compiled:
    """Compile a query together with the restriction of the request's key; None is the query for every event.

    The "now" of the restriction is the clock's, never a time that the client sends.
    """
    return compile_query(restricted(req, node))


async def compile_text(req: Request, text: str, *, now: int, tz: str) -> Compiled:
    """Read and compile a query as ``visible`` does; blanks are the query for every event.

    Raises:
        QueryError: the query cannot be understood.
        QueriesQueued: too many long queries wait already.
    """
    if not text.strip():
        return visible(req)
    query_thread: QueryThread = req.context.query_thread
    return await query_thread.run(text, lambda: visible(req, query_thread.parse(text, now=now, tz=tz)))


def restricted(req: Request, node: ast.Node | None) -> ast.Node | None:
    """Add the restriction of the request's key to a tree, for an operation that is not a search."""
    restriction = req.context.grant.restriction.node(round(time.time() * 1000))
    parts = [part for part in (node, restriction) if part is not None]
    return ast.conjunction(parts) if parts else None


def visible_part(req: Request) -> str:
    """Name the part of the log that the key of this request sees, for cursors and entity tags."""
    return str(req.context.grant.visible_part)


def _read_key(header: str | None) -> str | None:
    """Find the key in an Authorization header: Bearer, or Basic with the key as password or as user alone."""
    scheme, _, value = (header or "").partition(" ")
    match scheme.lower():
        case "bearer":
            return value.strip()
        case "basic":
            try:
                user, _, password = b64decode(value.strip(), validate=True).decode().partition(":")
            except (Base64Error, UnicodeDecodeError):
                return ""
            return password or user
    return None if header is None else ""


def _is_export(req: Request) -> bool:
    if req.uri_template != "/event" or req.method not in {"GET", "QUERY"}:
        return False
    accepted = req.get_header("Accept") or ""
    return "ndjson" in accepted or "csv" in accepted


def _is_here(req: Request) -> bool:
    """Tell whether the client is on this machine; a trusted proxy says where the client is."""
    client = (req.scope.get("client") or ("",))[0]
    return not client or client.startswith("127.") or client in {"::1", "::ffff:127.0.0.1"}


def _network(address: str) -> str:
    """Give an IPv4 address as it is; of an IPv6 address, give the network of 64 bits, which is one customer's."""
    if ":" not in address:
        return address
    try:
        return str(ipaddress.ip_network(f"{address}/64", strict=False))
    except ValueError:
        return address


class _UnderWay:
    """The body of an answer that is being sent. It is cancelled if its key is revoked."""

    def __init__(self, stream: Any, keys: Keys, grant: Grant, on_end: Callable[[], None]) -> None:
        self._stream, self._keys, self._grant, self._on_end = stream, keys, grant, on_end
        self._chunks = aiter(stream)
        self._task: asyncio.Task[Any] | None = None

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        if self._task is None and (task := asyncio.current_task()) is not None:
            self._task = task
            self._keys.begin(self._grant, task)
        return await anext(self._chunks)

    async def close(self) -> None:
        self._on_end()
        if self._task is not None:
            self._keys.end(self._grant, self._task)
        await (self._stream.close() if hasattr(self._stream, "close") else self._stream.aclose())
