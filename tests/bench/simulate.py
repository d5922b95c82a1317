"""Simulate a day of 10^9 events on layouts that one machine cannot hold: ``make simulate``.

The model is fed by figures that are measured in the same run, on servers of its own: the CPU time of one event in each
part of the service, the bytes of one event in each store, and how much longer a search takes for each event that is not
in the index yet. Then the model predicts a run on this machine, and the prediction is compared with the real run.
Prints tables in Markdown for docs/scaling.md, which names the assumptions.
"""

from __future__ import annotations

import argparse
import http.client
import math
import os
import statistics
import sys
import time
import urllib.parse
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import orjson

from eventsvc.index import client as index_client
from eventsvc.log import schema
from eventsvc.log.connection import connect
from eventsvc.log.progress import watermark
from eventsvc.settings import load
from eventsvc.telemetry import configure_logging
from tests.bench import generate
from tests.bench.index import start_stores, store_bytes
from tests.bench.indexers import run_indexer
from tests.bench.service import Service
from tests.report import replace_block

DAY, STEP = 86_400, 10  # seconds
A_DAY = 1_000_000_000  # events
BULK = 1_000  # events in a request
SHARD_DOCUMENTS, SHARD_BYTES = 200_000_000, 50e9  # the most that Elastic advises
RETAINED = 30  # days


# ---- the model


@dataclass(frozen=True, slots=True)
class Costs:
    """What one event costs. CPU times are in seconds of one core.

    Attributes:
        api: CPU time of the API, for an event of a bulk request.
        log: CPU time of PostgreSQL to store an event.
        reading: CPU time of PostgreSQL to give an event to the indexer.
        indexer: CPU time of the indexer.
        elasticsearch: CPU time of Elasticsearch.
        search: seconds that a strong search takes if the index holds every event.
        tail: seconds that a search takes longer for each event that the index does not hold.
        log_bytes: bytes in PostgreSQL.
        index_bytes: bytes in Elasticsearch.
    """

    api: float
    log: float
    reading: float
    indexer: float
    elasticsearch: float
    search: float
    tail: float
    log_bytes: float
    index_bytes: float


