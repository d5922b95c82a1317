"""GET /event, QUERY /event and GET /event/{id}."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from uuid import UUID

import falcon
import orjson

from eventsvc.api.page import Reading, links, read_parameters
from eventsvc.errors import BodyTooLarge, EventNotFound, InvalidBody, UnsupportedMediaType

if TYPE_CHECKING:
    from collections.abc import Iterable

    from falcon.asgi import Request, Response

    from eventsvc.event import Event
    from eventsvc.search import Provenance, Search

QUERY_TYPE = "text/plain"
_QUERY_LIMIT = 64 * 1024  # bytes; the language's own limit is below this


class Find:
    """Answers reads of events; the resource of /event passes its requests on."""

    def __init__(self, search: Search) -> None:
        self._search = search

    async def list_events(self, req: Request, resp: Response) -> None:
        """Answer GET /event: the events that match, a page at a time."""
        await self._answer(req, resp, read_parameters(req))

    async def query_events(self, req: Request, resp: Response) -> None:
        """Answer QUERY /event: the same with the query as the body, for those too long for a URL."""
        await self._answer(req, resp, read_parameters(req, await _read_query_body(req)))

    async def show_event(self, req: Request, resp: Response, event_id: str) -> None:  # noqa: ARG002
        """Answer GET /event/{id}."""
        try:
            canonical = str(UUID(event_id))
        except ValueError:
            raise EventNotFound(event_id) from None
        event = await self._search.by_id(canonical)
        resp.content_type = falcon.MEDIA_JSON
        resp.data = orjson.dumps(event.to_json())

    async def _answer(self, req: Request, resp: Response, reading: Reading) -> None:
        resp.set_header("Accept-Query", QUERY_TYPE)
        resp.set_header("Vary", "Accept")
        answer = await self._search.find(reading.query, reading.wanted, strong=reading.strong)
        describe(resp, answer.provenance)
        if answer.total is not None:
            resp.set_header("X-Total-Count", str(answer.total))
        last = answer.events[-1].position if answer.more else None
        resp.set_header("Link", links(req, reading.next_cursor(last, answer.provenance.moment) if last else None))
        resp.content_type = falcon.MEDIA_JSON
        resp.data = orjson.dumps([pick(event, reading.fields) for event in answer.events])


def describe(resp: Response, provenance: Provenance) -> None:
    """Say in the headers what the answer was made from and how far the index is."""
    resp.set_header("Eventsvc-Source", provenance.source)
    if provenance.reason:
        resp.set_header("Eventsvc-Reason", provenance.reason)
    if provenance.moment is not None:
        resp.set_header("Eventsvc-Watermark", str(provenance.moment.watermark))
        resp.set_header("Eventsvc-Lag", str(provenance.moment.lag))


def pick(event: Event, fields: Iterable[str] | None) -> dict[str, Any]:
    """Give an event's JSON form, with these fields only."""
    everything = event.to_json()
    return everything if fields is None else {name: everything[name] for name in fields}


async def _read_query_body(req: Request) -> str:
    media_type = (req.content_type or "").partition(";")[0].strip().lower()
    if media_type != QUERY_TYPE:
        raise UnsupportedMediaType(f"Content-Type is {media_type or 'missing'}; send the query as {QUERY_TYPE}")
    chunks, size = [], 0
    async for chunk in req.stream:
        chunks.append(chunk)
        size += len(chunk)
        if size > _QUERY_LIMIT:
            raise BodyTooLarge(f"a query may have {_QUERY_LIMIT:,} bytes")
    try:
        return b"".join(chunks).decode()
    except UnicodeDecodeError as exc:
        raise InvalidBody(f"the query is not UTF-8: {exc.reason} at byte {exc.start}") from exc
