"""GET /healthz (alive), /readyz (can store), /metrics (Prometheus)."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import falcon
import structlog
from prometheus_client import CONTENT_TYPE_LATEST

from eventsvc.errors import EventsvcError, IndexUnavailable
from eventsvc.log import schema
from eventsvc.log.connection import fetch
from eventsvc.telemetry import render_metrics
from eventsvc.turns import Shared

if TYPE_CHECKING:
    from falcon.asgi import Request, Response

    from eventsvc.index.reader import IndexReader
    from eventsvc.log.connection import Connection, Pool

_logger = structlog.get_logger(__name__)

_PATIENCE = 3.0  # seconds; a load balancer soon asks again
# PERF: /readyz needs no key, and /metrics takes up to 50 ms of a thread, which the event loop lacks.
_REST, _METRICS_REST = 0.1, 1.0  # seconds


class HealthzResource:
    """The resource of /healthz. It checks nothing but the process: a dead database is no reason to restart workers."""

    async def on_get(self, _req: Request, resp: Response) -> None:
        """Answer 200."""
        resp.media = {"status": "ok"}


class ReadyzResource:
    """The resource of /readyz: events can be stored. The index is reported only, because searches work without it."""

    def __init__(self, pool: Pool, index: IndexReader | None, *, alias: str) -> None:
        self._pool, self._index, self._alias = pool, index, alias
        self._logged = ""
        self._ask_both = Shared(lambda: asyncio.gather(self._ask_log(), self._ask_index()), _REST)

    async def on_get(self, _req: Request, resp: Response) -> None:
        """Answer 200 if a write would succeed, else 503, with the state of each server."""
        log, index = await self._ask_both()
        resp.media = {"status": "ready" if log == "ok" else "not ready", "log": log, "index": index}
        resp.status = falcon.HTTP_200 if log == "ok" else falcon.HTTP_503

    async def _ask_log(self) -> str:
        try:
            return await asyncio.wait_for(self._pool.run(_writable), _PATIENCE)
        except TimeoutError:
            return "slow"
        except EventsvcError as exc:
            return self._tell(exc)

    async def _ask_index(self) -> str:
        if self._index is None:
            return "none"
        try:
            await self._index.probe(self._alias)
        except IndexUnavailable as exc:
            return self._tell(exc)
        return "ok"

    def _tell(self, exc: EventsvcError) -> str:
        """Log an error, but not twice in a row; return its public text."""
        if self._logged != str(exc):
            self._logged = str(exc)
            _logger.warning("not ready", reason=self._logged)
        return exc.public


class MetricsResource:
    """The resource of /metrics: counters and gauges of all workers."""

    def __init__(self) -> None:
        self._render = Shared(lambda: asyncio.to_thread(render_metrics), _METRICS_REST)

    async def on_get(self, _req: Request, resp: Response) -> None:
        """Answer in Prometheus' text format."""
        resp.content_type = CONTENT_TYPE_LATEST
        resp.data = await self._render()


def _writable(connection: Connection) -> str:
    schema.check(connection)
    ((standby,),) = fetch(connection, "SELECT pg_is_in_recovery()")
    return "read-only standby" if standby else "ok"
