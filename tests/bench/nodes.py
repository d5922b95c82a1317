"""Measure Elasticsearch on 1, 2 and 3 nodes, in turns, and kill one of three nodes under load; see scale.py."""

from __future__ import annotations

import http.client
import json
import os
import signal
import statistics
import sys
import tempfile
import threading
import time
import urllib.parse
import uuid
from collections import Counter, defaultdict
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any

import urllib3

from eventsvc.admin.stores import open_stores
from eventsvc.admin.verify import list_months, verify
from eventsvc.dev.distribution import find_distribution, version_for
from eventsvc.dev.elasticsearch import LocalElasticsearch
from eventsvc.dev.java import find_java
from eventsvc.dev.server import free_port, wait_until_ready
from eventsvc.log import schema
from eventsvc.log.connection import Connection, connect
from eventsvc.log.progress import watermark
from eventsvc.log.progress.horizon import read_last_seq
from eventsvc.settings import Settings, load
from tests.bench.indexers import measure_catching_up, run_indexer
from tests.bench.postgres import EVENT, running_postgres
from tests.bench.service import Service
from tests.report import compare

NODES = (1, 2, 3)
SHARDS = 3  # of each month, on every number of nodes
ROUNDS = 3
SEARCHES = 100
HEAP = "512m"


class Node(LocalElasticsearch):
    """One of several nodes of a cluster."""

    def __init__(self, name: str, transports: dict[str, int], **arguments: Any) -> None:
        super().__init__(**arguments)
        self.node_name, self._transports = name, transports

    def _configure(self) -> None:
        super()._configure()
        file = self._folder / "config" / "elasticsearch.yml"
        settings = {
            "node.name": self.node_name,
            "transport.port": self._transports[self.node_name],
            "discovery.seed_hosts": [f"127.0.0.1:{port}" for port in self._transports.values()],
            "cluster.initial_master_nodes": list(self._transports),
        }
        others = ("transport.port", "discovery.type")
        lines = [line for line in file.read_text().splitlines() if not line.startswith(others)]
        lines += [f"{key}: {json.dumps(value)}" for key, value in settings.items()]
        file.unlink()
        file.write_text("\n".join([*lines, ""]))

    def kill(self) -> None:
        """Kill the node at once."""
        assert self.pid is not None
        os.killpg(self.pid, signal.SIGKILL)
        self._process.wait()


class World:
    """Three nodes and a PostgreSQL."""

    def __init__(self, stack: ExitStack) -> None:
        java = find_java()
        distribution = find_distribution(version_for(java)) if java is not None else None
        if distribution is None or java is None:
            sys.exit("no Elasticsearch could be found")
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(ignore_cleanup_errors=True)))
        folder.chmod(0o711)
        transports = {f"node{number}": free_port() for number in range(max(NODES))}
        self.nodes = [
            Node(
                name,
                transports,
                folder=folder / name,
                log=folder / f"{name}.log",
                distribution=distribution,
                java=java,
                heap=HEAP,
            )
            for name in transports
        ]
        for node in self.nodes:
            stack.callback(node.stop)
            node.start()
        for node in self.nodes:
            wait_until_ready(node, timeout=240, restarts=0)
        server, _ = stack.enter_context(running_postgres())
        self.connection = stack.enter_context(closing(connect(server.url)))
        schema.migrate(self.connection)
        self._database = server.url

    def settings(self, nodes: int, replicas: int) -> Settings:
        """Give settings for an index on so many nodes; the other nodes get no new shard."""
        others = ",".join(node.node_name for node in self.nodes[nodes:])
        body = {"persistent": {"cluster.routing.allocation.exclude._name": others}}
        answer = urllib3.request("PUT", f"{self.nodes[0].url}/_cluster/settings", json=body)
        assert answer.status == 200, answer.data
        return load(
            {},
            database_url=self._database,
            elasticsearch_url=",".join(node.url for node in self.nodes[:nodes]),
            index_prefix="bench",
            index_shards=SHARDS,
            index_replicas=replicas,
        )


def measure(events: int) -> tuple[list[tuple[str, ...]], list[tuple[str, ...]]]:
    """Give the rows of two tables: the nodes as ratios, and what came of the loss of a node."""
    with ExitStack() as stack:
        world = World(stack)
        rates: dict[str, list[float]] = {_side(count): [] for count in NODES}
        times: dict[str, list[float]] = {_side(count): [] for count in NODES}
        for measured in [False, *[True] * ROUNDS]:
            for count in NODES:
                settings = world.settings(count, 0)
                rate = measure_catching_up(settings, world.connection, events, 1)
                with serving(settings) as service:
                    time_of_search = _measure_search(service.port)
                rates[_side(count)] += [rate] if measured else []
                times[_side(count)] += [time_of_search * 1000] if measured else []
        rows = [
            *compare(f"{events:,} events until all are searchable, events/s", rates),
            *compare("a search of an id, median of 100, ms", times, digits=1),
        ]
        return rows, lose_a_node(world)


def _side(count: int) -> str:
    return "1 node" if count == 1 else f"{count} nodes"


