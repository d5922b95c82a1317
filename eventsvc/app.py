"""create_app: the one place where settings, stores, resources, handlers and lifespan meet."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from falcon.asgi import App, Request, Response

from eventsvc.api import ops, problems
from eventsvc.api.events import Events
from eventsvc.api.ingest import Ingest
from eventsvc.api.lifecycle import Lifespan, Measure
from eventsvc.log.connection import Pool
from eventsvc.log.writer import Writer

if TYPE_CHECKING:
    from eventsvc.settings import Settings


def create_app(settings: Settings) -> App[Request, Response]:
    """Wire the service of one worker process; connections are opened when the worker starts."""
    dsn = settings.database_url.get_secret_value()
    writer = Writer(dsn, queue_size=settings.write_queue)
    # A connection of its own: readiness must not wait behind searches.
    probe = Pool(dsn, size=1, statement_timeout=2.0)

    async def start_writer() -> None:
        writer.start()

    async def close_probe() -> None:
        await asyncio.to_thread(probe.close)

    async def nothing() -> None:
        pass

    lifespan = Lifespan((nothing, close_probe), (start_writer, writer.close))
    middleware: list[Any] = [lifespan, Measure()]
    app: App[Request, Response] = App(middleware=middleware)
    problems.install(app)
    app.add_route("/event", Events(Ingest(writer)))
    app.add_route("/healthz", ops.Healthz())
    app.add_route("/readyz", ops.Readyz(probe, None))
    app.add_route("/metrics", ops.Metrics())
    return app
