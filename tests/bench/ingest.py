"""Measure how fast events come in, beside what PostgreSQL alone can do: ``make bench-ingest``.

All in one run on one machine, in turns, so that the ratios mean something when the figures move. Prints a table
in Markdown for docs/ingest.md. Durable: fsync is on.
"""

from __future__ import annotations

import argparse
import http.client
import io
import json
import os
import resource
import statistics
import sys
import time
import uuid
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from psycopg2.extensions import make_dsn

from eventsvc.access.rights import Right
from eventsvc.access.store import Wanted, create
from eventsvc.dev.postgres import LocalPostgres
from eventsvc.log import schema
from eventsvc.log.connection import Connection, connect
from tests.bench import http_load
from tests.bench.postgres import EVENT, pgbench, running_postgres
from tests.bench.service import Service, running_dev, wait_for_the_index
from tests.report import replace_block

COUNTS, BULK = (1, 8, 64), 100_000  # connections; events
MOST = COUNTS[-1]
ONE_BY_ONE = """
import os, tempfile
os.environ["PROMETHEUS_MULTIPROC_DIR"] = tempfile.mkdtemp()
from eventsvc.log.write import writer
writer._GROUP = 1
from eventsvc.cli import main
import sys
sys.argv = ["eventsvc", "serve"]
main()
"""


