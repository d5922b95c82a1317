"""Take the primary of a cluster away under load, again and again, and see what is lost: ``make failover``.

Three PostgreSQLs under Patroni with three etcd servers; the service names each PostgreSQL in its DSN. Four writers send
single events, each with an Idempotency-Key, until each is acknowledged; ``eventsvc tail`` follows. After each round
every acknowledged event is in the log once, and the index is what the log says. Exit code 1 at the first fault.

With ``--asynchronous`` a COMMIT waits for no standby, so a failover may lose acknowledged events. They are counted, and
no search may show one of them: not by the log, not by the index, not by a cache.
"""

from __future__ import annotations

import argparse
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import uuid
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import urllib3

from eventsvc.admin.stores import open_stores
from eventsvc.admin.verify import list_months, verify
from eventsvc.dev.find import find_elasticsearch
from eventsvc.dev.server import free_port, wait_until_ready
from eventsvc.errors import EventsvcError
from eventsvc.log import schema
from eventsvc.log.connection import connect
from eventsvc.log.progress import watermark
from eventsvc.settings import load
from tests.acceptance.chaos_traffic import Wrong, say, wait_for
from tests.acceptance.failover_cluster import TTL, Cluster, Node
from tests.acceptance.failover_traffic import Traffic
from tests.integration.citus.load import read_events
from tests.report import replace_block

FAULTS = {
    "postgres": "PostgreSQL of the primary killed, Patroni alive",
    "node": "the whole node of the primary killed",
    "frozen": "the node of the primary frozen",
    "cut": "the primary cut off from everybody",
    "split": "the primary cut off from etcd and the other nodes, but not from clients",
    "etcd": "one of three etcd servers killed (the leader)",
    "etcds": "two of three etcd servers killed",
}


class World:
    """The cluster, the service, its indexer and one who follows."""

    def __init__(self, stack: ExitStack, *, synchronous: bool) -> None:
        self.stack = stack
        self.folder = Path(
            stack.enter_context(tempfile.TemporaryDirectory(prefix="failover-", ignore_cleanup_errors=True))
        )
        self.folder.chmod(0o755)
        self.cluster = Cluster(stack, self.folder, synchronous=synchronous)
        elasticsearch = find_elasticsearch(
            self.folder, say=say, url=os.environ.pop("EVENTSVC_TEST_ELASTICSEARCH_URL", ""), lasting=False
        )
        assert elasticsearch is not None, "this needs an Elasticsearch"
        stack.callback(elasticsearch.stop)
        elasticsearch.start()
        wait_until_ready(elasticsearch, timeout=240)
        self.settings = load(
            {},
            database_url=self.cluster.dsn,
            elasticsearch_url=elasticsearch.url,
            index_prefix=f"failover-{uuid.uuid4().hex[:6]}",
            port=free_port(),
        )
        self._migrate()
        self.url = f"http://127.0.0.1:{self.settings.port}"
        self.run("serve")
        self.run("index")
        self.run("tail", "--json", "--url", self.url, output=self.folder / "followed")
        wait_for(self._ready, "the service is not ready", 90)
        wait_for(self._follows, "nobody follows", 60)

    def _migrate(self) -> None:
        connection = connect(self.settings.database_url.get_secret_value())
        schema.migrate(connection)
        connection.close()

    def _ready(self) -> bool:
        with suppress(urllib3.exceptions.HTTPError):
            return urllib3.request("GET", f"{self.url}/readyz", timeout=2, retries=False).status == 200
        return False

    def _follows(self) -> bool:
        """Send events until the follower shows one: it may have come too early, and waits before it tries again."""
        event = {"email": "a@b.cd", "environment": "failover", "component": "first", "message": uuid.uuid4().hex}
        with suppress(urllib3.exceptions.HTTPError):
            urllib3.request("POST", f"{self.url}/event", json=event, timeout=10, retries=False)
        return bool(self.followed())

    def run(self, *command: str, output: Path | None = None) -> None:
        settings = self.settings
        environment = {name: value for name, value in os.environ.items() if not name.startswith("EVENTSVC_")} | {
            "EVENTSVC_DATABASE_URL": settings.database_url.get_secret_value(),
            "EVENTSVC_ELASTICSEARCH_URL": settings.elasticsearch_url,
            "EVENTSVC_INDEX_PREFIX": settings.index_prefix,
            "EVENTSVC_PORT": str(settings.port),
            "EVENTSVC_WORKERS": "1",
            "EVENTSVC_LOG_LEVEL": "warning",
        }
        with (output or self.folder / f"{command[0]}.log").open("wb") as file:
            errors = file if output is None else subprocess.DEVNULL
            process = subprocess.Popen(
                [sys.executable, "-m", "eventsvc", *command], stdout=file, stderr=errors, env=environment
            )
        self.stack.callback(process.wait)
        self.stack.callback(process.terminate)

    def wait_indexed(self, seq: int) -> None:
        """Wait until the index has everything up to a seq."""
        connection = connect(self.settings.database_url.get_secret_value())
        wait_for(lambda: watermark.read(connection).seq >= seq, "the index does not follow", 120)
        connection.close()

    def _get(self, path: str, query: str, **parameters: str) -> Any:
        def ask() -> Any:
            with suppress(urllib3.exceptions.HTTPError):
                answer = urllib3.request("GET", f"{self.url}{path}", fields={"q": query, **parameters}, timeout=60)
                return (answer.json(),) if answer.status == 200 else None
            return None

        return wait_for(ask, f"no answer to {path}?q={query}", 60)[0]

    def search(self, query: str, consistency: str) -> list[tuple[str, str]]:
        """Message and id of the newest thousand events."""
        shown = self._get("/event", query, consistency=consistency, limit="1000")
        return [(event["message"], event["id"]) for event in shown]

    def count(self, query: str) -> int:
        return int(self._get("/event/stats", query)["count"])

    def followed(self) -> list[tuple[str, str]]:
        """Message and id of each event that the stream has shown."""
        return [(event["message"], event["id"]) for event in read_events(self.folder / "followed")]