@dataclass(frozen=True, slots=True)
class Layout:
    """The cores of each part, and what is lost for some hours.

    Attributes:
        lost: the part that loses cores: "indexers" or "elasticsearch"; "" for none.
        lost_cores: how many cores this part loses.
        lost_hours: the first and the last hour without these cores.
    """

    api: float
    log: float
    indexers: float
    elasticsearch: float
    lost: str = ""
    lost_cores: float = 0
    lost_hours: tuple[float, float] = (0, 0)

    def storing(self, costs: Costs) -> float:
        """Events a second that can be stored while the indexer reads as many."""
        return min(self.api / costs.api, self.log / (costs.log + costs.reading))

    def indexing(self, costs: Costs, second: float) -> float:
        """Events a second that can be indexed."""
        is_lost = self.lost_hours[0] <= second / 3600 < self.lost_hours[1]
        cores = {"indexers": self.indexers, "elasticsearch": self.elasticsearch}
        if self.lost and is_lost:
            cores[self.lost] -= self.lost_cores
        return min(cores["indexers"] / costs.indexer, cores["elasticsearch"] / costs.elasticsearch)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a day was like: events, and seconds."""

    stored: float
    refused: float
    indexed: float
    longest_tail: float
    longest_wait: float  # until an event is in the index
    slowest_search: float


def simulate(layout: Layout, costs: Costs, arrive: Callable[[float], float], *, seconds: int = DAY) -> Outcome:
    """Let events arrive for a day. What cannot be stored is refused (503); what waits for the index is the tail."""
    stored = refused = indexed = longest_tail = longest_wait = 0.0
    for second in range(0, seconds, STEP):
        coming = arrive(second) * STEP
        taken = min(coming, layout.storing(costs) * STEP)
        stored, refused = stored + taken, refused + coming - taken
        rate = layout.indexing(costs, second)
        indexed = min(stored, indexed + rate * STEP)
        tail = stored - indexed
        longest_tail = max(longest_tail, tail)
        longest_wait = max(longest_wait, tail / rate if rate else math.inf)
    return Outcome(stored, refused, indexed, longest_tail, longest_wait, costs.search + longest_tail * costs.tail)


def curve(events: float, peak: float = 3.0) -> Callable[[float], float]:
    """The events a second during a day whose busiest moment, at noon, has ``peak`` times the average."""
    power = next(tenths / 10 for tenths in range(1, 1_000) if _peak_of(tenths / 10) >= peak)
    busiest = events / DAY * _peak_of(power)
    return lambda second: busiest * math.sin(math.pi * second / DAY) ** power


def _peak_of(power: float) -> float:
    """How much the maximum of sin^power exceeds its average over half a turn."""
    steps = 1_000
    return 1 / statistics.fmean(math.sin(math.pi * (at + 0.5) / steps) ** power for at in range(steps))


LAYOUTS = {
    "small": Layout(2, 4, 1, 4),
    "without reserve": Layout(4, 8, 2, 6),
    "with reserve": Layout(4, 8, 3, 12),
    "with reserve, one of three Elasticsearch nodes lost for 2 h at noon": Layout(
        4, 8, 3, 12, "elasticsearch", 4, (11, 13)
    ),
    "with reserve, two of three indexers lost for 1 h at noon": Layout(4, 8, 3, 12, "indexers", 2, (11.5, 12.5)),
}


# ---- the measurements


class Machine:
    """The service on servers of its own, whose CPU time is counted by part."""

    def __init__(self, stack: ExitStack) -> None:
        database, elasticsearch = start_stores(stack)
        self.settings = load({}, database_url=database.url, elasticsearch_url=elasticsearch.url, index_prefix="bench")
        self.connection = connect(database.url)
        stack.callback(self.connection.close)
        schema.migrate(self.connection)
        names = ("EVENTSVC_DATABASE_URL", "EVENTSVC_ELASTICSEARCH_URL", "EVENTSVC_INDEX_PREFIX")
        environment = {name: text for name, text in self.settings.to_environment().items() if name in names}
        self.api = stack.enter_context(Service(environment, "-m", "eventsvc", "serve"))
        self._roots = {"log": _pid(database), "elasticsearch": _pid(elasticsearch), "api": self.api.pid}
        self.requests = Requests(self.api.port)

    @contextmanager
    def indexing(self) -> Iterator[None]:
        """Run an indexer."""
        with run_indexer(self.settings) as pid:
            self._roots["indexer"] = pid
            try:
                yield
            finally:
                self.wait_for_the_index()
                del self._roots["indexer"]

    def cpu(self) -> dict[str, float]:
        """Count the CPU seconds that each part, and this process, have used so far."""
        used: dict[str, float] = {"client": time.process_time()}
        children: dict[int, list[int]] = {}
        seconds: dict[int, float] = {}
        for folder in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):
                fields = (folder / "stat").read_text(encoding="utf-8").rpartition(")")[2].split()
                children.setdefault(int(fields[1]), []).append(int(folder.name))
                seconds[int(folder.name)] = sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")
        for part, root in self._roots.items():
            family = [root]
            for pid in family:  # grows on the way
                family += children.get(pid, [])
            used[part] = math.fsum(seconds.get(pid, 0.0) for pid in family)
        return used

    def lag(self) -> int:
        """Count the events that are not in the index."""
        with self.connection.cursor() as cursor:
            cursor.execute("SELECT (SELECT coalesce(max(seq), 0) FROM event) - (SELECT seq FROM watermark)")
            return int(cursor.fetchall()[0][0])

    def wait_for_the_index(self) -> None:
        """Wait until no event is missing in the index."""
        while self.lag():
            time.sleep(0.05)

    def bytes_of_the_log(self) -> int:
        """Count the bytes of all partitions, with their indexes."""
        with self.connection.cursor() as cursor:
            cursor.execute(
                "SELECT sum(pg_total_relation_size(inhrelid)) FROM pg_inherits WHERE inhparent = 'event'::regclass"
            )
            return int(cursor.fetchall()[0][0])

    def bytes_of_the_index(self) -> int:
        """Count the bytes of all indexes, merged as the indexes of past months are."""
        with index_client.connect(self.settings) as opened:
            client = opened.options(request_timeout=600)
            client.indices.forcemerge(index="bench*", max_num_segments=1, expand_wildcards="all")
            return store_bytes(client, "bench")


def _pid(server: object) -> int:
    pid = getattr(server, "pid", None)
    if pid is None:
        sys.exit("the CPU time can be counted for servers of this machine only")
    return int(pid)


class Requests:
    """Sends the same bulk requests again and again, and times searches."""

    def __init__(self, port: int) -> None:
        names = ("email", "environment", "component", "message", "data")
        events = generate.generate(BULK * 20, now=datetime.now(UTC))
        lines = [orjson.dumps({name: event[name] for name in names}) for event in events]
        self._bodies = [b"\n".join(lines[at : at + BULK]) for at in range(0, len(lines), BULK)]
        self._port, self._turn = port, 0

    def post(self) -> None:
        """Store BULK events."""
        self._turn += 1
        body = self._bodies[self._turn % len(self._bodies)]
        self._ask("POST", "/event", body, {"Content-Type": "application/x-ndjson"})

    def search(self) -> float:
        """Measure the seconds of a strong search, p50 of nine."""
        times = []
        for turn in range(9):
            began = time.perf_counter()
            text = f"message ct 'nothing {self._turn}-{turn}'"  # another one each time, which no event has
            self._ask("GET", f"/event?q={urllib.parse.quote(text)}", None, {})
            times.append(time.perf_counter() - began)
            self._turn += 1
        return statistics.median(times)

    def _ask(self, method: str, target: str, body: bytes | None, headers: dict[str, str]) -> None:
        with closing(http.client.HTTPConnection("127.0.0.1", self._port, timeout=120)) as client:
            client.request(method, target, body, headers)
            answer = client.getresponse()
            text = answer.read()
        if answer.status not in {200, 201}:
            sys.exit(f"{method}: {answer.status} {text[:300]!r}")


def measure(machine: Machine, events: int) -> tuple[Costs, float]:
    """Measure what an event costs in each part; give the CPU time of the client as well."""
    for _ in range(2 * events // BULK):  # warms up: Java takes a minute to compile Elasticsearch
        machine.requests.post()
    with machine.indexing():
        pass
    before, bytes_before = machine.cpu(), machine.bytes_of_the_log()
    for _ in range(events // BULK):
        machine.requests.post()
    storing = _since(before, machine.cpu())
    log_bytes = (machine.bytes_of_the_log() - bytes_before) / events
    behind = machine.requests.search()
    before = machine.cpu()
    with machine.indexing():
        began = machine.cpu()["indexer"]  # an indexer's start is no part of an event's cost
        machine.wait_for_the_index()
        indexing = _since(before | {"indexer": began}, machine.cpu())
        level = machine.requests.search()
    costs = Costs(
        api=storing["api"] / events,
        log=storing["log"] / events,
        reading=indexing["log"] / events,
        indexer=indexing["indexer"] / events,
        elasticsearch=indexing["elasticsearch"] / events,
        search=level,
        tail=max(0.0, behind - level) / events,
        log_bytes=log_bytes,
        index_bytes=machine.bytes_of_the_index() / (3 * events),
    )
    return costs, storing["client"] / events


def _since(before: dict[str, float], after: dict[str, float]) -> dict[str, float]:
    return {part: seconds - before.get(part, 0.0) for part, seconds in after.items()}


@dataclass(frozen=True, slots=True)
class Run:
    """A run on this machine: events behind when the load ends, and seconds until none is."""

    behind: float
    draining: float


def predict(costs: Costs, client: float, *, rate: float, seconds: float) -> Run:
    """Predict a run in which all parts share the processors of this machine, and the writers come first."""
    cores = os.cpu_count() or 1
    one = costs.indexer + costs.elasticsearch + costs.reading
    spare = max(0.0, cores - rate * (costs.api + costs.log + client))
    behind = max(0.0, rate - min(spare / one, 1 / costs.indexer)) * seconds
    return Run(behind, behind / min(cores / one, 1 / costs.indexer))


def observe(machine: Machine, *, rate: float, seconds: float) -> Run:
    """Post at this rate while an indexer runs."""
    with machine.indexing():
        while watermark.find_leader(machine.connection) is None:
            time.sleep(0.05)
        began = time.perf_counter()
        for turn in range(round(rate * seconds / BULK)):
            time.sleep(max(0.0, began + turn * BULK / rate - time.perf_counter()))
            machine.requests.post()
        ended, behind = time.perf_counter(), machine.lag()
        machine.wait_for_the_index()
        return Run(behind, time.perf_counter() - ended)


# ---- the report


def main() -> None:
    """Measure, check the model, simulate, and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=100_000, help="by which the costs are measured")
    parser.add_argument("--seconds", type=float, default=20.0, help="of load in the run that is predicted")
    parser.add_argument("--report", type=Path, help="document whose block between the simulate marks is replaced")
    options = parser.parse_args()
    configure_logging("console", "warning")
    with ExitStack() as stack:
        machine = Machine(stack)
        costs, client = measure(machine, options.events)
        fastest = 1 / (costs.indexer + costs.elasticsearch + costs.reading) * (os.cpu_count() or 1)
        checks = []
        for share in (0.75, 1.5):
            rate = fastest * share
            predicted = predict(costs, client, rate=rate, seconds=options.seconds)
            checks.append((rate, predicted, observe(machine, rate=rate, seconds=options.seconds)))
    lines = [
        f"`make simulate`, {time.strftime('%Y-%m-%d')}, measured on {os.cpu_count()} cores:",
        "",
        *_show_costs(costs),
        "",
        *_show_checks(checks, options.seconds),
        "",
        *_show_layouts(costs),
    ]
    print("\n".join(lines))
    if options.report:
        replace_block(options.report, "simulate", "\n".join(lines))


