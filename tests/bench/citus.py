"""Measure writing to a log over the workers of a Citus cluster beside a log on one server, in turns; see scale.py."""

from __future__ import annotations

import http.client
import json
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack, closing, contextmanager

from eventsvc.log import citus, schema
from eventsvc.log.connection import connect
from tests.bench import http_load
from tests.bench.postgres import EVENT
from tests.bench.service import Service
from tests.integration.citus.conftest import Cluster, execute
from tests.report import compare

SHARDS, ROUNDS, BULK = 32, 3, 20_000
COMPONENTS = tuple(f"component-{number}" for number in range(8))
WHAT = ("POST /event, 64 connections, one component", "POST /event, 64 connections, 4 components", "bulk requests")
Rates = dict[str, dict[str, list[float]]]


def measure(url: str, seconds: float) -> list[tuple[str, ...]]:
    """Give the rows of the table: Citus with its workers, as a ratio to a database of the coordinator alone."""
    rates: Rates = {what: {"PostgreSQL": [], "Citus": []} for what in WHAT}
    with ExitStack() as stack:
        cluster = Cluster(url)
        logs = {"PostgreSQL": stack.enter_context(_single_server(cluster)), "Citus": stack.enter_context(_spread(url))}
        services = {
            name: stack.enter_context(Service({"EVENTSVC_DATABASE_URL": dsn}, "-m", "eventsvc", "serve"))
            for name, dsn in logs.items()
        }
        for measured in [False, *[True] * ROUNDS]:
            for name, service in services.items():
                for what, work in zip(WHAT, _works(service.port, seconds), strict=True):
                    execute(logs[name], "TRUNCATE event", "CHECKPOINT")
                    rate = work()
                    rates[what][name] += [rate] if measured else []
    rows = []
    for what, found in rates.items():
        sides = {"PostgreSQL": found["PostgreSQL"], f"Citus, {len(cluster.workers)} workers": found["Citus"]}
        rows += compare(what, sides)
    return rows


@contextmanager
def _single_server(cluster: Cluster) -> Iterator[str]:
    """A database of the coordinator's server, without Citus."""
    execute(cluster.url, f"CREATE DATABASE {cluster.name}")
    try:
        _migrate(cluster.dsn, None)
        yield cluster.dsn
    finally:
        execute(cluster.url, f"DROP DATABASE {cluster.name} WITH (FORCE)")


@contextmanager
def _spread(url: str) -> Iterator[str]:
    cluster = Cluster(url)
    try:
        cluster.make()
        _migrate(cluster.dsn, citus.Distribution("component", SHARDS))
        yield cluster.dsn
    finally:
        cluster.drop()


def _migrate(dsn: str, distribution: citus.Distribution | None) -> None:
    with closing(connect(dsn)) as connection:
        schema.migrate(connection)
        if distribution is not None:
            list(citus.distribute(connection, distribution))


def _works(port: int, seconds: float) -> tuple[Callable[[], float], ...]:
    return (
        lambda: _post_singles(port, COMPONENTS[:1], seconds),
        lambda: _post_singles(port, COMPONENTS[:4], seconds),
        lambda: _post_bulks(port, seconds),
    )


def _post_singles(port: int, components: tuple[str, ...], seconds: float) -> float:
    """Send events of each component from a process of its own; give the events a second of all."""
    bodies = [json.dumps(EVENT | {"component": name}, separators=(",", ":")).encode() for name in components]
    with ProcessPoolExecutor(len(bodies)) as processes:
        connections = 64 // len(bodies)
        loads = [
            processes.submit(http_load.post, "127.0.0.1", port, body, connections=connections, seconds=seconds)
            for body in bodies
        ]
        return sum(load.result().rate for load in loads)


def _post_bulks(port: int, seconds: float) -> float:
    """Send bulk requests with events of all components, one after the other; give the events a second."""
    events = [EVENT | {"component": COMPONENTS[number % len(COMPONENTS)]} for number in range(BULK)]
    body = b"\n".join(json.dumps(event, separators=(",", ":")).encode() for event in events)
    count, began = 0, time.perf_counter()
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=120)) as client:
        while time.perf_counter() - began < seconds:
            client.request("POST", "/event", body, {"Content-Type": "application/x-ndjson"})
            answer = client.getresponse()
            assert answer.status == 201, answer.read()
            answer.read()
            count += BULK
    return count / (time.perf_counter() - began)
