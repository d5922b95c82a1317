"""Kill the primary of a cluster under load, again and again, and see that nothing is lost: ``make failover``.

Three PostgreSQLs under Patroni, in synchronous mode, with etcd; the service names all three in its DSN. Four writers
send single events, each with an Idempotency-Key, until each is acknowledged; ``eventsvc tail`` follows. After each
round every acknowledged event is in the log once, and the index is what the log says. Exit code 1 at the first fault.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
import sysconfig
import tempfile
import threading
import time
import uuid
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import urllib3

from eventsvc.admin.stores import open_stores
from eventsvc.admin.verify import list_months, verify
from eventsvc.dev.account import give, named_uid
from eventsvc.dev.find import find_elasticsearch
from eventsvc.dev.postgres import binaries
from eventsvc.dev.server import free_port, wait_until_ready
from eventsvc.errors import EventsvcError
from eventsvc.log import schema
from eventsvc.log.connection import connect
from eventsvc.log.progress import watermark
from eventsvc.settings import load
from tests.acceptance.chaos_traffic import say, wait_for
from tests.acceptance.chaos_world import children

PASSWORD = uuid.uuid4().hex
AS_NOBODY = ["setpriv", "--reuid", "nobody", "--regid", "nogroup", "--clear-groups"] if named_uid() is not None else []
# PostgreSQL refuses root, and Patroni starts it as whoever it is itself, by an interpreter that this user can reach.
PYTHON = f"/usr/bin/python3.{sys.version_info.minor}" if AS_NOBODY else sys.executable
FAULTS = ("postgres", "node", "frozen")


class Node:
    """One Patroni and its PostgreSQL."""

    def __init__(self, number: int, folder: Path, etcd: int) -> None:
        self.name, self.port, self.rest = f"node{number}", free_port(), free_port()
        self.folder = folder / self.name
        self.folder.mkdir()
        self.file = self.folder / "patroni.json"  # JSON is YAML
        self.file.write_text(json.dumps(self._configuration(etcd)))
        give(self.folder, named_uid())
        self.process: subprocess.Popen[bytes] | None = None

    def _configuration(self, etcd: int) -> dict[str, Any]:
        who = {"username": "postgres", "password": PASSWORD}
        return {
            "scope": "events",
            "name": self.name,
            "restapi": {"listen": f"127.0.0.1:{self.rest}", "connect_address": f"127.0.0.1:{self.rest}"},
            "etcd3": {"host": f"127.0.0.1:{etcd}"},
            "bootstrap": {
                "dcs": {
                    "ttl": 20,
                    "loop_wait": 2,
                    "retry_timeout": 5,
                    "primary_start_timeout": 0,
                    "synchronous_mode": True,
                    "maximum_lag_on_failover": 0,
                    "postgresql": {"use_pg_rewind": True, "parameters": {"wal_log_hints": "on"}},
                },
                "initdb": [
                    {"encoding": "UTF8"},
                    {"locale": "C"},
                    {"locale-provider": "builtin"},
                    {"builtin-locale": "C.UTF-8"},
                ],
            },
            "postgresql": {
                "listen": f"127.0.0.1:{self.port}",
                "connect_address": f"127.0.0.1:{self.port}",
                "data_dir": str(self.folder / "data"),
                "bin_dir": str(binaries()),
                "authentication": {"superuser": who, "replication": who, "rewind": who},
                "parameters": {"unix_socket_directories": "", "max_connections": 100, "shared_buffers": "32MB"},
                "pg_hba": [
                    "host all all 127.0.0.1/32 scram-sha-256",
                    "host replication all 127.0.0.1/32 scram-sha-256",
                ],
                "remove_data_directory_on_rewind_failure": True,
                "remove_data_directory_on_diverged_timelines": True,
            },
        }

    def start(self) -> None:
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [*AS_NOBODY, PYTHON, "-m", "patroni", str(self.file)],
                stdout=log,
                stderr=log,
                start_new_session=True,
                env=os.environ | {"LC_ALL": "C", "HOME": str(self.folder), "PYTHONPATH": sysconfig.get_path("purelib")},
            )

    def state(self) -> tuple[str, str]:
        """Its role and state, by its own account."""
        with suppress(urllib3.exceptions.HTTPError, ValueError, KeyError):
            url = f"http://127.0.0.1:{self.rest}/patroni"
            answer = urllib3.request("GET", url, timeout=1, retries=False).json()
            return answer["role"], answer.get("replication_state") or answer["state"]
        return "", ""

    def postmaster(self) -> int:
        return int((self.folder / "data" / "postmaster.pid").read_text().split()[0])

    def everything(self) -> list[int]:
        """Process ids of Patroni, PostgreSQL and all their children."""
        pids = [self.process.pid, *children(self.process.pid)] if self.process else []
        with suppress(OSError, ValueError, IndexError):
            postmaster = self.postmaster()
            pids += [postmaster, *children(postmaster)]
        return pids

    def signal(self, which: int) -> None:
        for pid in self.everything():
            with suppress(ProcessLookupError):
                os.kill(pid, which)

    def stop(self) -> None:
        self.signal(signal.SIGKILL)
        if self.process:
            self.process.wait()


class Traffic:
    """Writers that send until acknowledged; what was acknowledged, and when."""

    def __init__(self, url: str) -> None:
        self.url, self.lock, self.stopping = url, threading.Lock(), threading.Event()
        self.acknowledged: dict[str, str] = {}
        self.times: list[float] = []
        self.threads = [threading.Thread(target=self._write) for _ in range(4)]

    def _write(self) -> None:
        http = urllib3.PoolManager()
        while not self.stopping.is_set():
            message = uuid.uuid4().hex
            event = {"email": "a@b.cd", "environment": "failover", "component": "writer", "message": message}
            headers = {"Idempotency-Key": f'"{message}"'}
            while not self.stopping.is_set():
                with suppress(urllib3.exceptions.HTTPError):
                    answer = http.request(
                        "POST", f"{self.url}/event", json=event, headers=headers, timeout=30, retries=False
                    )
                    if answer.status in {200, 201}:
                        with self.lock:
                            self.acknowledged[message] = answer.json()["id"]
                            self.times.append(time.monotonic())
                        break
                self.stopping.wait(0.05)

    def longest_gap(self, since: float) -> float:
        """Seconds in which nobody was acknowledged."""
        with self.lock:
            times = [since, *(at for at in self.times if at >= since)]
        return max((b - a for a, b in itertools.pairwise(times)), default=0.0)


class World:
    """The cluster, the service, its indexer and one who follows."""

    def __init__(self, stack: ExitStack) -> None:
        self.stack = stack
        self.folder = Path(
            stack.enter_context(tempfile.TemporaryDirectory(prefix="failover-", ignore_cleanup_errors=True))
        )
        self.folder.chmod(0o755)
        etcd = self._start_etcd()
        self.nodes = [Node(number, self.folder, etcd) for number in range(3)]
        for node in self.nodes:
            stack.callback(node.stop)
            node.start()
        self.wait_whole()
        elasticsearch = find_elasticsearch(
            self.folder, say=say, url=os.environ.pop("EVENTSVC_TEST_ELASTICSEARCH_URL", ""), lasting=False
        )
        assert elasticsearch is not None, "this needs an Elasticsearch"
        stack.callback(elasticsearch.stop)
        elasticsearch.start()
        wait_until_ready(elasticsearch, timeout=240)
        ports = ",".join(str(node.port) for node in self.nodes)
        dsn = (
            f"host=127.0.0.1,127.0.0.1,127.0.0.1 port={ports} user=postgres password={PASSWORD} dbname=postgres"
            " target_session_attrs=read-write"
        )
        self.settings = load(
            {},
            database_url=dsn,
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

    def _start_etcd(self) -> int:
        program = shutil.which("etcd")
        if program is None:
            sys.exit("this needs etcd: apt-get install etcd-server")
        client, peer = free_port(), free_port()
        urls = [
            "--listen-client-urls",
            f"http://127.0.0.1:{client}",
            "--advertise-client-urls",
            f"http://127.0.0.1:{client}",
        ]
        peers = f"http://127.0.0.1:{peer}"
        urls += [
            "--listen-peer-urls",
            peers,
            "--initial-advertise-peer-urls",
            peers,
            "--initial-cluster",
            f"default={peers}",
        ]
        with (self.folder / "etcd.log").open("wb") as log:
            process = subprocess.Popen(
                [program, "--data-dir", str(self.folder / "etcd"), *urls], stdout=log, stderr=log
            )
        self.stack.callback(process.wait)
        self.stack.callback(process.kill)
        return client

    def _migrate(self) -> None:
        connection = connect(self.settings.database_url.get_secret_value())
        schema.migrate(connection)
        connection.close()

    def _ready(self) -> bool:
        with suppress(urllib3.exceptions.HTTPError):
            return urllib3.request("GET", f"{self.url}/readyz", timeout=2, retries=False).status == 200
        return False

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

    def primary(self) -> Node | None:
        found = [node for node in self.nodes if node.state() == ("primary", "running")]
        return found[0] if len(found) == 1 else None

    def is_whole(self) -> bool:
        first, *others = sorted(node.state() for node in self.nodes)
        return first == ("primary", "running") and all(state == "streaming" for _, state in others)

    def wait_whole(self) -> None:
        wait_for(self.is_whole, "the cluster does not come back", 240)

    def followed(self) -> list[str]:
        lines = (self.folder / "followed").read_text().splitlines()
        return [json.loads(line)["message"] for line in lines if line.startswith("{")]


def strike(world: World, fault: str) -> Node:
    """Break the primary in one of three ways."""
    node: Node = wait_for(world.primary, "no primary")
    if fault == "postgres":
        os.kill(node.postmaster(), signal.SIGKILL)
    elif fault == "node":
        node.stop()
    else:
        node.signal(signal.SIGSTOP)
    return node


def heal(node: Node, fault: str) -> None:
    if fault == "node":
        node.start()
    elif fault == "frozen":
        node.signal(signal.SIGCONT)


def play(world: World, traffic: Traffic, fault: str) -> float:
    """Strike, wait until writers are served again, heal, wait until all is well; give the seconds without writes."""
    before = len(traffic.acknowledged)
    wait_for(lambda: len(traffic.acknowledged) > before + 50, "nobody writes", 60)
    began = time.monotonic()
    struck = strike(world, fault)
    wait_for(lambda: (now := world.primary()) is not None and now is not struck, "no other primary", 120)
    after = len(traffic.acknowledged)
    wait_for(lambda: len(traffic.acknowledged) > after + 20, "nobody is served", 120)
    gap = traffic.longest_gap(began)
    heal(struck, fault)
    world.wait_whole()
    return gap


def check(world: World, traffic: Traffic) -> int:
    """See that each acknowledged event is in the log once, and the index is what the log says."""
    with traffic.lock:
        acknowledged = dict(traffic.acknowledged)
    connection = connect(world.settings.database_url.get_secret_value())
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT message, array_agg(id::text), max(seq) FROM event WHERE environment = 'failover' GROUP BY 1"
        )
        found = {message: (ids, seq) for message, ids, seq in cursor}
    lost = [message for message, name in acknowledged.items() if found.get(message, ([], 0))[0] != [name]]
    doubled = [message for message, (ids, _) in found.items() if len(ids) > 1]
    if lost or doubled:
        sys.exit(f"FAULT: {len(lost)} acknowledged events lost or changed, {len(doubled)} doubled")
    last = max(seq for _, seq in found.values())
    wait_for(lambda: watermark.read(connection).seq >= last, "the index does not follow", 120)
    connection.close()
    with open_stores(world.settings) as stores:
        if not all(report.equal for report in verify(stores, list_months(stores.connection))):
            sys.exit("FAULT: the index is not what the log says")
    wait_for(lambda: set(acknowledged) <= set(world.followed()), "the stream misses events", 120)
    followed = world.followed()
    if len(followed) != len(set(followed)):
        sys.exit(f"FAULT: the stream showed {len(followed) - len(set(followed))} events twice")
    return len(acknowledged)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=6)
    rounds = parser.parse_args().rounds
    gaps: dict[str, list[float]] = {fault: [] for fault in FAULTS}
    with ExitStack() as stack:
        world = World(stack)
        traffic = Traffic(world.url)
        for thread in traffic.threads:
            thread.start()
            stack.callback(thread.join)
        stack.callback(traffic.stopping.set)
        for number in range(rounds):
            fault = FAULTS[number % len(FAULTS)]
            gap = play(world, traffic, fault)
            gaps[fault].append(gap)
            count = check(world, traffic)
            say(f"round {number + 1}: {fault}: {gap:.1f} s without writes; {count:,} acknowledged, all there once")
    for fault, seconds in gaps.items():
        if seconds:
            say(f"{fault}: p50 {statistics.median(seconds):.1f} s, max {max(seconds):.1f} s, {len(seconds)} rounds")


if __name__ == "__main__":
    try:
        main()
    except EventsvcError as exc:
        sys.exit(f"FAULT: {exc}")