def _show_costs(costs: Costs) -> Iterator[str]:
    yield "| part | one event costs |"
    yield "| --- | --- |"
    for name in ("api", "log", "reading", "indexer", "elasticsearch"):
        yield f"| {_PARTS[name]} | {getattr(costs, name) * 1e6:.1f} µs of a core |"
    yield f"| a search | {costs.search * 1e3:.1f} ms, and {costs.tail * 1e9:.0f} ns for each event of the tail |"
    yield f"| bytes | {costs.log_bytes:,.0f} in PostgreSQL, {costs.index_bytes:,.0f} in Elasticsearch |"


_PARTS = {
    "api": f"the API, bulk requests of {BULK:,}",
    "log": "PostgreSQL, to store",
    "reading": "PostgreSQL, to give the event to the indexer",
    "indexer": "the indexer",
    "elasticsearch": "Elasticsearch",
}


def _show_checks(checks: list[tuple[float, Run, Run]], seconds: float) -> Iterator[str]:
    yield (
        f"| {seconds:.0f} s of load on this machine, events/s | behind at the end: model, real"
        " | seconds until searchable: model, real |"
    )
    yield "| --- | --- | --- |"
    for rate, model, real in checks:
        yield (f"| {rate:,.0f} | {model.behind:,.0f}, {real.behind:,.0f} | {model.draining:.1f}, {real.draining:.1f} |")


