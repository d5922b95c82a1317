"""POST /event, GET /event, QUERY /event and GET /event/{id}: thin; ingest.py and find.py do the work."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from falcon.asgi import Request, Response

    from eventsvc.api.ingest import Ingest


class Events:
    """The collection."""

    def __init__(self, ingest: Ingest) -> None:
        self._ingest = ingest

    async def on_post(self, req: Request, resp: Response) -> None:
        """Store one event, or many."""
        await self._ingest(req, resp)
