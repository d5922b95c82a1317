"""Middleware: what happens when a worker starts and stops, and round every request."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

import structlog

from eventsvc.telemetry import REQUEST_SECONDS, REQUESTS

if TYPE_CHECKING:
    from falcon.asgi import Request, Response

_log = structlog.get_logger(__name__)

Hook = Callable[[], Awaitable[None]]


class Lifespan:
    """Start what the app uses in order, and stop it in the opposite order."""

    def __init__(self, *hooks: tuple[Hook, Hook]) -> None:
        self._hooks = hooks

    async def process_startup(self, _scope: dict[str, Any], _event: dict[str, Any]) -> None:
        """Run every start hook; a failure stops the worker."""
        for start, _ in self._hooks:
            await start()

    async def process_shutdown(self, _scope: dict[str, Any], _event: dict[str, Any]) -> None:
        """Run every stop hook, even when one fails: the writer must drain whatever else goes wrong."""
        for _, stop in reversed(self._hooks):
            try:
                await stop()
            except Exception:  # noqa: BLE001  (logged, and the others still run)
                _log.exception("a part of the service did not stop cleanly")


class Measure:
    """Count and time every request, by route, never by URL: a URL holds query values."""

    async def process_request(self, req: Request, _resp: Response) -> None:
        """Remember when it began."""
        req.context.began = time.perf_counter()

    async def process_response(self, req: Request, resp: Response, _resource: object, _succeeded: bool) -> None:  # noqa: FBT001
        """Count it."""
        route = req.uri_template or "none"
        REQUESTS.labels(req.method, route, resp.status_code).inc()
        REQUEST_SECONDS.labels(req.method, route).observe(time.perf_counter() - req.context.began)