def main() -> None:
    """Run everything and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=4.0, help="of each single measurement")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--report", type=Path, help="document whose block between the bench-ingest marks is replaced")
    options = parser.parse_args()
    with running_postgres() as (server, programs):
        connection = connect(server.url)
        schema.migrate(connection)
        results = _measure_singles(connection, server, programs, options.seconds, options.rounds)
        results |= _measure_bulks(connection, server, options.rounds)
        connection.close()
        results |= _measure_everything(programs, options.seconds, options.rounds)
    table = _render(results)
    print(table)
    if options.report:
        _write(options.report, table)


@dataclass
class _Result:
    """A figure for each round of one kind of load: events a second, CPU time an event in all processes, p50 and p99."""

    rates: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)
    latencies: list[tuple[float, float]] = field(default_factory=list)
    memory: float = 0.0

    def add(self, rate: float, cpu: float = 0.0) -> None:
        """Take the figures of one round."""
        self.rates.append(rate)
        self.cpu.append(cpu)


Results = dict[str, _Result]


def _cpu(*roots: int | None) -> float:
    """CPU seconds of these processes, of their children, and of our own."""
    ticks = 0
    for root in roots:
        for pid in [root, *_children(root)]:
            with suppress(OSError):
                fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
                ticks += sum(map(int, fields[11:15] if pid == root else fields[11:13]))
    own = resource.getrusage(resource.RUSAGE_SELF)
    ended = resource.getrusage(resource.RUSAGE_CHILDREN)
    return ticks / os.sysconf("SC_CLK_TCK") + own.ru_utime + own.ru_stime + ended.ru_utime + ended.ru_stime


def _children(pid: int | None) -> list[int]:
    with suppress(OSError):
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii").split()]
    return []


def _measure_singles(
    connection: Connection, server: LocalPostgres, programs: Path, seconds: float, rounds: int
) -> Results:
    key, guarded, second = _make_database_with_a_key(connection, server.url)
    address = {"EVENTSVC_DATABASE_URL": server.url}
    with (
        Service(address, "-m", "eventsvc", "serve") as grouped,
        Service(address, "-c", ONE_BY_ONE) as single,
        Service({"EVENTSVC_DATABASE_URL": guarded}, "-m", "eventsvc", "serve") as keyed,
    ):
        turns = [_Turn(f"post {count}", grouped, count) for count in COUNTS]
        turns += [_Turn("post one by one", single, MOST), _Turn("post with a key", keyed, MOST, key)]
        results = {turn.name: _Result() for turn in turns} | {f"pgbench {count}": _Result() for count in COUNTS}
        for turn in turns:
            _post(turn, 1.0)
        for _ in range(rounds):
            for count in COUNTS:
                _empty(connection)
                before = _cpu(server.pid)
                rate = pgbench(server.url, programs, count, seconds)
                results[f"pgbench {count}"].add(rate, (_cpu(server.pid) - before) / (rate * seconds))
                for turn in turns:
                    if turn.connections == count:
                        _empty(second if turn.key else connection)
                        _measure(turn, results, seconds, server.pid)
        for turn in turns:
            results[turn.name].memory = turn.service.highest_memory()
    second.close()
    return results


@dataclass(frozen=True)
class _Turn:
    """One kind of load of single events."""

    name: str
    service: Service
    connections: int
    key: str = ""


def _post(turn: _Turn, seconds: float) -> http_load.Load:
    body = json.dumps(EVENT, separators=(",", ":")).encode()
    fields = f"Authorization: Bearer {turn.key}\r\n" if turn.key else ""
    port, count = turn.service.port, turn.connections
    return http_load.post("127.0.0.1", port, body, connections=count, seconds=seconds, fields=fields)


def _measure(turn: _Turn, results: Results, seconds: float, *servers: int | None) -> None:
    before = _cpu(*servers, turn.service.pid)
    load = _post(turn, seconds)
    results[turn.name].add(load.rate, (_cpu(*servers, turn.service.pid) - before) / load.requests)
    results[turn.name].latencies.append((load.percentile(0.5), load.percentile(0.99)))


def _make_database_with_a_key(connection: Connection, url: str) -> tuple[str, str, Connection]:
    """Give a key that may write, and the URL of a second database that asks for it, with a connection."""
    with connection.cursor() as cursor:
        cursor.execute("CREATE DATABASE guarded")
    guarded = make_dsn(url, dbname="guarded")
    second = connect(guarded)
    schema.migrate(second)
    made = create(second, Wanted("bench", [Right.WRITE]))
    return made.text, guarded, second


def _measure_everything(programs: Path, seconds: float, rounds: int) -> Results:
    """POST and pgbench in turns while `eventsvc dev` runs all servers; each turn begins with an index that is equal."""
    results = {f"{name} {count}": _Result() for count in COUNTS for name in ("all post", "all pgbench")}
    with running_dev() as (dev, variables):
        url = variables["EVENTSVC_DATABASE_URL"]
        for _ in range(rounds):
            for count in COUNTS:
                wait_for_the_index(dev)
                results[f"all pgbench {count}"].add(pgbench(url, programs, count, seconds))
                wait_for_the_index(dev)
                _measure(_Turn(f"all post {count}", dev, count), results, seconds)
    return results


def _empty(connection: Connection) -> None:
    with connection.cursor() as cursor:
        cursor.execute("TRUNCATE event; CHECKPOINT")


def _measure_bulks(connection: Connection, server: LocalPostgres, rounds: int) -> Results:
    events = [EVENT | {"message": f"the buyer #{n} has placed an order of 12 boxes"} for n in range(BULK)]
    body = b"\n".join(json.dumps(event, separators=(",", ":")).encode() for event in events)
    results = {"COPY": _Result(), "bulk": _Result()}
    with Service({"EVENTSVC_DATABASE_URL": server.url}, "-m", "eventsvc", "serve") as service:
        for _ in range(rounds):
            for name, work in (("COPY", _copy(connection, events)), ("bulk", _post_bulk(service.port, body))):
                _empty(connection)
                before, began = _cpu(server.pid, service.pid), time.perf_counter()
                work()
                results[name].rates.append(BULK / (time.perf_counter() - began))
                results[name].cpu.append((_cpu(server.pid, service.pid) - before) / BULK)
        results["bulk"].memory = service.highest_memory()
    return results


def _copy(connection: Connection, events: list[dict[str, Any]]) -> Callable[[], None]:
    now = time.strftime("%Y-%m-%d %H:%M:%S+00", time.gmtime())
    text = "".join(
        "\t".join([str(uuid.uuid4()), now, *map(str, list(event.values())[:4]), json.dumps(event["data"])]) + "\n"
        for event in events
    )
    source = io.StringIO(text)
    columns = "id, created_at, email, environment, component, message, data"

    def run() -> None:
        with connection.cursor() as cursor:
            cursor.copy_expert(f"COPY event ({columns}) FROM STDIN", source, 256 * 1024)

    return run


def _post_bulk(port: int, body: bytes) -> Callable[[], None]:
    def run() -> None:
        client = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
        client.request("POST", "/event", body, {"Content-Type": "application/x-ndjson"})
        answer = client.getresponse()
        if answer.status != 201:
            sys.exit(f"bulk: {answer.status} {answer.read()[:300]!r}")
        answer.read()
        client.close()

    return run


def _render(results: Results) -> str:
    rows = []
    for count in COUNTS:
        rows += [
            (f"pgbench, one-row INSERTs, {count} clients", f"pgbench {count}", ""),
            (f"POST /event, one event, {count} connections, 2 workers", f"post {count}", f"pgbench {count}"),
        ]
    rows += [
        (f"the same, {MOST} connections, with a key", "post with a key", f"post {MOST}"),
        (f"the same, {MOST} connections, with a commit per request", "post one by one", f"post {MOST}"),
    ]
    for count in COUNTS:
        rows += [
            (f"everything running: pgbench, {count} clients", f"all pgbench {count}", ""),
            (f"everything running: POST /event, {count} connections", f"all post {count}", f"all pgbench {count}"),
        ]
    rows += [
        (f"COPY of {BULK:,} rows", "COPY", ""),
        (f"POST /event, NDJSON of {BULK:,} events", "bulk", "COPY"),
    ]
    lines = [
        "| what | events/s (each round) | ratio to | p50, p99 | CPU an event, all processes | memory of a worker |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for label, name, base in rows:
        result = results[name]
        each = ", ".join(f"{value:,.0f}" for value in result.rates)
        rate = statistics.median(result.rates)
        ratio = f"{rate / statistics.median(results[base].rates):.2f} {base.rpartition(' ')[0] or base}" if base else ""
        times = ", ".join(f"{statistics.median(column) * 1e3:.1f}" for column in zip(*result.latencies, strict=True))
        cpu = f"{statistics.median(result.cpu) * 1e6:.0f} µs" if any(result.cpu) else ""
        memory = f"{result.memory:.0f} MiB" if result.memory else ""
        lines.append(f"| {label} | {rate:,.0f} ({each}) | {ratio} | {times}{' ms' * bool(times)} | {cpu} | {memory} |")
    return "\n".join(lines)


def _write(document: Path, table: str) -> None:
    today = time.strftime("%Y-%m-%d", time.gmtime())
    head = f"`make bench-ingest`, {today}, {os.cpu_count()} cores, one run, fsync on:"
    replace_block(document, "bench-ingest", f"{head}\n\n{table}")


if __name__ == "__main__":
    main()
