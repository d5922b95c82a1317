"""POST /event: one event now, many at once."""

from __future__ import annotations

from typing import TYPE_CHECKING

import falcon
import orjson

from eventsvc.api import media
from eventsvc.event import EventParser

if TYPE_CHECKING:
    from falcon.asgi import Request, Response

    from eventsvc.event import Event
    from eventsvc.log.writer import Writer


class Ingest:
    """Read events from a request, store them, answer."""

    def __init__(self, writer: Writer) -> None:
        self._writer = writer
        self._parser = EventParser()

    async def __call__(self, req: Request, resp: Response) -> None:
        """Answer 201 with what was stored."""
        raw = await media.read_body(req, limit=media.BODY_LIMIT)
        event = await self._writer.append(self._parser.parse(raw))
        answer_created(resp, event)


def answer_created(resp: Response, event: Event) -> None:
    """201, Location, and the event as every later GET gives it."""
    resp.status = falcon.HTTP_201
    resp.set_header("Location", f"/event/{event.id}")
    resp.data = orjson.dumps(event.to_json())
