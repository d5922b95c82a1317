"""Replay a log of queries, and count how many answers of the index come from the cache; see scale.py.

The log is made up, with a fixed seed: three dashboards refresh their panels every 30 seconds, and support people look
for a person, refresh, narrow their query down, go back, and look at the next person; they send a query about every 8
seconds. The replay and the writes meanwhile run 15 times as fast.
"""

from __future__ import annotations

import http.client
import json
import random
import statistics
import threading
import time
import urllib.parse
from collections import defaultdict
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager

from eventsvc.log import schema
from eventsvc.log.connection import connect
from eventsvc.settings import load
from tests.bench import generate
from tests.bench.index import serve_stores
from tests.bench.indexers import run_indexer
from tests.bench.postgres import EVENT
from tests.bench.service import Service, wait_for_the_index

SEED = 20261129
SPEED = 15
PEOPLE, VISITS, THOUGHT = 5, 20, 8.0  # support people, the persons each of them looks for, seconds between queries
DASHBOARDS, REFRESHES, INTERVAL = 3, 20, 30.0  # seconds
WRITES = (0, 10, 100)  # events a second meanwhile
WORKERS = "2"

Request = tuple[float, str]  # the seconds before the request, and its path with its query

_PANELS = (
    ("/event/stats", {"q": "environment eq 'production'", "by": "component"}),
    ("/event/stats", {"q": "component eq '{component}'", "interval": "1h"}),
    ("/event/stats", {"q": "component eq '{component}' AND message ct 'rejected'"}),
    ("/event", {"q": "component eq '{component}' AND message ct 'rejected'", "limit": "20"}),
    ("/event/stats", {"q": "createdAt gte 'now-1d'", "by": "environment"}),
    ("/event", {"q": "createdAt gte 'now-1h'", "limit": "50"}),
)


def measure(events: int) -> list[tuple[str, ...]]:
    """Give the rows of the table: a replay with each number of writes."""
    rows: list[tuple[str, ...]] = []
    with ExitStack() as stack:
        database, elasticsearch = serve_stores(stack)
        with closing(connect(database)) as connection:
            schema.migrate(connection)
            generate.fill(connection, events)
        settings = load({}, database_url=database, elasticsearch_url=elasticsearch, index_prefix="bench")
        stack.enter_context(run_indexer(settings))
        for rate in WRITES:
            chosen = settings.to_environment() | {"EVENTSVC_WORKERS": WORKERS, "EVENTSVC_LOG_LEVEL": "error"}
            chosen.pop("EVENTSVC_PORT", None)
            with Service(chosen, "-m", "eventsvc", "serve") as service:  # a fresh one: its caches are empty
                wait_for_the_index(service)
                with _writing(service.port, rate):
                    rows += _describe(rate, _replay(service.port))
    return rows


def _describe(rate: int, times: dict[str, list[float]]) -> Iterator[tuple[str, ...]]:
    count = sum(map(len, times.values()))
    assert count == sum(map(len, list_clients())), "not every query was answered"
    hits = times["cache+tail"]
    others = [seconds for source, each in times.items() if source != "cache+tail" for seconds in each]
    yield (
        f"{rate} events/s",
        f"{count:,}",
        f"{len(hits) / count:.0%}",
        f"{statistics.median(hits) * 1000:.1f} ms" if hits else "",
        f"{statistics.median(others) * 1000:.1f} ms",
    )


def list_clients() -> list[list[Request]]:
    """Give the requests of each client, in order: the same ones at each call."""
    numbers = random.Random(SEED)
    return [
        *([*_watch(numbers)] for _ in range(DASHBOARDS)),
        *([*_support(numbers)] for _ in range(PEOPLE)),
    ]


def _path(path: str, **parameters: str) -> str:
    return f"{path}?{urllib.parse.urlencode(parameters)}"


def _watch(numbers: random.Random) -> Iterator[Request]:
    component = numbers.choice(("orders", "billing", "shipping"))
    for _ in range(REFRESHES):
        for number, (path, parameters) in enumerate(_PANELS):
            named = {name: text.format(component=component) for name, text in parameters.items()}
            yield 0.0 if number else INTERVAL, _path(path, **named)


def _support(numbers: random.Random) -> Iterator[Request]:
    for _ in range(VISITS):
        who = f"email eq 'user{numbers.randrange(5000)}@chefhero.com'"
        yield numbers.uniform(0, 2 * THOUGHT), _path("/event", q=who, limit="50")
        for _ in range(numbers.randrange(3)):  # refreshes: has it happened by now?
            yield numbers.uniform(0, 2 * THOUGHT), _path("/event", q=who, limit="50")
        narrow = f"{who} AND message ct '{numbers.choice(('order', 'payment', 'parcel'))}'"
        yield numbers.uniform(0, 2 * THOUGHT), _path("/event", q=narrow, limit="50")
        if numbers.random() < 0.5:
            yield numbers.uniform(0, 2 * THOUGHT), _path("/event/stats", q=narrow, by="component")
        if numbers.random() < 0.5:  # back
            yield numbers.uniform(0, 2 * THOUGHT), _path("/event", q=who, limit="50")


def _replay(port: int) -> dict[str, list[float]]:
    """Send the requests of each client through a connection of its own; give the times of the answers by source."""
    times: dict[str, list[float]] = defaultdict(list)
    lock = threading.Lock()

    def play(requests: list[Request]) -> None:
        with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=60)) as client:
            for pause, path in requests:
                time.sleep(pause / SPEED)
                began = time.perf_counter()
                client.request("GET", path)
                answer = client.getresponse()
                body = answer.read()
                assert answer.status == 200, body
                with lock:
                    times[answer.headers["Eventsvc-Source"]].append(time.perf_counter() - began)

    clients = list_clients()
    with ThreadPoolExecutor(len(clients)) as threads:
        for done in [threads.submit(play, requests) for requests in clients]:
            done.result()
    return times


@contextmanager
def _writing(port: int, rate: int) -> Iterator[None]:
    """Store so many events a second of the log's time meanwhile, in bulk requests every tenth of a second."""
    over = threading.Event()
    body = b"\n".join(json.dumps(EVENT, separators=(",", ":")).encode() for _ in range(rate * SPEED // 10))

    def write() -> None:
        with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=60)) as client:
            due = time.monotonic()
            while not over.wait(max(0.0, due - time.monotonic())):
                client.request("POST", "/event", body, {"Content-Type": "application/x-ndjson"})
                answer = client.getresponse()
                assert answer.status == 201, answer.read()
                answer.read()
                due += 0.1

    with ThreadPoolExecutor(1) as thread:
        writing = thread.submit(write) if rate else None
        try:
            yield
        finally:
            over.set()
            if writing:
                writing.result()