@dataclass(frozen=True, slots=True)
class Round:
    """One fault and what came of it.

    Attributes:
        gap: seconds in which no event was acknowledged.
        lost: acknowledged events that were lost.
        load: the load average of the machine afterwards.
    """

    fault: str
    gap: float
    lost: int
    load: float


def strike(cluster: Cluster, node: Node, fault: str) -> None:
    """Break the primary, or what keeps it primary; see FAULTS."""
    match fault:
        case "postgres":
            os.kill(node.postmaster(), signal.SIGKILL)
        case "node":
            node.stop()
        case "frozen":
            node.signal(signal.SIGSTOP)
        case "cut":
            node.clients.process.send_signal(signal.SIGSTOP)
            node.others.process.send_signal(signal.SIGSTOP)
        case "split":
            node.others.process.send_signal(signal.SIGSTOP)
        case "etcd":
            cluster.stop_etcds(1)
        case "etcds":
            cluster.stop_etcds(2)


def heal(cluster: Cluster, node: Node, fault: str) -> None:
    """Undo it."""
    if fault == "node":
        node.start()
    elif fault == "frozen":
        node.signal(signal.SIGCONT)
    cluster.start_etcds()
    for wire in (node.clients, node.others):
        wire.process.send_signal(signal.SIGCONT)


def play(world: World, traffic: Traffic, fault: str) -> float:
    """Strike, wait for the outcome, heal, wait until all is well; give the seconds without writes."""
    cluster = world.cluster
    wait_served(traffic, 50)
    struck = wait_for(cluster.primary, "no primary")
    began = time.monotonic()
    strike(cluster, struck, fault)
    if fault == "etcd":
        time.sleep(TTL + 5)
        if cluster.primary() is not struck:
            sys.exit("FAULT: the loss of one etcd server changed the primary")
    elif fault == "etcds":
        wait_for(cluster.has_no_primary, "somebody stays primary without etcd", 120)
        before = len(traffic.acknowledged)
        time.sleep(TTL + 5)
        if not cluster.has_no_primary() or len(traffic.acknowledged) > before:
            sys.exit("FAULT: there is a primary without etcd, or an event was acknowledged")
        heal(cluster, struck, fault)
        began = time.monotonic()  # so the seconds say how long the return takes
    else:
        wait_for(lambda: (now := cluster.primary()) is not None and now is not struck, "no other primary", 120)
    wait_served(traffic, 20)
    gap = traffic.longest_gap(began)
    heal(cluster, struck, fault)
    cluster.wait_whole()
    return gap


def wait_served(traffic: Traffic, count: int) -> None:
    """Wait until so many more events are acknowledged."""
    before = len(traffic.acknowledged)
    wait_for(lambda: len(traffic.acknowledged) > before + count, "nobody is served", 120)


def find_in_log(world: World) -> tuple[dict[str, list[str]], int]:
    """The ids of each message in the log, and the last seq."""
    connection = connect(world.settings.database_url.get_secret_value())
    with connection.cursor() as cursor:
        cursor.execute("SELECT message, array_agg(id::text), max(seq) FROM event WHERE component = 'writer' GROUP BY 1")
        rows = cursor.fetchall()
    connection.close()
    return {message: ids for message, ids, _ in rows}, max(seq for *_, seq in rows)


