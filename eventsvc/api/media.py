"""Bodies: content types, encodings, and limits that hold whatever Content-Length says."""

from __future__ import annotations

import tempfile
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Any, TypeVar

import falcon
import msgspec
import orjson
import structlog

from eventsvc.errors import BodyTooLarge, InvalidBody, UnsupportedMediaType, WriteQueueFull
from eventsvc.incoming.names import NO_OTLP
from eventsvc.telemetry import SPOOLED

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

    from falcon.asgi import Request, Response

_logger = structlog.get_logger(__name__)

T = TypeVar("T")

JSON = "application/json"
NDJSON = ("application/x-ndjson", "application/ndjson", "application/jsonl", "application/x-jsonlines")
_SMALL = 64 * 1024  # bytes of a JSON body that is not an event
_FORM = "application/x-www-form-urlencoded"
TEXT = ("text/plain", _FORM)  # with shape=any: a record a line
_CLEF = "application/vnd.serilog.clef"  # with shape=any: NDJSON
_HINTS = {
    _FORM: " (curl: -H 'Content-Type: …' and --data-binary, for --data removes the ends of lines)",
    "multipart/form-data": " (curl: --data-binary @FILE instead of -F)",
    "application/x-protobuf": f"; protobuf is {NO_OTLP}",
}
_ENCODINGS = ("gzip", "zstd")
CSV = "text/csv"
_EVENT_STREAM = "text/event-stream"
# The usual names of the types of answers; answers use the first name.
_NAMES = {JSON: (JSON, "text/json"), NDJSON[0]: NDJSON, _EVENT_STREAM: (_EVENT_STREAM,), CSV: (CSV, "application/csv")}

_IN_MEMORY = 256 * 1024  # bytes of a body; a larger body is kept in a nameless file


@dataclass(frozen=True, slots=True)
class BodyForm:
    """The form of a body.

    Attributes:
        lines: one JSON object per line; else one JSON value.
        encoding: "", "gzip" or "zstd".
        text: whether the type is a type of plain text. The sender may have meant JSON.
        fields: whether the type is the type of a form, whose fields have names.
    """

    lines: bool
    encoding: str
    text: bool = False
    fields: bool = False


_PLAIN = BodyForm(lines=False, encoding="")


def read_form(req: Request, *, shaped: bool = False) -> BodyForm:
    """Read Content-Type and Content-Encoding. With ``shaped``, types of text are allowed as well.

    Raises:
        UnsupportedMediaType: the service does not read this form.
    """
    content_type = req.content_type
    encoding = req.get_header("Content-Encoding")
    if content_type == JSON and encoding is None:
        return _PLAIN
    media_type = _read_media_type(content_type or "", (JSON, *NDJSON, _CLEF, *TEXT) if shaped else (JSON, *NDJSON))
    text = media_type in TEXT
    # SECURITY: a browser sends these types for a page of any origin without asking first; see docs/security.md.
    if text and req.get_header("Origin") is not None:
        raise UnsupportedMediaType(f"Content-Type is {media_type}; a page in a browser sends {JSON}")
    return BodyForm(media_type != JSON, _check_encoding(encoding or ""), text, fields=media_type == _FORM)


def _read_media_type(content_type: str, allowed: Sequence[str]) -> str:
    media_type, _, parameters = content_type.lower().partition(";")
    media_type = media_type.strip()
    if media_type not in allowed:
        sent = f"Content-Type is {media_type}" if media_type else "Content-Type is missing"
        hint = _HINTS.get(media_type, "")
        if media_type in {*TEXT, _CLEF}:
            hint += f"; with shape=any in the URL, {media_type} is taken as well"
        raise UnsupportedMediaType(f"{sent}; send {JSON}, or {NDJSON[0]} for one event a line{hint}")
    for parameter in parameters.split(";"):
        name, _, value = parameter.partition("=")
        if name.strip() == "charset" and value.strip().strip('"') not in {"utf-8", "utf8", "us-ascii"}:
            raise UnsupportedMediaType(f"charset is {value.strip()}; send UTF-8, as JSON always is (RFC 8259)")
    return media_type


def _check_encoding(encoding: str) -> str:
    name = encoding.strip().lower().removeprefix("x-")
    if name in {"", "identity"}:
        return ""
    if name not in _ENCODINGS:
        raise UnsupportedMediaType(f"Content-Encoding is {encoding}; {' and '.join(_ENCODINGS)} are understood")
    return name


def choose_type(req: Request, types: Sequence[str]) -> str:
    """Choose the type of the answer: the one that Accept prefers; among equals, the first of ``types``.

    Raises:
        falcon.HTTPNotAcceptable: Accept allows none of the types.
    """
    accept = req.get_header("Accept")
    if accept is None or accept == "*/*":
        return types[0]
    wanted = [falcon.parse_header(part.lower()) for part in accept.split(",") if part.strip()]
    if not wanted:
        return types[0]
    chosen = max(types, key=lambda one: _quality(one, wanted))
    if not _quality(chosen, wanted)[0]:
        raise falcon.HTTPNotAcceptable(description=f"Accept allows none of {', '.join(types)}, which can be given.")
    return chosen


