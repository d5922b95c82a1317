"""The resources of /event and /event/{id}. They pass requests on to ingest.py and find.py."""

from __future__ import annotations

from typing import TYPE_CHECKING

from eventsvc.api import media

if TYPE_CHECKING:
    from falcon.asgi import Request, Response

    from eventsvc.api.find import Find
    from eventsvc.api.ingest import Ingest


class Events:
    """The resource of /event."""

    types = (media.JSON, media.NDJSON[0], media.CSV)

    def __init__(self, ingest: Ingest, find: Find) -> None:
        self._ingest, self._find = ingest, find

    async def on_post(self, req: Request, resp: Response) -> None:
        """Store one or many events."""
        await self._ingest(req, resp)

    async def on_get(self, req: Request, resp: Response) -> None:
        """Find events."""
        await self._find.list_events(req, resp)

    async def on_query(self, req: Request, resp: Response) -> None:
        """Find events by a query in the body (RFC 10008)."""
        await self._find.query_events(req, resp)


class Event:
    """The resource of /event/{id}."""

    types = (media.JSON,)

    def __init__(self, find: Find) -> None:
        self._find = find

    async def on_get(self, req: Request, resp: Response, event_id: str) -> None:
        """Answer with one event."""
        await self._find.show_event(req, resp, event_id)
