"""The resources of /event and /event/{id}: store events (see ingest.py), give a page, a stream, or one event."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING
from uuid import UUID

import falcon
import orjson

from eventsvc.api import csv, export, media
from eventsvc.api.access import visible
from eventsvc.api.find_options import FindOptions, help_link, links, read_find_options
from eventsvc.errors import BodyTooLarge, EventNotFound, InvalidBody, UnsupportedMediaType
from eventsvc.paging import fit

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from falcon.asgi import Request, Response

    from eventsvc.api.ingest import Ingest
    from eventsvc.search.both_stores import Provenance
    from eventsvc.search.search import Page, Search

_QUERY_TYPE = "text/plain"
# The forms of an answer, by the ending of a file name. None is a page of JSON; the others are streams.
_FORMS: dict[str, Callable[[Sequence[str] | None], export.ExportForm] | None] = {
    "json": None,
    "ndjson": export.Ndjson,
    "csv": csv.Csv,
}
_TYPES = {media.JSON: "json", media.NDJSON[0]: "ndjson", media.CSV: "csv"}
_QUERY_LIMIT = 64 * 1024  # bytes; the language's own limit is below this


class EventsResource:
    """The resource of /event."""

    types = tuple(_TYPES)

    def __init__(self, ingest: Ingest, search: Search) -> None:
        self._ingest, self._search = ingest, search

    async def on_post(self, req: Request, resp: Response) -> None:
        """Store one or many events."""
        await self._ingest(req, resp)

    async def on_get(self, req: Request, resp: Response) -> None:
        """Answer with the matching events, as a page or a stream."""
        await self._answer(req, resp, await read_find_options(req))

    async def on_query(self, req: Request, resp: Response) -> None:
        """Do as GET does. The body is the query, because a long query does not fit into a URL (RFC 10008)."""
        await self._answer(req, resp, await read_find_options(req, await _read_query_body(req)))

    async def _answer(self, req: Request, resp: Response, options: FindOptions) -> None:
        resp.set_header("Accept-Query", _QUERY_TYPE)
        resp.set_header("Vary", "Accept")
        resp.set_header("Cache-Control", "private, no-cache")
        kind = options.download if options.download in _FORMS else _TYPES[media.choose_type(req, tuple(_TYPES))]
        if options.download:
            resp.set_header("Content-Disposition", f'attachment; filename="events.{kind}"')
        if form := _FORMS[kind]:
            await self._stream(resp, options, form(options.fields))
        elif not await self._unchanged(req, resp, options):
            await self._send_page(req, resp, options)

    async def _send_page(self, req: Request, resp: Response, options: FindOptions) -> None:
        answer = await self._search.find(options.query, options.request, strong=options.strong)
        _describe(resp, answer)
        provenance = answer.provenance
        if provenance.settled and provenance.state is not None:
            resp.set_header("ETag", options.etag(provenance.state))
        following = None if answer.end is None else options.next_cursor(answer.end, provenance.state)
        found = links(req, following)
        if not answer.events and (leads := help_link(req, options.given)):
            found += f", {leads}"
        resp.set_header("Link", found)
        resp.context.audit = {"events": len(answer.events)}
        resp.content_type = falcon.MEDIA_JSON
        if len(fit(answer.events, export.PIECE_BYTES)) < len(answer.events):
            # PERF: 4 MiB at once would delay other requests, because all of their memory is new to the process.
            pieces = export.in_pieces(answer.events, req.scope.setdefault("state", {}))
            resp.stream = export.write_array(pieces, options.fields)
        else:
            resp.data = orjson.dumps([export.pick(event, options.fields) for event in answer.events])

    async def _unchanged(self, req: Request, resp: Response, options: FindOptions) -> bool:
        """Answer 304 if nothing has changed since the client's copy; the query itself is not run."""
        known = req.get_header("If-None-Match")
        if known is None or not options.strong:
            return False
        etag = options.etag(await self._search.state())
        if etag not in known:
            return False
        resp.set_header("ETag", etag)
        resp.status = falcon.HTTP_304
        return True

    async def _stream(self, resp: Response, options: FindOptions, form: export.ExportForm) -> None:
        most = options.request.limit if "limit" in options.given else None
        request = replace(options.request, limit=most or export.PAGE, size=export.PAGE_BYTES)
        first = await self._search.find(options.query, request, strong=options.strong, keep=False)
        _describe(resp, first)
        resp.content_type = form.content_type
        resp.stream = export.Export(self._search, options, first, most, form)


class EventResource:
    """The resource of /event/{id}."""

    types = (media.JSON,)

    def __init__(self, search: Search) -> None:
        self._search = search

    async def on_get(self, req: Request, resp: Response, event_id: str) -> None:
        """Answer with one event."""
        event = await self._search.by_id(read_id(event_id), visible(req))
        resp.context.audit = {"events": 1}
        resp.content_type = falcon.MEDIA_JSON
        resp.data = orjson.dumps(event.to_json())


def read_id(text: str) -> str:
    """Read an event's id in any of a UUID's forms.

    Raises:
        EventNotFound: the text is not a UUID, so no event has this id.
    """
    try:
        return str(UUID(text))
    except ValueError:
        raise EventNotFound(text) from None


def _describe(resp: Response, answer: Page) -> None:
    """Set the headers of a page: the total, the stores that answered, and how far the index has come."""
    if answer.total is not None:
        resp.set_header("X-Total-Count", str(answer.total))
    describe_source(resp, answer.provenance)


def describe_source(resp: Response, provenance: Provenance) -> None:
    """Set the headers that say which stores answered and how far the index has come."""
    resp.set_header("Eventsvc-Source", provenance.source)
    if provenance.reason:
        resp.set_header("Eventsvc-Reason", provenance.reason.partition(": ")[0])
    if provenance.state is not None:
        resp.set_header("Eventsvc-Watermark", str(provenance.state.watermark))
        resp.set_header("Eventsvc-Lag", str(provenance.state.lag))


async def _read_query_body(req: Request) -> str:
    media_type = (req.content_type or "").partition(";")[0].strip().lower()
    if media_type != _QUERY_TYPE:
        raise UnsupportedMediaType(f"Content-Type is {media_type or 'missing'}; send the query as {_QUERY_TYPE}")
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
