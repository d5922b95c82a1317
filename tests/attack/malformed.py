"""Malformed requests from a seed: a valid request of any route, changed in one to four ways, cut, or sent in pieces."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from random import Random
from urllib.parse import quote

from eventsvc.api.access import ROUTES

EVENT = {"email": "a@b.test", "environment": "attack", "component": "attack", "message": "hello"}
NDJSON = "application/x-ndjson"
_ID = "00000000-0000-4000-8000-000000000000"
# Two faults each, so that one change makes no key and erases nothing.
_BODIES: dict[str, object] = {
    "POST /event": EVENT | {"data": {"a": [1, 2.5, "x"], "b": {"c": None}}, "occurredAt": "2026-01-01T00:00:00Z"},
    "POST /erasure": {"q": "message eq 'no such'", "reason": "attack", "tz": "UTC", "dryRun": True, "untilNow": False},
    "POST /key": {"name": "", "rights": ["nothing"], "where": "", "defaults": {}, "rate": "", "expires": "90d"},
    "POST /key/{key_id}/rotation": {"grace": "24h"},
    "PUT /view/{name}": {"address": "q=message&last=7d"},
    "POST /ticket": {},
}
_TEXTS = (
    "", " ", "\0", "a\0b", "\ud800", "é", "\u202e", "😀" * 30, "'", '"', "\\", "%", "../../etc/passwd", "Europe",
    "-1", "0", "1e9", "1_0", "٣", "NaN", "Infinity", "9" * 19, "9" * 400, "true", "null", "now", "now-9999999w",
    "now-99999999999999999999s", "0001-01-01", "9999-12-31T23:59:60Z", "1970-13-45", "A" * 300, "(" * 70, "[" * 600,
    "data.a", "data." + "a." * 40, "data[", "data.a[99999999999999999999]", "message ct 'a'", "NOT " * 60, "id eq '",
    "message ct '%00'", "component in ('a'", "createdAt gte 'now-1000000d'", "data eq 1e999", "any ct '\ufdfa'",
    "9" * 30 + "d", "99999999999h", "1/s", "*", "a,b,,c", "\r\n", "%", "%zz", "%ff%fe", "a=b&c=d",
)  # fmt: skip
_VALUES: tuple[object, ...] = (None, True, -1, 0.1, 1e308, 10**400, [], {}, [[]], {"a": {"": []}}, ["x"] * 50)
_NAMES = (
    "q", "limit", "cursor", "tz", "fields", "order", "orderBy", "interval", "by", "lastEventId", "before", "after",
    "same", "asOf", "count", "consistency", "trailer", "download", "distinct", "numbers", "percentiles", "missing",
    "paths", "time", "partial", "sanitize", "dryRun", "shape", "email", "environment", "component", "ticket", "x",
)  # fmt: skip
_METHODS = ("GET", "POST", "PUT", "DELETE", "QUERY", "HEAD", "OPTIONS", "PATCH", "BREW", "CONNECT", "TRACE", "get", "")
_TYPES = (
    "application/json", NDJSON, "text/plain", "application/json; charset=utf-16", "application/x-www-form-urlencoded",
    "text/csv", "text/event-stream", "x", "/", ";;;", "*/*;q=x", "application/vnd.serilog.clef", "",
)  # fmt: skip
_CODINGS = ("gzip", "zstd", "gzip, gzip", "br", "identity", "x-gzip", "deflate", "")
_FIELDS = (
    "Accept", "Accept-Encoding", "Authorization", "Content-Encoding", "Content-Type", "Content-Length", "Cookie",
    "Connection", "Expect", "Forwarded", "Host", "If-Match", "If-Modified-Since", "If-None-Match", "If-Range",
    "Idempotency-Key", "Keep-Alive", "Last-Event-ID", "Origin", "Access-Control-Request-Method", "Prefer", "Range",
    "Sec-Fetch-Dest", "Trailer", "Transfer-Encoding", "Upgrade", "Via", "X-Forwarded-For", "X-Forwarded-Prefix",
    "X-Forwarded-Proto", "X-HTTP-Method-Override", "X-Request-Id", "Proxy-Connection", "HTTP2-Settings", "X" * 300,
)  # fmt: skip
_FIELD_VALUES = (
    "", "x", ",", ";", "=", '"', '"x', "\x00", "\x7f", "é", "\t", "close, keep-alive, upgrade", "100-continue",
    "200-maybe", "chunked", "chunked, identity", "identity, chunked", "xchunked", "\x0bchunked", "websocket", "h2c",
    "gzip;q=nan", "*/*;q=1e400", "text/*;q=-1, */*", "bytes=0-", "bytes=9-1,-", "bytes=" + "0-," * 900, "Bearer",
    "Bearer \x00", "Basic !", "Basic " + "QTpB" * 900, "Bearer ev_" + "a" * 36, "Digest x", 'W/"a", *', "-1", "+1",
    "0x10", "1, 2", "1e3", "99999999999999999999", 'return=minimal; x="', "Thu, 99 Foo 99999 99:99:99 GMT", "a:b",
    "[::1", "::1, 1.2.3.4, x", "999.1.1.1", "https", "/../..", "A" * 5_000, " folded\r\n more",
)  # fmt: skip


@dataclass
class Request:
    """A request that can be changed before it is written.

    Attributes:
        framing: the header fields that say where the body ends; None to write Content-Length.
    """

    method: str
    target: str
    fields: list[tuple[str, str]]
    body: bytes = b""
    framing: tuple[str, ...] | None = None
    version: str = "HTTP/1.1"
    end: str = "\r\n"
    lines: list[str] = field(default_factory=list)

    def write(self) -> bytes:
        framing = self.framing
        if framing is None:
            framing = (f"Content-Length: {len(self.body)}",) if self.body else ()
        fields = [f"{name}: {value}" for name, value in self.fields]
        head = [f"{self.method} {self.target} {self.version}", *fields, *framing, *self.lines]
        return "".join(line + self.end for line in (*head, "")).encode("utf-8", "surrogatepass") + self.body


def make(random: Random, keys: Sequence[str] = ()) -> tuple[bytes, ...]:
    """Make the pieces of one malformed connection."""
    requests = [_make_request(random, keys) for _ in range(random.choice((1, 1, 1, 1, 1, 2, 3)))]
    for request in requests:
        # What breaks HTTP itself is refused before any route sees it, so most requests keep to HTTP.
        changes = _CHANGES if random.random() < 0.7 else _CHANGES + _BREAKS
        for change in random.sample(changes, random.choice((1, 1, 1, 2, 3))):
            change(random, request)
    written = b"".join(request.write() for request in requests)
    if random.random() < 0.15:
        written = _damage(random, written)
    if random.random() < 0.05:
        written = written[: random.randrange(len(written))]
    if random.random() < 0.1 and len(written) < 2_000:
        step = random.randint(1, 200)
        return tuple(written[at : at + step] for at in range(0, len(written), step))
    return (written,)


def _make_request(random: Random, keys: Sequence[str]) -> Request:
    """Make a valid request of a random route."""
    route = random.choice(list(ROUTES))
    method = random.choice(list(ROUTES[route]))
    path = "/".join(_ID if part.startswith("{") else part for part in route.split("/"))
    request = Request(method, path, [("Host", "attack"), ("Connection", random.choice(("close", "keep-alive")))])
    if keys and random.random() < 0.8:
        request.fields.append(("Authorization", f"Bearer {random.choice(keys)}"))
    if method == "QUERY":
        request.body = b"message ct 'hello'"
        request.fields.append(("Content-Type", "text/plain"))
    elif (body := _BODIES.get(f"{method} {route}")) is not None:
        request.body = json.dumps(body).encode()
        request.fields.append(("Content-Type", "application/json"))
    elif method == "GET":
        request.fields.append(("Accept", random.choice(("*/*", "application/json", NDJSON, "text/csv"))))
        if route.startswith(("/event", "/query")):
            request.target += "?q=" + quote("component eq 'attack'")
    return request


def _odd_parameters(random: Random, request: Request) -> None:
    pairs = [(random.choice(_NAMES), _text(random)) for _ in range(random.randint(1, 4))]
    if random.random() < 0.2:
        pairs.append(pairs[0])
    request.target += ("&" if "?" in request.target else "?") + "&".join(f"{name}={value}" for name, value in pairs)


def _odd_path(random: Random, request: Request) -> None:
    parts = request.target.split("/")
    parts[random.randrange(len(parts))] = _text(random)
    request.target = random.choice(("/", "//", "", "/./", "/%2e%2e/", "http://x/", "*")) + "/".join(parts[1:])


def _text(random: Random) -> str:
    text = random.choice(_TEXTS)
    return text if random.random() < 0.15 else quote(text, safe="", errors="surrogatepass")


def _odd_method(random: Random, request: Request) -> None:
    request.method = random.choice(_METHODS)


def _odd_fields(random: Random, request: Request) -> None:
    for _ in range(random.randint(1, 3)):
        name, value = random.choice(_FIELDS), random.choice(_FIELD_VALUES)
        if random.random() < 0.5:
            request.fields = [one for one in request.fields if one[0] != name]
        request.fields.append((name, value))


def _odd_types(random: Random, request: Request) -> None:
    kept = [one for one in request.fields if one[0] not in {"Content-Type", "Accept"}]
    request.fields = [*kept, ("Content-Type", random.choice(_TYPES)), ("Accept", random.choice(_TYPES))]
    request.fields.append(("Content-Encoding", random.choice(_CODINGS)))


def _odd_member(random: Random, request: Request) -> None:
    """Change one member of a JSON body."""
    try:
        body = json.loads(request.body)
    except (ValueError, RecursionError):
        return
    if not isinstance(body, dict) or not body:
        return
    name = random.choice(list(body))
    kind = random.randrange(4)
    if kind == 0:
        del body[name]
    elif kind == 1:
        body[random.choice(_TEXTS)] = random.choice(_VALUES)
    else:
        body[name] = random.choice((*_TEXTS, *_VALUES))
    text = json.dumps(body, ensure_ascii=random.random() < 0.7)
    if random.random() < 0.1:
        text = text[:-1] + ", " + text[1:]  # every member twice
    request.body = text.encode("utf-8", "surrogatepass")


def _odd_body(random: Random, request: Request) -> None:
    """Replace the body."""
    depth = random.choice((10, 500, 5_000, 30_000))
    bodies: tuple[Callable[[], bytes], ...] = (
        lambda: bytes(random.choice((*b'{}[]",:\\u0e-', 0, 0xC3, 0xED)) for _ in range(random.randint(0, 400))),
        lambda: b"[" * depth,
        lambda: b'{"x":' * depth,
        lambda: b'{"q":' + b"[" * depth + b"]" * depth + b"}",
        lambda: b'{"data":' + b'{"a":' * depth + b"1" + b"}" * depth + b"}",
        lambda: request.body[: random.randint(0, len(request.body))],
        lambda: request.body * random.randint(2, 40),
        lambda: b"[" + b",".join([request.body] * random.randint(0, 30)) + b"]",
        lambda: b"\n".join([request.body, b"{", b"", b"null", b"\xff", request.body]),
        lambda: b"\xef\xbb\xbf" + request.body,
        lambda: request.body.decode("utf-8", "replace").encode("utf-16"),
        lambda: gzip.compress(request.body)[: random.randint(0, 60)],
        lambda: b"\x28\xb5\x2f\xfd" + request.body,
        lambda: random.randbytes(random.randint(1, 3_000)),
        lambda: b"x" * random.choice((1, 65_537, 300_000)),
    )
    request.body = random.choice(bodies)()
    if random.random() < 0.2:
        request.body = gzip.compress(request.body, 1)
        request.fields.append(("Content-Encoding", "gzip"))


def _odd_length(random: Random, request: Request) -> None:
    size = len(request.body)
    request.framing = random.choice(
        (
            (f"Content-Length: {size + random.choice((-1, 1, 1000, 10**9))}",),
            (f"Content-Length: {size}", f"Content-Length: {size}"),
            (f"Content-Length: {size}", f"Content-Length: {size + 1}"),
            (f"Content-Length: {size}, {size}",),
            (f"Content-Length: +{size}",),
            (f"Content-Length: 0{size}",),
            (f"Content-Length: {size:#x}",),
            (f"Content-Length : {size}",),
            (f"Content-Length:\r\n {size}",),
            (f"Content-Length: {2**63 - 1}",),
            (f"Content-Length: {2**64}",),
            (f"Content-Length: {size}", "Transfer-Encoding: chunked"),
            ("Transfer-Encoding: chunked", f"Content-Length: {size}"),
            (),
        )
    )
    if random.random() < 0.3:
        request.body += Request("GET", "/metrics", [("Host", "smuggled")]).write()


def _odd_chunks(random: Random, request: Request) -> None:
    coding = random.choice(
        ("chunked", "chunked", "chunked", "chunked", "Chunked", "chunked ", "chunked, chunked", "gzip, chunked", "\tx")
    )
    request.framing = (f"Transfer-Encoding: {coding}",)
    step = random.choice((1, 7, 1000))
    chunks = []
    for at in range(0, min(len(request.body), 3_000), step):
        piece = request.body[at : at + step]
        extension = random.choice((b"", b"", b"", b";a", b';a="b', b";" + b"x" * 200, b" ", b"\t;"))
        chunks.append(b"%x%s\r\n%s\r\n" % (len(piece), extension, piece))
    if chunks and random.random() < 0.5:
        size = random.choice((b"-1", b"zz", b"f" * 15, b"f" * 16, b"f" * 17, b"0x5", b" 5", b"5\n", b"", b"00000005"))
        chunks[random.randrange(len(chunks))] = size + b"\r\n{}   \r\n"
    last = (
        b"0\r\n\r\n",
        b"0\r\nTransfer-Encoding: chunked\r\nX: y\r\n\r\n",
        b"0\r\n" + b"A: b\r\n" * 300,
        b"0\n\n",
        b"",
    )
    request.body = b"".join(chunks) + random.choice(last)


def _odd_form(random: Random, request: Request) -> None:
    """Change the version, the ends of lines, the number of header fields, or their form."""
    request.version = random.choice(("HTTP/1.1", "HTTP/1.0", "HTTP/0.9", "HTTP/2.0", "HTTP/1.11", "http/1.1", "", "X"))
    request.end = random.choice(("\r\n", "\r\n", "\r\n", "\n", "\r", "\r\r\n", "\n\r\n"))
    request.lines = random.choice(
        (
            [],
            [" folded: line"],
            ["no colon"],
            [": no name"],
            ["with space : x"],
            ["é: x"],
            ["X-Long: " + "y" * 70_000],
            [f"X-{number}: y" for number in range(150)],
            ["Expect: 100-continue"],
            ["Upgrade: websocket", "Connection: Upgrade"],
            ["Host: other"],
        )
    )
    if random.random() < 0.1:
        request.target += "x" * 9_000


_CHANGES = (_odd_parameters, _odd_path, _odd_method, _odd_fields, _odd_types, _odd_member, _odd_body)
_BREAKS = (_odd_length, _odd_chunks, _odd_form)


_INSERTED = (b"\r\n", b"\r\n\r\n", b"\x00", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"\x16\x03\x01")


def _damage(random: Random, written: bytes) -> bytes:
    """Replace, remove, repeat and insert bytes."""
    damaged = bytearray(written)
    for _ in range(random.randint(1, 6)):
        at = random.randrange(len(damaged) + 1)
        end = at + random.randint(1, 20)
        kind = random.randrange(4)
        if kind == 0:
            damaged[at : at + 1] = bytes((random.choice(b"\x00\r\n \t:\x7f\xff%Z0"),))
        elif kind == 1 and len(damaged) > 20:
            del damaged[at:end]
        elif kind == 2:
            damaged[at:at] = damaged[at:end]
        else:
            damaged[at:at] = random.choice(
                (b"\r\n", b"\r\n\r\n", b"\x00", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"\x16\x03\x01")
            )
    return bytes(damaged)
