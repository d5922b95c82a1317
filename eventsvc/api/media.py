"""Bytes in: content types, encodings, and limits that hold while reading, whatever Content-Length says."""

from __future__ import annotations

import tempfile
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Any, TypeVar

import falcon
import msgspec
import structlog

from eventsvc.errors import BodyTooLarge, InvalidBody, UnsupportedMediaType, WriteQueueFull
from eventsvc.telemetry import SPOOLED

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

    from falcon.asgi import Request

_log = structlog.get_logger(__name__)

T = TypeVar("T")

JSON = "application/json"
NDJSON = ("application/x-ndjson", "application/ndjson", "application/jsonl", "application/x-jsonlines")
_SMALL = 64 * 1024  # bytes of a body that says what to do
_FORM = "application/x-www-form-urlencoded"
ENCODINGS = ("gzip", "zstd")
CSV = "text/csv"
EVENT_STREAM = "text/event-stream"
# The usual names of the types that we give; the first is the one that we say.
NAMES = {JSON: (JSON, "text/json"), NDJSON[0]: NDJSON, EVENT_STREAM: (EVENT_STREAM,), CSV: (CSV, "application/csv")}

_IN_MEMORY = 256 * 1024  # bytes of a bulk's body that are kept in memory; the rest waits in a nameless file


@dataclass(frozen=True, slots=True)
class Form:
    """What kind of body comes.

    Attributes:
        lines: one JSON object per line; else one JSON value.
        encoding: "", "gzip" or "zstd".
    """

    lines: bool
    encoding: str


_PLAIN = Form(lines=False, encoding="")


def read_form(req: Request) -> Form:
    """Look at Content-Type and Content-Encoding.

    Raises:
        UnsupportedMediaType: we do not read this.
    """
    content_type = req.content_type
    encoding = req.get_header("Content-Encoding")
    if content_type == JSON and encoding is None:
        return _PLAIN
    return Form(_is_lines(content_type or ""), _check_encoding(encoding or ""))


def _is_lines(content_type: str) -> bool:
    media_type, _, parameters = content_type.lower().partition(";")
    media_type = media_type.strip()
    if media_type != JSON and media_type not in NDJSON:
        sent = f"Content-Type is {media_type}" if media_type else "Content-Type is missing"
        curl = " (curl: -H 'Content-Type: …' and --data-binary, for --data removes the ends of lines)"
        hint = curl if media_type == _FORM else ""
        raise UnsupportedMediaType(f"{sent}; send {JSON}, or {NDJSON[0]} for one event a line{hint}")
    for parameter in parameters.split(";"):
        name, _, value = parameter.partition("=")
        if name.strip() == "charset" and value.strip().strip('"') not in {"utf-8", "utf8", "us-ascii"}:
            raise UnsupportedMediaType(f"charset is {value.strip()}; JSON is UTF-8 (RFC 8259)")
    return media_type != JSON


def _check_encoding(encoding: str) -> str:
    name = encoding.strip().lower().removeprefix("x-")
    if name in {"", "identity"}:
        return ""
    if name not in ENCODINGS:
        raise UnsupportedMediaType(f"Content-Encoding is {encoding}; {' and '.join(ENCODINGS)} are understood")
    return name


def choose_type(req: Request, types: Sequence[str]) -> str:
    """Choose what to answer: the type of ``types`` that Accept likes best; of equals, the first.

    Raises:
        falcon.HTTPNotAcceptable: Accept allows none of them.
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
    """Give the weight of a type (RFC 9110 12.5.1), that of the most exact range that covers it; then how exact."""
    main = media_type.partition("/")[0]
    for rank, names in enumerate((NAMES.get(media_type, (media_type,)), (f"{main}/*",), ("*/*",))):
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
    """Read a body whose Content-Length is known into memory.

    Raises:
        BodyTooLarge: beyond the limit.
    """
    length = _check_length(req, limit)
    raw = await req.stream.readall()
    if len(raw) < length:
        raise InvalidBody(f"the body ends after {len(raw):,} of {length:,} bytes")
    return raw


async def read_json(req: Request, kind: type[T], *, how: str, shape: str) -> T:
    """Read a small JSON body.

    Args:
        req: the request.
        kind: what the body must be.
        how: what to add to "send application/json" when the body is something else.
        shape: what to say before the reason when the body is not of this kind.

    Raises:
        UnsupportedMediaType: the body is declared to be something else than JSON.
        BodyTooLarge: it is.
        InvalidBody: it is not of this kind.
    """
    if (req.content_type or "").partition(";")[0].strip().lower() != JSON:
        raise UnsupportedMediaType(f"send {JSON}{how}")
    raw = await read_small(req, _SMALL)
    try:
        return msgspec.json.decode(raw, type=kind)
    except (msgspec.MsgspecError, UnicodeDecodeError) as exc:
        raise InvalidBody(f"{shape}: {exc}") from exc


class Spool:
    """Room for bodies that are received whole, the larger part of each in a nameless temporary file.

    Only then is a transaction begun: a client that sends slowly must not hold one open, for the horizon waits for it.
    """

    def __init__(self, room: int) -> None:
        self._room = room

    @asynccontextmanager
    async def receive(self, req: Request, limit: int) -> AsyncIterator[IO[bytes]]:
        """Give the body as a file.

        Raises:
            BodyTooLarge: beyond the limit.
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
                _log.warning("a body cannot be kept in a temporary file", reason=exc.strerror)
                raise WriteQueueFull("there is no room on the disk for the bodies under way") from exc
            yield file
        finally:
            with suppress(OSError):
                file.close()
            self._room += taken
            SPOOLED.dec(taken)


def _check_length(req: Request, limit: int) -> int:
    """Give the Content-Length, 0 if there is none."""
    length = req.content_length or 0
    if length > limit:
        raise BodyTooLarge(f"the body is {length:,} bytes; at most {limit:,} are allowed")
    return length


async def _copy_body(req: Request, limit: int, take: Callable[[bytes], Any]) -> None:
    length = _check_length(req, limit)
    size = 0
    stream = req.stream
    watched = _Watched(stream._receive)  # noqa: SLF001  (the stream takes a client that goes away for the end)
    stream._receive = watched  # noqa: SLF001
    async for chunk in stream:
        size += len(chunk)
        if size > limit:
            raise BodyTooLarge(f"the body is larger than {limit:,} bytes")
        take(chunk)
    if watched.broken or size < length:
        raise InvalidBody(f"the body broke off after {size:,} bytes")


class _Watched:
    """Notices whether the body really ended; without Content-Length nothing else tells."""

    def __init__(self, receive: Callable[[], Awaitable[Any]]) -> None:
        self._receive, self.broken = receive, False

    async def __call__(self) -> Any:
        event = await self._receive()
        if event["type"] == "http.disconnect":
            self.broken = True
        return event