def _show_layouts(costs: Costs) -> Iterator[str]:
    yield (
        f"| layout for {A_DAY:,} events a day: cores of API, PostgreSQL, indexers, Elasticsearch | refused"
        " | longest tail | longest time until searchable | slowest search |"
    )
    yield "| --- | --- | --- | --- | --- |"
    for name, layout in LAYOUTS.items():
        day = simulate(layout, costs, curve(A_DAY))
        cores = f"{layout.api:.0f}, {layout.log:.0f}, {layout.indexers:.0f}, {layout.elasticsearch:.0f}"
        yield (
            f"| {name}: {cores} | {day.refused / A_DAY:.1%} | {day.longest_tail:,.0f} | {_duration(day.longest_wait)}"
            f" | {_duration(day.slowest_search)} |"
        )
    documents, size = A_DAY * RETAINED, A_DAY * RETAINED * costs.index_bytes
    shards = math.ceil(max(documents / SHARD_DOCUMENTS, size / SHARD_BYTES))
    yield ""
    yield (
        f"A month of {documents:,} events takes {size / 1e12:.0f} TB in Elasticsearch, {shards} shards, and"
        f" {documents * costs.log_bytes / 1e12:.0f} TB in PostgreSQL."
    )


def _duration(seconds: float) -> str:
    if seconds < 1:
        return f"{seconds * 1e3:.0f} ms"
    return f"{seconds:.0f} s" if seconds < 600 else f"{seconds / 3600:.1f} h"


if __name__ == "__main__":
    main()
