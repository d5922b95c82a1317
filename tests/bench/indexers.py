"""Measure 1 and 2 indexers on a log that is far ahead of its index, in turns; see scale.py."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager

from eventsvc.log import schema
from eventsvc.log.connection import Connection, connect
from eventsvc.log.progress import shares, watermark
from eventsvc.settings import Settings, load
from tests.bench.index import fill, forget, serve_stores
from tests.report import compare

INDEXERS = (1, 2)
ROUNDS = 3


def measure(events: int) -> list[tuple[str, ...]]:
    """Give the rows of the table."""
    rates: dict[str, list[float]] = {str(count): [] for count in INDEXERS}
    with ExitStack() as stack:
        database, elasticsearch = serve_stores(stack)
        connection = stack.enter_context(closing(connect(database)))
        schema.migrate(connection)
        settings = load({}, database_url=database, elasticsearch_url=elasticsearch, index_prefix="bench")
        for measured in [False, *[True] * ROUNDS]:
            for count in INDEXERS:
                rate = measure_catching_up(settings, connection, events, count)
                rates[str(count)] += [rate] if measured else []
    return compare(f"indexers: {events:,} events until all are searchable", rates)


def measure_catching_up(settings: Settings, connection: Connection, events: int, indexers: int) -> float:
    """Fill the log and give the events a second until all are searchable."""
    with connection.cursor() as cursor:
        cursor.execute("TRUNCATE event RESTART IDENTITY; CHECKPOINT")
    forget(settings, connection)
    with ExitStack() as stack:
        for _ in range(indexers):
            stack.enter_context(run_indexer(settings))
        while watermark.find_leader(connection) is None or shares.count_others(connection) < indexers:
            time.sleep(0.05)
        fill(connection, events)
        began = time.perf_counter()
        while watermark.read(connection).seq < events:
            time.sleep(0.02)
        return events / (time.perf_counter() - began)


@contextmanager
def run_indexer(settings: Settings) -> Iterator[int]:
    """Run one indexer; give its process id."""
    environment = {name: text for name, text in os.environ.items() if not name.startswith("EVENTSVC_")}
    environment |= settings.to_environment() | {"EVENTSVC_LOG_LEVEL": "error"}
    with tempfile.TemporaryFile() as output:
        process = subprocess.Popen([sys.executable, "-m", "eventsvc", "index"], env=environment, stdout=output)
        try:
            yield process.pid
        finally:
            process.terminate()
            process.wait(60)
