"""Export all matching events as NDJSON or CSV (csv.py), in bounded memory. A broken export never looks complete."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Protocol

import orjson
import structlog

from eventsvc.api.problems import problem_of
from eventsvc.errors import EventsvcError
from eventsvc.event import Event
from eventsvc.paging import fit, weigh

if TYPE_CHECKING:
    from eventsvc.api.find_options import FindOptions
    from eventsvc.paging import PageRequest, Position
    from eventsvc.search.search import Page, Search

_logger = structlog.get_logger(__name__)

PAGE = 1000
PAGE_BYTES = 1024 * 1024  # bytes read and sent at a time
PIECE_BYTES = 256 * 1024  # bytes of a JSON array sent at a time


class ExportForm(Protocol):
    """A form of an export, such as NDJSON or CSV."""

    content_type: str

    def begin(self) -> bytes:
        """Write the beginning, before the first event."""

    def write(self, events: Sequence[Event]) -> bytes:
        """Write events."""

    def end(self, count: int) -> bytes:
        """Write the trailer with the number of events."""

    def break_off(self, problem: dict[str, Any]) -> bytes:
        """Write the error that ends the stream too early."""


class Ndjson:
    """Writes one event a line."""

    content_type = "application/x-ndjson"

    def __init__(self, fields: Sequence[str] | None) -> None:
        self._fields = fields

    def begin(self) -> bytes:
        """See ``ExportForm``."""
        return b""

    def write(self, events: Sequence[Event]) -> bytes:
        """See ``ExportForm``."""
        return write_lines(events, self._fields)

    def end(self, count: int) -> bytes:
        """See ``ExportForm``."""
        return orjson.dumps({"count": count}) + b"\n"

    def break_off(self, problem: dict[str, Any]) -> bytes:
        """See ``ExportForm``."""
        return orjson.dumps({"error": problem}) + b"\n"


class Export:
    """The body of an answer: an async iterator of chunks, each of whole lines.

    Falcon calls ``close`` when the answer has been sent, or when its client has gone away and the request is
    cancelled.
    """

    def __init__(self, search: Search, options: FindOptions, first: Page, most: int | None, form: ExportForm) -> None:
        self._chunks = _chunks(search, options, first, most, form)

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        return await anext(self._chunks)

    async def close(self) -> None:
        """Stop reading."""
        await self._chunks.aclose()


async def _chunks(
    search: Search, options: FindOptions, answer: Page, most: int | None, form: ExportForm
) -> AsyncGenerator[bytes, None]:
    # Leave out events that arrive during the export. Otherwise an export of a busy log, oldest first, would never end.
    state = answer.provenance.state
    upto = state.drawn if state is not None else None
    count = 0
    if begin := form.begin():
        yield begin
    try:
        while True:
            # PERF: a thread does this, because each MiB of CSV takes 25 ms, and there may be many exports.
            chunk = await asyncio.to_thread(form.write, answer.events) if answer.events else b""
            count += len(answer.events)
            end = answer.end
            del answer  # so that the page is not in memory while a slow client reads
            if chunk:
                yield chunk
            if end is None or count == most:
                break
            answer = await search.find(
                options.query, _following(options, end, upto, most, count), strong=options.strong, keep=False
            )
    except EventsvcError as exc:
        _logger.warning("a stream broke off", reason=str(exc))
        yield form.break_off(describe_error(exc, options.root))
        return
    if options.trailer:
        yield form.end(count)


def pick(event: Event, fields: Iterable[str] | None) -> dict[str, Any]:
    """Give an event's JSON form, with these fields only."""
    everything = event.to_json()
    return everything if fields is None else {name: everything[name] for name in fields}


def write_lines(events: Iterable[Event], fields: Iterable[str] | None = None) -> bytes:
    """Write events as NDJSON, with these fields only."""
    lines = (orjson.dumps(pick(event, fields), option=orjson.OPT_APPEND_NEWLINE) for event in events)
    return one_line(b"".join(lines))


async def write_array(
    batches: AsyncIterator[Sequence[Event]], fields: Iterable[str] | None = None
) -> AsyncIterator[bytes]:
    """Write a JSON array of events, with these fields only, a batch at a time."""
    before = b"["
    async for batch in batches:
        yield before + orjson.dumps([pick(event, fields) for event in batch])[1:-1]
        before = b","
    yield b"[]" if before == b"[" else b"]"


async def in_pieces(events: Sequence[Event], state: dict[str, Any]) -> AsyncIterator[Sequence[Event]]:
    """Give the events of a page in pieces, as many at a time as fit. Other requests are served between two pieces.

    Args:
        events: the events.
        state: the state of the request in its ASGI scope. Its ``unwritten`` tells the server how many bytes of the
            answer are not written yet, because they count as bytes that wait for the client.
    """
    unwritten = sum(map(weigh, events))
    while events:
        piece = fit(events, PIECE_BYTES)
        events = events[len(piece) :]
        state["unwritten"] = unwritten = unwritten - sum(map(weigh, piece))
        yield piece
        await asyncio.sleep(0)


def one_line(text: bytes) -> bytes:
    """Escape characters within JSON strings that many programs take for the end of a line."""
    for raw, escaped in _LINE_ENDS:
        if raw in text:
            text = text.replace(raw, escaped)
    return text


_LINE_ENDS = tuple((character.encode(), b"\\u%04x" % ord(character)) for character in "\u2028\u2029\u0085")


def _following(options: FindOptions, end: Position, upto: int | None, most: int | None, count: int) -> PageRequest:
    limit = PAGE if most is None else min(PAGE, most - count)
    return replace(options.request, after=end, upto=upto, limit=limit, size=PAGE_BYTES, count=False)


def describe_error(exc: EventsvcError, root: str) -> dict[str, Any]:
    """Write an error as the problem that the client would get if the answer had not begun.

    Args:
        exc: the error.
        root: the prefix of a proxy.
    """
    problem = problem_of(exc)
    return {"type": root + problem.type, "title": problem.title, "status": problem.status, "detail": exc.public}
