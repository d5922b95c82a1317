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
import re
import resource
import statistics
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import http_load
from service import Service

from eventsvc.dev.postgres import LocalPostgres, binaries
from eventsvc.dev.server import wait_until_ready
from eventsvc.log import schema
from eventsvc.log.connection import Connection, connect

EVENT = {
    "email": "diego@chefhero.com",
    "environment": "production",
    "component": "buyer-api",
    "message": "the buyer #123456 has placed an order of 12 boxes",
    "data": {"order_id": 123456, "amount": 300.5, "tags": ["a", "b7"]},
}
CONNECTIONS, CLIENTS, BULK = 64, 32, 100_000
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
    with _postgres() as (server, programs):
        connection = connect(server.url)
        schema.migrate(connection)
        singles = _measure_singles(connection, server, programs, options.seconds, options.rounds)
        bulks = _measure_bulks(connection, server, options.rounds)
        connection.close()
    table = _render(singles | bulks)
    print(table)
    if options.report:
        _write(options.report, table)


@contextmanager
def _postgres() -> Iterator[tuple[LocalPostgres, Path]]:
    programs = binaries()
    if programs is None:
        sys.exit("pip install eventsvc[local]")
    with tempfile.TemporaryDirectory(prefix="eventsvc-bench-", ignore_cleanup_errors=True) as name:
        Path(name).chmod(0o711)
        server = LocalPostgres(Path(name) / "postgres", log=Path(name) / "log", programs=programs)
        server.start()
        try:
            wait_until_ready(server, timeout=60)
            yield server, programs
        finally:
            server.stop()


@dataclass
class _Result:
    """Of one kind of load: events a second in each round, CPU time an event in all processes, memory of a worker."""

    rates: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)
    memory: float = 0.0


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
    body = json.dumps(EVENT, separators=(",", ":")).encode()
    results = {"pgbench": _Result(), "post": _Result(), "post one by one": _Result()}
    latencies: list[float] = []
    with (
        Service({"EVENTSVC_DATABASE_URL": server.url}, "-m", "eventsvc", "serve") as grouped,
        Service({"EVENTSVC_DATABASE_URL": server.url}, "-c", ONE_BY_ONE) as single,
    ):
        services = {"post": grouped, "post one by one": single}
        for service in services.values():
            http_load.post("127.0.0.1", service.port, body, connections=CONNECTIONS, seconds=1.0)
        for _ in range(rounds):
            _empty(connection)
            before = _cpu(server.pid)
            rate = _pgbench(server.url, programs, seconds)
            results["pgbench"].rates.append(rate)
            results["pgbench"].cpu.append((_cpu(server.pid) - before) / (rate * seconds))
            for name, service in services.items():
                _empty(connection)
                before = _cpu(server.pid, service.pid)
                load = http_load.post("127.0.0.1", service.port, body, connections=CONNECTIONS, seconds=seconds)
                results[name].cpu.append((_cpu(server.pid, service.pid) - before) / load.requests)
                results[name].rates.append(load.rate)
                if name == "post":
                    latencies += [load.percentile(0.5), load.percentile(0.99)]
        for name, service in services.items():
            results[name].memory = service.highest_memory()
    print(f"POST: p50 {min(latencies[::2]) * 1e3:.1f} ms, p99 {min(latencies[1::2]) * 1e3:.1f} ms", file=sys.stderr)
    return results


def _empty(connection: Connection) -> None:
    with connection.cursor() as cursor:
        cursor.execute("TRUNCATE event; CHECKPOINT")


def _pgbench(url: str, programs: Path, seconds: float) -> float:
    values = ", ".join(f"'{text}'" for text in [*list(EVENT.values())[:4], json.dumps(EVENT["data"])])
    statement = (
        f"INSERT INTO event (id, email, environment, component, message, data) VALUES (gen_random_uuid(), {values});\n"
    )
    with tempfile.NamedTemporaryFile("w", suffix=".sql") as script:
        script.write(statement)
        script.flush()
        command = [programs / "pgbench", "-n", "-f", script.name, "-c", str(CLIENTS), "-j", "2"]
        done = subprocess.run(
            [*command, "-T", str(round(seconds)), url], check=True, capture_output=True, text=True
        ).stdout
    match = re.search(r"tps = ([\d.]+)", done)
    return float(match[1]) if match else 0.0


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


def _copy(connection: Connection, events: list[dict[str, object]]) -> Callable[[], None]:
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
    rows = [
        (f"pgbench, one-row INSERTs, {CLIENTS} clients", "pgbench", "", ""),
        (f"POST /event, one event, {CONNECTIONS} connections, 2 workers", "post", "pgbench", "≥ 0.8"),
        ("the same with a commit per request", "post one by one", "pgbench", ""),
        (f"COPY of {BULK:,} rows", "COPY", "", ""),
        (f"POST /event, NDJSON of {BULK:,} events", "bulk", "COPY", "≥ 0.6"),
    ]
    lines = [
        "| what | events/s (each round) | ratio | to reach | CPU an event, all processes | most memory of a worker |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for label, name, base, limit in rows:
        result = results[name]
        each = ", ".join(f"{value:,.0f}" for value in result.rates)
        rate = statistics.median(result.rates)
        ratio = f"{rate / statistics.median(results[base].rates):.2f}" if base else ""
        cpu = f"{statistics.median(result.cpu) * 1e6:.0f} µs"
        memory = f"{result.memory:.0f} MiB" if result.memory else ""
        lines.append(f"| {label} | {rate:,.0f} ({each}) | {ratio} | {limit} | {cpu} | {memory} |")
    return "\n".join(lines)


def _write(document: Path, table: str) -> None:
    text = document.read_text(encoding="utf-8")
    today = time.strftime("%Y-%m-%d", time.gmtime())
    head = f"`make bench-ingest`, {today}, {os.cpu_count()} cores, one run, fsync on:"
    block = f"<!-- bench-ingest -->\n{head}\n\n{table}\n<!-- /bench-ingest -->"
    new = re.sub("<!-- bench-ingest -->.*<!-- /bench-ingest -->", lambda _: block, text, flags=re.DOTALL)
    document.write_text(new, encoding="utf-8")


if __name__ == "__main__":
    main()
