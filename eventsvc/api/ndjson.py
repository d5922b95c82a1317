"""Every matching event as NDJSON, page by page: memory stays bounded, and a broken stream cannot look whole."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import orjson
import structlog

from eventsvc.api.problem_types import INTERNAL, PROBLEMS
from eventsvc.errors import EventsvcError
from eventsvc.event import Event

if TYPE_CHECKING:
    from eventsvc.api.page import Reading
    from eventsvc.search.search import Answer, Search

_log = structlog.get_logger(__name__)

MEDIA_TYPE = "application/x-ndjson"

PAGE = 1000
_TARGET = 4 * 1024 * 1024  # bytes a page should have at most; the next one is made smaller when it had more


class Lines:
    """The body of an answer: an async iterator of whole lines, many at a time.

    Falcon calls ``close`` when the answer has been sent, or when its client has gone away and the request is
    cancelled.
    """

    def __init__(self, search: Search, reading: Reading, first: Answer, most: int | None) -> None:
        self._chunks = _chunks(search, reading, first, most)

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        return await anext(self._chunks)

    async def close(self) -> None:
        """Stop the work."""
        await self._chunks.aclose()


async def _chunks(search: Search, reading: Reading, answer: Answer, most: int | None) -> AsyncGenerator[bytes, None]:
    # Nothing that comes while we stream: read oldest first, a busy log would never end.
    moment = answer.provenance.moment
    upto = moment.drawn if moment is not None else None
    count = 0
    try:
        while answer.events:
            chunk = one_line(b"".join(_line(event, reading) for event in answer.events))
            count += len(answer.events)
            last = answer.events[-1].position
            limit = _next_limit(len(answer.events), len(chunk), None if most is None else most - count)
            more = answer.more
            del answer  # a page less in memory while the client takes its time
            yield chunk
            if not more or not limit:
                break
            wanted = replace(reading.wanted, after=last, upto=upto, limit=limit, count=False)
            answer = await search.find(reading.query, wanted, strong=reading.strong, keep=False)
    except EventsvcError as exc:
        _log.warning("a stream broke off", reason=str(exc))
        yield orjson.dumps({"error": describe_error(exc)}) + b"\n"
        return
    if reading.trailer:
        yield orjson.dumps({"count": count}) + b"\n"


def one_line(text: bytes) -> bytes:
    """Escape what many programs take for the end of a line though it stands within a JSON string."""
    for raw, escaped in _LINE_ENDS:
        if raw in text:
            text = text.replace(raw, escaped)
    return text


_LINE_ENDS = tuple((character.encode(), b"\\u%04x" % ord(character)) for character in "\u2028\u2029\u0085")


def _next_limit(events: int, size: int, left: int | None) -> int:
    limit = max(1, min(PAGE, _TARGET * events // max(size, 1)))
    return limit if left is None else min(limit, left)


def _line(event: Event, reading: Reading) -> bytes:
    everything = event.to_json()
    picked = everything if reading.fields is None else {name: everything[name] for name in reading.fields}
    return orjson.dumps(picked, option=orjson.OPT_APPEND_NEWLINE)


def describe_error(exc: EventsvcError) -> dict[str, Any]:
    """Give the problem that this error would have been before the answer began."""
    problem = next((PROBLEMS[cls] for cls in type(exc).__mro__ if cls in PROBLEMS), INTERNAL)
    return {"type": problem.type, "title": problem.title, "status": problem.status, "detail": exc.public}
