"""Middleware that starts and stops the parts of the service, and measures every request."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

import structlog
from falcon.constants import COMBINED_METHODS

from eventsvc.telemetry import REQUEST_SECONDS, REQUESTS

if TYPE_CHECKING:
    from falcon.asgi import Request, Response
    from prometheus_client import Counter, Histogram

_logger = structlog.get_logger(__name__)

_Hook = Callable[[], Awaitable[None]]


class Lifespan:
    """Starts and stops the service with the app."""

    def __init__(self, start: _Hook, stop: _Hook) -> None:
        self._start, self._stop = start, stop

    async def process_startup(self, _scope: dict[str, Any], _event: dict[str, Any]) -> None:
        """Start the service; a failure stops the worker."""
        await self._start()

    async def process_shutdown(self, _scope: dict[str, Any], _event: dict[str, Any]) -> None:
        """Stop the service."""
        try:
            await self._stop()
        except Exception:
            _logger.exception("a part of the service did not stop cleanly")


class Measure:
    """Counts and times every request by method, route and status, never by URL, because a URL contains query values."""

    def __init__(self) -> None:
        # PERF: finding a metric by its labels costs more than counting. The number of metrics is limited.
        self._metrics: dict[tuple[str, str, int], tuple[Counter, Histogram]] = {}

    async def process_request(self, req: Request, _resp: Response) -> None:
        """Record the start of the request."""
        req.context.began = time.perf_counter()

    async def process_response(self, req: Request, resp: Response, _resource: object, _succeeded: bool) -> None:  # noqa: FBT001
        """Count the request and its duration."""
        metrics = self._metrics.get((req.method, req.uri_template or "none", resp.status_code))
        counter, histogram = metrics or self._find(req.method, req.uri_template or "none", resp.status_code)
        counter.inc()
        histogram.observe(time.perf_counter() - req.context.began)

    def _find(self, method: str, route: str, status: int) -> tuple[Counter, Histogram]:
        # A client may invent methods, and each would be a metric for ever.
        shown = method if method in COMBINED_METHODS or method == "QUERY" else "other"
        found = (REQUESTS.labels(shown, route, status), REQUEST_SECONDS.labels(shown, route))
        if shown == method:
            self._metrics[method, route, status] = found
        return found
