"""Measure what more processes bring on this machine: ``make bench-scale``.

If EVENTSVC_TEST_CITUS_URL names the coordinator of a Citus cluster, writing to this cluster is measured too.

API workers 1, 2, 4: single events by 64 connections, without Elasticsearch. Indexers 1, 2: a log that is far ahead of
its index. Each number of processes in turns, three rounds, on servers of its own. Prints a table in Markdown for
docs/scaling.md. A machine with more cores than processes gains more: the number of cores is part of the table.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from eventsvc.log import schema
from eventsvc.log.connection import Connection, connect
from eventsvc.log.progress import shares, watermark
from eventsvc.settings import Settings, load
from eventsvc.telemetry import configure_logging
from tests.bench import citus, http_load
from tests.bench.index import fill, forget, serve_stores
from tests.bench.postgres import EVENT, running_postgres
from tests.bench.service import Service
from tests.report import replace_block

WORKERS = (1, 2, 4)
INDEXERS = (1, 2)
ROUNDS = 3
_CITUS = "EVENTSVC_TEST_CITUS_URL"
Rates = dict[int, list[float]]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=4.0, help="of each measurement of API workers")
    parser.add_argument("--events", type=int, default=200_000, help="that the indexers find in the log")
    parser.add_argument("--report", type=Path, help="the page whose table is to be written")
    parser.add_argument("--only-citus", action="store_true", help="leave out API workers and indexers")
    options = parser.parse_args()
    configure_logging("console", "warning")
    if not options.only_citus:
        _measure_processes(options)
    if os.environ.get(_CITUS):
        _measure_citus(options)


def _measure_processes(options: argparse.Namespace) -> None:
    """Print the table of API workers and indexers."""
    rows = [
        *_describe("API workers: POST /event, 64 connections", _measure_workers(options.seconds)),
        *_describe(f"indexers: {options.events:,} events until all are searchable", _measure_indexers(options.events)),
    ]
    _show("bench-scale", "one process", rows, options.report)


def _measure_citus(options: argparse.Namespace) -> None:
    """Print the table of writing to a Citus cluster."""
    rows = citus.measure(os.environ[_CITUS], options.seconds)
    _show("bench-citus", "one server", rows, options.report)


def _show(block: str, base: str, rows: Iterable[str], report: Path | None) -> None:
    lines = [
        f"`make bench-scale`, {time.strftime('%Y-%m-%d')}, {os.cpu_count()} cores, everything on one machine:",
        "",
        f"| what | events/s (each round) | ratio to {base} |",
        "| --- | --- | --- |",
        *rows,
    ]
    print("\n".join(lines))
    if report:
        replace_block(report, block, "\n".join(lines))


def _describe(what: str, rates: Rates) -> Iterator[str]:
    alone = statistics.median(rates[1])
    for count, each in rates.items():
        median = statistics.median(each)
        rounds = ", ".join(f"{rate:,.0f}" for rate in each)
        yield f"| {what}; {count} | {median:,.0f} ({rounds}) | {median / alone:.2f} |"


def _measure_workers(seconds: float) -> Rates:
    body = json.dumps(EVENT, separators=(",", ":")).encode()
    rates: Rates = {count: [] for count in WORKERS}
    with running_postgres() as (server, _), ExitStack() as stack:
        connection = connect(server.url)
        stack.callback(connection.close)
        schema.migrate(connection)
        services = {
            count: stack.enter_context(
                Service(
                    {"EVENTSVC_DATABASE_URL": server.url, "EVENTSVC_WORKERS": str(count)}, "-m", "eventsvc", "serve"
                )
            )
            for count in WORKERS
        }
        for measured in [False, *[True] * ROUNDS]:
            for count, service in services.items():
                _execute(connection, "TRUNCATE event; CHECKPOINT")
                load = http_load.post("127.0.0.1", service.port, body, connections=64, seconds=seconds)
                rates[count] += [load.rate] if measured else []
    return rates


def _measure_indexers(events: int) -> Rates:
    rates: Rates = {count: [] for count in INDEXERS}
    with ExitStack() as stack:
        database, elasticsearch = serve_stores(stack)
        connection = connect(database)
        stack.callback(connection.close)
        schema.migrate(connection)
        settings = load({}, database_url=database, elasticsearch_url=elasticsearch, index_prefix="bench")
        for measured in [False, *[True] * ROUNDS]:
            for count in INDEXERS:
                rate = _measure_catching_up(settings, connection, events, count)
                rates[count] += [rate] if measured else []
    return rates


def _measure_catching_up(settings: Settings, connection: Connection, events: int, indexers: int) -> float:
    _execute(connection, "TRUNCATE event RESTART IDENTITY; CHECKPOINT")
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


def _execute(connection: Connection, statements: str) -> None:
    with connection.cursor() as cursor:
        cursor.execute(statements)


if __name__ == "__main__":
    main()