def check(world: World, traffic: Traffic, *, synchronous: bool) -> set[str]:
    """See that each acknowledged event is in the log once, and the index is what the log says; give what was lost."""
    with traffic.lock:
        acknowledged = dict(traffic.acknowledged)
    found, last = find_in_log(world)
    lost = {message for message, name in acknowledged.items() if name not in found.get(message, [])}
    doubled = [message for message, ids in found.items() if len(ids) > 1]
    if doubled or (lost and synchronous):
        sys.exit(f"FAULT: {len(lost)} acknowledged events lost, {len(doubled)} doubled")
    world.wait_indexed(last)
    with open_stores(world.settings) as stores:
        if not all(report.equal for report in verify(stores, list_months(stores.connection))):
            sys.exit("FAULT: the index is not what the log says")
    check_followed(world, {event for event in acknowledged.items() if event[0] not in lost}, synchronous=synchronous)
    return lost


def check_followed(world: World, acknowledged: set[tuple[str, str]], *, synchronous: bool) -> None:
    """See that the stream has shown each event of the log once."""
    with suppress(Wrong):
        wait_for(lambda: acknowledged <= set(world.followed()), "", 60)
    followed = world.followed()
    if missing := acknowledged.difference(followed):
        sys.exit(f"FAULT: the stream misses {len(missing)} of {len(acknowledged)} events")
    # Asynchronous: the stream may have shown an event that was lost, and that a writer has sent again.
    names = [message if synchronous else name for message, name in followed]
    if twice := len(names) - len(set(names)):
        sys.exit(f"FAULT: the stream showed {twice} events twice")


def check_searches(world: World, traffic: Traffic, lost: set[str]) -> None:
    """See that no search shows what was lost: the log, the index alone, a cache, or a count over both stores.

    The writers rest, so the log says how many events there are.
    """
    with traffic.resting():
        found, last = find_in_log(world)
        world.wait_indexed(last)
        for consistency in ("strong", "strong", "eventual"):  # the second answer may come from a cache
            shown = world.search("component eq 'writer'", consistency)
            if wrong := [name for message, name in shown if name not in found.get(message, [])]:
                sys.exit(f"FAULT: a search ({consistency}) shows {len(wrong)} events that the log does not have")
            for message in sorted(lost)[:20]:
                if world.search(f"message eq '{message}'", consistency):
                    sys.exit(f"FAULT: a search ({consistency}) shows a lost event")
        if (count := world.count("component eq 'writer'")) != sum(map(len, found.values())):
            sys.exit(f"FAULT: {count} events are counted, {sum(map(len, found.values()))} are in the log")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--faults", nargs="+", choices=FAULTS, default=list(FAULTS), help="only these, in turns")
    parser.add_argument("--asynchronous", action="store_true", help="COMMIT waits for no standby; count what is lost")
    parser.add_argument("--report", type=Path, help="the page whose table is to be written")
    asked = parser.parse_args()
    rounds: list[Round] = []
    with ExitStack() as stack:
        world = World(stack, synchronous=not asked.asynchronous)
        traffic = Traffic(world.url)
        for thread in traffic.threads:
            thread.start()
            stack.callback(thread.join)
        stack.callback(traffic.stopping.set)
        for number in range(asked.rounds):
            fault = asked.faults[number % len(asked.faults)]
            check_searches(world, traffic, set())  # fills the caches
            gap = play(world, traffic, fault)
            count = len(traffic.acknowledged)
            lost = check(world, traffic, synchronous=not asked.asynchronous)
            check_searches(world, traffic, lost)
            traffic.forget(lost)
            rounds.append(Round(fault, gap, len(lost), os.getloadavg()[0]))
            say(f"round {number + 1}: {fault}: {gap:.1f} s without writes; {count:,} acknowledged, {len(lost)} lost")
        text = describe(rounds, len(traffic.acknowledged))
    say(text)
    if asked.report:
        replace_block(asked.report, "failover", text)


def describe(rounds: list[Round], acknowledged: int) -> str:
    """Write the paragraph and the table of a run."""
    loads = [one.load for one in rounds]
    head = (
        f"`make failover ROUNDS={len(rounds)}`, {time.strftime('%Y-%m-%d')}, {os.cpu_count()} cores, everything on one "
        f"machine, load average between {min(loads):.0f} and {max(loads):.0f}: {acknowledged:,} events acknowledged, "
        f"{sum(one.lost for one in rounds)} lost:"
    )
    lines = [
        head,
        "",
        "| what happened | rounds | seconds in which no event was acknowledged: median | longest |",
        "| --- | --- | --- | --- |",
    ]
    for fault, words in FAULTS.items():
        if gaps := [one.gap for one in rounds if one.fault == fault]:
            lines.append(f"| {words} | {len(gaps)} | {statistics.median(gaps):.1f} | {max(gaps):.1f} |")
    return "\n".join(lines)


if __name__ == "__main__":
    try:
        main()
    except EventsvcError as exc:
        sys.exit(f"FAULT: {exc}")
