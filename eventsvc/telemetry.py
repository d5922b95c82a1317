"""Our own log lines (structlog) and metrics (Prometheus). Neither ever holds a message, a query value or a secret."""

from __future__ import annotations

import logging
import sys
from typing import Any, Literal

import ecs_logging
import structlog
from prometheus_client import REGISTRY as _IN_PROCESS
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest, multiprocess

REQUESTS = Counter("eventsvc_requests_total", "HTTP requests answered", ["method", "route", "status"])
REQUEST_SECONDS = Histogram(
    "eventsvc_request_seconds",
    "Time to the end of the answer's head, seconds",
    ["method", "route"],
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10),
)
CONNECTIONS = Gauge("eventsvc_connections", "Connections of clients", multiprocess_mode="livesum")
REFUSED = Counter("eventsvc_refused_total", "Requests refused before the app saw them, by status", ["status"])
SPOOLED = Gauge("eventsvc_spooled_bytes", "Bodies under way, in temporary files", multiprocess_mode="livesum")
EVENTS_STORED = Counter("eventsvc_events_stored_total", "Events committed to the log")
EVENTS_INDEXED = Counter("eventsvc_events_indexed_total", "Events written to the index")
INDEX_FAILURES = Counter("eventsvc_index_failures_total", "Events that Elasticsearch refused")
SEARCHES = Counter("eventsvc_searches_total", "Searches answered, by what answered them", ["source"])
AUDIT_DROPPED = Counter("eventsvc_audit_dropped_total", "Requests that the audit had no room for, or lost")
DENIED = Counter("eventsvc_denied_total", "Requests denied: no key, no right, or too many", ["reason"])


def configure_logging(form: Literal["console", "json"], level: str) -> None:
    """Send our log lines, and those of the libraries, to stderr; JSON lines follow the Elastic Common Schema."""
    threshold = getattr(logging, level.upper())
    renderer: Any = (
        ecs_logging.StructlogFormatter()
        if form == "json"
        else structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty(), pad_event_to=0)
    )
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    structlog.configure(
        processors=[*shared, structlog.processors.format_exc_info, renderer],
        wrapper_class=structlog.make_filtering_bound_logger(threshold),
        logger_factory=structlog.WriteLoggerFactory(sys.stderr),
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.format_exc_info,
                renderer,
            ],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(threshold)
    # The libraries log every request, and every failure as a warning. We log ourselves when the index is away.
    logging.getLogger("elastic_transport").setLevel(logging.ERROR)


def render_metrics() -> bytes:
    """Write all metrics in Prometheus' text format, for all worker processes together."""
    try:
        registry = CollectorRegistry()
        multiprocess.MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
    except ValueError:  # PROMETHEUS_MULTIPROC_DIR is not set: one process, one registry
        registry = _IN_PROCESS
    return generate_latest(registry)