def _quality(media_type: str, wanted: list[tuple[str, dict[str, str]]]) -> tuple[float, int]:
    """Give a type's weight in Accept (RFC 9110 12.5.1), from the most exact range, and how exact the range is."""
    main = media_type.partition("/")[0]
    for rank, names in enumerate((_NAMES.get(media_type, (media_type,)), (f"{main}/*",), ("*/*",))):
        for name, parameters in wanted:
            if name in names:
                return _weight(parameters.get("q", "1")), -rank
    return 0.0, 0


def _weight(text: str) -> float:
    try:
        return min(max(float(text), 0.0), 1.0)
    except ValueError:
        return 0.0


async def read_small(req: Request, limit: int) -> bytes:
    """Read a body into memory.

    Raises:
        BodyTooLarge: the body is larger than the limit.
        InvalidBody: the client went away before the end of the body.
    """
    length = _check_length(req, limit)
    if req.content_length is None:  # chunked: only counting bounds such a body
        chunks: list[bytes] = []
        await _copy_body(req, limit, chunks.append)
        return b"".join(chunks)
    raw = await req.stream.readall()
    if len(raw) < length:
        raise InvalidBody(f"the body ends after {len(raw):,} of {length:,} bytes")
    return raw


def send_json(resp: Response, value: Any) -> None:
    """Answer with JSON that no cache may keep."""
    resp.content_type = JSON
    resp.set_header("Cache-Control", "no-store")
    resp.data = orjson.dumps(value)


async def read_json(req: Request, kind: type[T], *, how: str, shape: str) -> T:
    """Read a small JSON body.

    Args:
        req: the request.
        kind: the type of the body.
        how: is added to "send application/json" in the error for another Content-Type.
        shape: begins the error for a body that does not fit the type.

    Raises:
        UnsupportedMediaType: Content-Type is not JSON.
        BodyTooLarge: the body is too large.
        InvalidBody: the body does not fit the type.
    """
    if (req.content_type or "").partition(";")[0].strip().lower() != JSON:
        raise UnsupportedMediaType(f"send {JSON}{how}")
    raw = await read_small(req, _SMALL)
    try:
        return msgspec.json.decode(raw, type=kind)
    except (msgspec.MsgspecError, UnicodeDecodeError) as exc:
        raise InvalidBody(f"{shape}: {exc}") from exc


class Spool:
    """Receives whole bodies, mostly into nameless temporary files, within a limited room.

    A transaction begins only after the body is complete. A slow client must not hold a transaction open, because the
    horizon waits for every transaction that writes.
    """

    def __init__(self, room: int) -> None:
        self._room = room

    @asynccontextmanager
    async def receive(self, req: Request, limit: int) -> AsyncIterator[IO[bytes]]:
        """Receive the body and give it as a file.

        Raises:
            BodyTooLarge: the body is larger than the limit.
            InvalidBody: the client went away before the end of the body.
            WriteQueueFull: other bodies fill the room, or the disk is full.
        """
        taken = 0

        def take(chunk: bytes) -> None:
            nonlocal taken
            if len(chunk) > self._room:
                raise WriteQueueFull("the bodies under way fill the room that is set for them")
            self._room -= len(chunk)
            taken += len(chunk)
            SPOOLED.inc(len(chunk))
            file.write(chunk)

        file = tempfile.SpooledTemporaryFile(max_size=_IN_MEMORY)  # noqa: SIM115  (closing a full one fails as well)
        try:
            try:
                await _copy_body(req, limit, take)
                file.seek(0)
            except OSError as exc:
                _logger.warning("a body cannot be kept in a temporary file", reason=exc.strerror)
                raise WriteQueueFull("there is no room on the disk for the bodies under way") from exc
            yield file
        finally:
            with suppress(OSError):
                file.close()
            self._room += taken
            SPOOLED.dec(taken)


def _check_length(req: Request, limit: int) -> int:
    """Give the Content-Length, or 0 if there is none; raise BodyTooLarge if it is beyond the limit."""
    length = req.content_length or 0
    if length > limit:
        raise BodyTooLarge(f"the body is {length:,} bytes; at most {limit:,} are allowed")
    return length


async def _copy_body(req: Request, limit: int, take: Callable[[bytes], Any]) -> None:
    length = _check_length(req, limit)
    size = 0
    stream = req.stream
    watched = _Watched(stream._receive)  # noqa: SLF001  (for the stream, a client that goes away looks like the end)
    stream._receive = watched  # noqa: SLF001
    async for chunk in stream:
        size += len(chunk)
        if size > limit:
            raise BodyTooLarge(f"the body is larger than {limit:,} bytes")
        take(chunk)
    if watched.broken or size < length:
        raise InvalidBody(f"the body broke off after {size:,} bytes")


class _Watched:
    """Notices a client that goes away within the body; without Content-Length nothing else tells."""

    def __init__(self, receive: Callable[[], Awaitable[Any]]) -> None:
        self._receive, self.broken = receive, False

    async def __call__(self) -> Any:
        event = await self._receive()
        if event["type"] == "http.disconnect":
            self.broken = True
        return event
