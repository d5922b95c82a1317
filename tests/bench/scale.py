"""Measure what more processes and more servers bring, as ratios, all on this machine: ``make bench-scale``.

Each number of processes or servers in turns, three rounds:

- processes: API workers 1, 2, 4 (single events by 64 connections, without Elasticsearch); indexers 1, 2.
- nodes: Elasticsearch on 1, 2 and 3 nodes; one of three nodes is killed under load.
- replicas: searches in PostgreSQL with 0, 1 and 2 read replicas, strong and eventual.
- cache: how many answers of a replayed log of queries come from the cache.
- citus: writing to the Citus cluster whose coordinator EVENTSVC_TEST_CITUS_URL names, beside one server.

Prints tables in Markdown for docs/scaling.md. Machines with a processor for each process gain more.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Iterable, Sequence
from contextlib import ExitStack, closing
from pathlib import Path

from eventsvc.log import schema
from eventsvc.log.connection import connect
from eventsvc.telemetry import configure_logging
from tests.bench import citus, http_load, indexers, nodes, query_log, replicas
from tests.bench.postgres import EVENT, running_postgres
from tests.bench.service import Service
from tests.report import compare, conditions, replace_block, table

PARTS = ("processes", "nodes", "replicas", "cache", "citus")
WORKERS = (1, 2, 4)
ROUNDS = 3
_CITUS = "EVENTSVC_TEST_CITUS_URL"


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=4.0, help="of each measurement of requests a second")
    parser.add_argument("--events", type=int, default=200_000, help="in the log")
    parser.add_argument("--report", type=Path, help="the page whose tables are to be written")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS, help="measure only these parts")
    options = parser.parse_args()
    configure_logging("console", "warning")
    for part in options.only:
        if part != "citus" or os.environ.get(_CITUS):
            measure(part, options)


def measure(part: str, options: argparse.Namespace) -> None:
    """Measure a part, and print its tables."""

    def show(block: str, head: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
        command = f"python -m tests.bench.scale --only {part} --events {options.events}"
        text = f"{conditions(command)}\n\n{table(head, rows)}"
        print(text, flush=True)
        if options.report:
            replace_block(options.report, block, text)

    match part:
        case "processes":
            rows = [*_measure_workers(options.seconds), *indexers.measure(options.events)]
            show("bench-scale", ("what", "events/s (each round)", "ratio to one process"), rows)
        case "nodes":
            rows, loss = nodes.measure(options.events)
            show("bench-nodes", ("what", "measured (each round)", "ratio to one node"), rows)
            show("bench-node-lost", ("phase", "POSTs by status", "searches by source", "slowest search"), loss)
        case "replicas":
            rows = replicas.measure(options.events, options.seconds)
            show("bench-replicas", ("what", "searches/s (each round)", "ratio to no replica"), rows)
        case "cache":
            head = ("stored meanwhile", "queries", "answered from the cache", "median of these", "median of the others")
            show("bench-cache", head, query_log.measure(options.events))
        case "citus":
            rows = citus.measure(os.environ[_CITUS], options.seconds)
            show("bench-citus", ("what", "events/s (each round)", "ratio to one server"), rows)


def _measure_workers(seconds: float) -> list[tuple[str, ...]]:
    body = json.dumps(EVENT, separators=(",", ":")).encode()
    rates: dict[str, list[float]] = {str(count): [] for count in WORKERS}
    with running_postgres() as (server, _), closing(connect(server.url)) as connection, ExitStack() as stack:
        schema.migrate(connection)
        services = {
            str(count): stack.enter_context(
                Service(
                    {"EVENTSVC_DATABASE_URL": server.url, "EVENTSVC_WORKERS": str(count)}, "-m", "eventsvc", "serve"
                )
            )
            for count in WORKERS
        }
        for measured in [False, *[True] * ROUNDS]:
            for count, service in services.items():
                with connection.cursor() as cursor:
                    cursor.execute("TRUNCATE event; CHECKPOINT")
                load = http_load.post("127.0.0.1", service.port, body, connections=64, seconds=seconds)
                rates[count] += [load.rate] if measured else []
    return compare("API workers: POST /event, 64 connections", rates)


if __name__ == "__main__":
    main()
