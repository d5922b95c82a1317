"""Measure searches in PostgreSQL with 0, 1 and 2 read replicas, in turns; see scale.py."""

from __future__ import annotations

import tempfile
import time
import urllib.parse
from contextlib import ExitStack, closing
from pathlib import Path

from eventsvc.dev.postgres import answers
from eventsvc.log import schema
from eventsvc.log.connection import connect
from tests.bench import generate, http_load
from tests.bench.postgres import running_postgres
from tests.bench.service import Service
from tests.replica import Replica
from tests.report import compare

REPLICAS = (0, 1, 2)
ROUNDS = 3
CONSISTENCIES = ("strong", "eventual")
Rates = dict[str, dict[str, list[float]]]


def measure(events: int, seconds: float) -> list[tuple[str, ...]]:
    """Give the rows of the table: searches a second by 16 connections, without Elasticsearch."""
    rates: Rates = {consistency: {_side(count): [] for count in REPLICAS} for consistency in CONSISTENCIES}
    with ExitStack() as stack:
        services = _start(stack, events)
        for measured in [False, *[True] * ROUNDS]:
            for count, service in services.items():
                for consistency in CONSISTENCIES:
                    paths = [
                        f"/event?{urllib.parse.urlencode({'q': query, 'limit': 20, 'consistency': consistency})}"
                        for query in (f"email eq 'user{number}@chefhero.com'" for number in range(500))
                    ]
                    load = http_load.get("127.0.0.1", service.port, paths, connections=16, seconds=seconds)
                    assert not load.refused, f"{load.refused} searches were refused"
                    rates[consistency][_side(count)] += [load.rate] if measured else []
    rows = []
    for consistency, found in rates.items():
        rows += compare(f"{consistency} searches of {events:,} events in PostgreSQL", found)
    return rows


def _side(count: int) -> str:
    return "1 replica" if count == 1 else f"{count} replicas"


def _start(stack: ExitStack, events: int) -> dict[int, Service]:
    """Start a service for each number of replicas, over one primary and two replicas that stream from it."""
    primary, programs = stack.enter_context(running_postgres())
    with closing(connect(primary.url)) as connection:
        schema.migrate(connection)
        generate.fill(connection, events)
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory(ignore_cleanup_errors=True)))
    folder.chmod(0o711)
    replicas = []
    for number in range(max(REPLICAS)):
        replica = Replica(primary, folder / f"replica{number}", programs)
        replica.copy()
        stack.callback(replica.stop)
        replica.start()
        replicas.append(replica.url)
        while not answers(replica.url):
            time.sleep(0.1)
    settings = {"EVENTSVC_DATABASE_URL": primary.url, "EVENTSVC_WORKERS": "2"}
    return {
        count: stack.enter_context(
            Service(settings | {"EVENTSVC_REPLICA_URLS": ",".join(replicas[:count])}, "-m", "eventsvc", "serve")
        )
        for count in REPLICAS
    }