@contextmanager
def serving(settings: Settings) -> Iterator[Service]:
    """Run the API without a cache."""
    chosen = settings.to_environment() | {"EVENTSVC_SEARCH_CACHE": "0", "EVENTSVC_LOG_LEVEL": "error"}
    chosen.pop("EVENTSVC_PORT", None)
    with Service(chosen, "-m", "eventsvc", "serve") as service:
        yield service


def _measure_search(port: int) -> float:
    """Give the median time of searches for rare words, one after the other."""
    times = []
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=60)) as client:
        for number in range(SEARCHES):
            began = time.perf_counter()
            client.request("GET", f"/event?{urllib.parse.urlencode({'q': f'''message ct '#{number * 997}' '''})}")
            answer = client.getresponse()
            body = answer.read()
            assert (answer.status, answer.headers["Eventsvc-Source"]) == (200, "index+tail"), body
            times.append(time.perf_counter() - began)
    return statistics.median(times)


def lose_a_node(world: World) -> list[tuple[str, ...]]:
    """Kill one of three nodes while events are stored and searched; give the rows of the table."""
    settings = world.settings(3, 1)
    measure_catching_up(settings, world.connection, 20_000, 1)
    with run_indexer(settings), serving(settings) as service, Traffic(service.port) as traffic:
        traffic.wait(500)
        victim = world.nodes[2]
        traffic.begin_phase("a node lost")
        victim.kill()
        time.sleep(30)
        traffic.begin_phase("the node started again")
        victim.start()
        wait_until_ready(victim, timeout=240, restarts=0)
        time.sleep(10)
    with run_indexer(settings):
        _wait_indexed(world.connection)
    with open_stores(settings) as stores:
        equal = all(report.equal for report in verify(stores, list_months(stores.connection)))
    with world.connection.cursor() as cursor:
        cursor.execute("SELECT message, count(*) FROM event WHERE component = 'nodes' GROUP BY 1")
        stored = dict(cursor.fetchall())
    lost = sum(stored.get(message, 0) != 1 for message in traffic.acknowledged)
    assert equal, "the index is not what the log says"
    assert not lost, f"{lost} events are lost or stored twice"
    return traffic.describe()


def _wait_indexed(connection: Connection) -> None:
    last = read_last_seq(connection)
    while watermark.read(connection).seq < last:
        time.sleep(0.1)


class Traffic:
    """A context manager: threads that store single events and count them by a strong search, from entry to exit.

    A count must include each event that was acknowledged before, and none that was not sent yet.
    """

    def __init__(self, port: int) -> None:
        self._url, self._over = f"http://127.0.0.1:{port}", threading.Event()
        self._http = urllib3.PoolManager(maxsize=3)
        self.acknowledged: list[str] = []
        self._sent = 0
        self._phase = "before"
        self._posts: dict[str, Counter[int]] = {self._phase: Counter()}
        self._searches: dict[str, Counter[str]] = {self._phase: Counter()}
        self._slowest: dict[str, float] = defaultdict(float)
        self._threads = ThreadPoolExecutor(3)
        self._running: list[Any] = []

    def __enter__(self) -> Traffic:  # noqa: PYI034
        self._running = [self._threads.submit(work) for work in (self._write, self._search, self._search)]
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for work in self._running:
            work.result()
        self._threads.shutdown()

    def begin_phase(self, name: str) -> None:
        self._posts[name], self._searches[name] = Counter(), Counter()
        self._phase = name

    def wait(self, count: int) -> None:
        while len(self.acknowledged) < count and not any(work.done() for work in self._running):
            time.sleep(0.05)

    def _write(self) -> None:
        while not self._over.wait(0.005):
            message = uuid.uuid4().hex
            self._sent += 1
            answer = self._ask("POST", "/event", json=EVENT | {"component": "nodes", "message": message})
            self._posts[self._phase][answer.status] += 1
            if answer.status == 201:
                self.acknowledged.append(message)

    def _search(self) -> None:
        while not self._over.wait(0.05):
            phase, least, began = self._phase, len(self.acknowledged), time.perf_counter()
            answer = self._ask("GET", "/event/stats", fields={"q": "component eq 'nodes'"})
            self._slowest[phase] = max(self._slowest[phase], time.perf_counter() - began)
            said = answer.headers.get("Eventsvc-Source", "") if answer.status == 200 else str(answer.status)
            self._searches[phase][said] += 1
            if answer.status == 200:
                count = answer.json()["count"]
                assert least <= count <= self._sent, f"{count} counted, {least} acknowledged, {self._sent} sent"

    def _ask(self, method: str, path: str, **rest: Any) -> urllib3.BaseHTTPResponse:
        return self._http.request(method, f"{self._url}{path}", timeout=60, retries=False, **rest)

    def describe(self) -> list[tuple[str, ...]]:
        def write(counts: Counter[Any]) -> str:
            return ", ".join(f"{name}: {count:,}" for name, count in sorted(counts.items()))

        return [
            (phase, write(self._posts[phase]), write(self._searches[phase]), f"{self._slowest[phase]:.1f} s")
            for phase in self._posts
        ]
