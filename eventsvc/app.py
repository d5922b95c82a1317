"""Build the app of a worker process. Only this module knows all parts: settings, stores, resources and handlers."""

from __future__ import annotations

import asyncio
import gc
from typing import TYPE_CHECKING, Any

from falcon.asgi import App, Request, Response

from eventsvc.access.audit import Audit
from eventsvc.access.keys import Keys
from eventsvc.access.limiter import Limiter
from eventsvc.access.without_keys import may_be_open
from eventsvc.api import monitoring, problems
from eventsvc.api.access import Access, TicketResource
from eventsvc.api.context import ContextResource
from eventsvc.api.edge import Edge, answer_head
from eventsvc.api.erasure import ErasuresResource
from eventsvc.api.events import EventResource, EventsResource
from eventsvc.api.fields import FieldsResource
from eventsvc.api.ingest import Ingest
from eventsvc.api.keys import KeysResource
from eventsvc.api.lifecycle import Lifespan, Measure
from eventsvc.api.openapi import OpenApiResource
from eventsvc.api.page_files import PageFiles
from eventsvc.api.query import QueryResource
from eventsvc.api.stats import StatsResource
from eventsvc.api.stream import StreamResource, render
from eventsvc.api.views import ViewsResource
from eventsvc.index import client
from eventsvc.index.reader import IndexReader
from eventsvc.log.connection import Pool
from eventsvc.log.read.reader import Reader
from eventsvc.log.read.replica import Replicas
from eventsvc.log.write.bulk_writer import BulkWriter
from eventsvc.log.write.writer import Writer
from eventsvc.search.both_stores import BothStores
from eventsvc.search.context import Neighbours
from eventsvc.search.live import Live
from eventsvc.search.query_thread import QueryThread
from eventsvc.search.search import Search
from eventsvc.search.stats import Stats

if TYPE_CHECKING:
    from eventsvc.settings import Settings


class _Service:
    """Everything that a worker process holds open, so that it is closed in the right order."""

    def __init__(self, settings: Settings) -> None:
        dsn = settings.database_url.get_secret_value()
        size, patience = settings.database_pool, settings.search_timeout
        self.pool = Pool(dsn, size=size, statement_timeout=patience)
        # /readyz has its own connection, so that it never waits behind searches.
        self.probe = Pool(dsn, size=1, statement_timeout=2.0)
        # Searches that the index cannot answer have their own connections, so that no other request waits behind them.
        self.whole = Pool(dsn, size=max(2, size // 2), statement_timeout=patience)
        # Keys and views have their own connection, so that no search waits behind them.
        self.saved = Pool(dsn, size=1, statement_timeout=patience)
        # Erasing may read a whole month, so it has its own connection.
        self.erasing = Pool(dsn, size=1, statement_timeout=120.0)
        replicas = settings.replica_urls.replace(",", " ").split()
        self.replicas = Replicas(replicas, size=size, statement_timeout=patience)
        self.writer = Writer(dsn, queue_size=settings.write_queue)
        self.bulk_writer = BulkWriter(dsn, concurrency=settings.bulk_concurrency)
        self.index = client.connect_async(settings) if settings.elasticsearch_url else None
        self.index_reader = IndexReader(self.index, settings.elasticsearch_timeout) if self.index else None
        self.reader = Reader(self.pool, self.replicas, whole=self.whole)
        cache_size = settings.search_cache * 2**20
        self.both_stores = BothStores(
            self.index_reader, self.reader, alias=settings.index_prefix, cache_size=cache_size
        )
        self.search = Search(self.reader, self.both_stores, page_bytes=settings.page_bytes)
        self.live = Live(dsn, render)
        self.query_thread = QueryThread()
        self.audit = Audit(self.writer, settings.audit)
        self.keys = Keys(self.probe, open_without=may_be_open(settings))

    async def start(self) -> None:
        self.writer.start()
        self.audit.start()
        await self.keys.start()
        # PERF: all objects of now stay, so the collector does not look through them: it took 8 % of a worker's time.
        # A collection of 50,000 new objects took 75 ms, in which the event loop stood still; one of 2,000 takes 2 ms.
        gc.freeze()
        gc.set_threshold(2_000, 10, 100)

    async def stop(self) -> None:
        """Stop. The writers come first, because they still hold events that were accepted."""
        await self.audit.close()
        await asyncio.gather(self.writer.close(), self.bulk_writer.close())
        await self.keys.close()
        self.query_thread.close()
        await self.both_stores.close()
        if self.index is not None:
            await self.index.close()
        await self.replicas.close()
        pools = (self.pool, self.whole, self.probe, self.saved, self.erasing)
        await asyncio.gather(*(asyncio.to_thread(pool.close) for pool in pools))


class Api(App[Request, Response]):
    """The app of one worker process."""

    def __init__(self, service: _Service, **options: Any) -> None:
        super().__init__(**options)
        self._service = service

    def add_route(self, uri_template: str, resource: Any, **kwargs: Any) -> None:
        """Add a route; HEAD is answered wherever GET is."""
        if hasattr(resource, "on_get") and not hasattr(resource, "on_head"):
            resource.on_head = answer_head(resource.on_get)
        super().add_route(uri_template, resource, **kwargs)

    def leave(self) -> None:
        """End the streams that would never end. A stopping worker calls this before it waits for its requests."""
        self._service.live.end()


def create_app(settings: Settings, limiter: Limiter | None = None) -> Api:
    """Build the app of one worker process, which opens its connections when it starts.

    Args:
        settings: the settings of the service.
        limiter: counts the requests of all worker processes; None if there is only one process.

    Raises:
        SetupError: the URL or certificate of Elasticsearch cannot be used.
    """
    service = _Service(settings)
    access = Access(service.keys, limiter or Limiter(), service.query_thread, service.audit, settings)
    middleware: list[Any] = [Lifespan(service.start, service.stop), Measure(), Edge(settings), access]
    app = Api(service, middleware=middleware)
    app.req_options.strip_url_path_trailing_slash = True
    problems.install(app)
    PageFiles().install(app)
    described = OpenApiResource()
    app.add_route("/openapi.json", described)
    app.add_route("/docs", described, suffix="docs")
    app.add_route("/event", EventsResource(Ingest(service.writer, service.bulk_writer, settings), service.search))
    app.add_route("/event/{event_id}", EventResource(service.search))
    neighbours = Neighbours(service.reader, service.search)
    app.add_route("/event/{event_id}/context", ContextResource(service.search, neighbours))
    app.add_route("/event/fields", FieldsResource(service.search))
    app.add_route("/event/stats", StatsResource(Stats(service.reader, service.both_stores)))
    app.add_route("/event/stream", StreamResource(service.live, service.reader))
    erasures = ErasuresResource(service.erasing)
    app.add_route("/erasure", erasures)
    app.add_route("/erasure/{erasure_id}", erasures, suffix="one")
    app.add_route("/ticket", TicketResource())
    keys = KeysResource(service.saved)
    app.add_route("/key", keys)
    app.add_route("/key/{key_id}", keys, suffix="one")
    app.add_route("/key/{key_id}/rotation", keys, suffix="rotation")
    saved = ViewsResource(service.saved)
    app.add_route("/view", saved)
    app.add_route("/view/{name}", saved, suffix="one")
    app.add_route("/query", QueryResource(service.query_thread, service.search))
    app.add_route("/healthz", monitoring.HealthzResource())
    app.add_route(
        "/readyz", monitoring.ReadyzResource(service.probe, service.index_reader, alias=settings.index_prefix)
    )
    app.add_route("/metrics", monitoring.MetricsResource())
    return app
