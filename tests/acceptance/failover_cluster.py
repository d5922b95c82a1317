"""Three PostgreSQLs under Patroni, with etcd, as processes of this machine: the cluster of failover.py."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import sysconfig
import uuid
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import urllib3

from eventsvc.dev.account import give, named_uid
from eventsvc.dev.postgres import binaries
from eventsvc.dev.server import free_port
from tests.acceptance.chaos_traffic import wait_for
from tests.acceptance.chaos_world import children

TTL = 20  # seconds: the shortest that Patroni allows
PASSWORD = uuid.uuid4().hex
AS_NOBODY = ["setpriv", "--reuid", "nobody", "--regid", "nogroup", "--clear-groups"] if named_uid() is not None else []
# PostgreSQL refuses root, and Patroni starts it as whoever it is itself, by an interpreter that this user can reach.
PYTHON = f"/usr/bin/python3.{sys.version_info.minor}" if AS_NOBODY else sys.executable


class Wire:
    """Ports that lead to other ports, until somebody cuts them off."""

    def __init__(self, *targets: int) -> None:
        self.ports = [free_port() for _ in targets]
        pairs = [f"{port}:{target}" for port, target in zip(self.ports, targets, strict=True)]
        self.process = subprocess.Popen([sys.executable, str(Path(__file__).with_name("failover_wire.py")), *pairs])

    def stop(self) -> None:
        self.process.kill()
        self.process.wait()


class Node:
    """One Patroni and its PostgreSQL, and two wires: one to clients, one to etcd and the other nodes.

    Attributes:
        client_port: where clients reach PostgreSQL.
    """

    def __init__(self, number: int, folder: Path, etcds: list[Etcd], *, synchronous: bool) -> None:
        self.name, self.port, self.rest = f"node{number}", free_port(), free_port()
        self.clients, self.others = Wire(self.port), Wire(self.port, self.rest, *(etcd.port for etcd in etcds))
        (self.client_port,) = self.clients.ports
        self.folder = folder / self.name
        self.folder.mkdir()
        self.file = self.folder / "patroni.json"  # JSON is YAML
        self.file.write_text(json.dumps(self._configuration(synchronous=synchronous)))
        give(self.folder, named_uid())
        self.process: subprocess.Popen[bytes] | None = None

    def _configuration(self, *, synchronous: bool) -> dict[str, Any]:
        port, rest, *etcds = self.others.ports
        who = {"username": "postgres", "password": PASSWORD}
        return {
            "scope": "events",
            "name": self.name,
            "restapi": {"listen": f"127.0.0.1:{self.rest}", "connect_address": f"127.0.0.1:{rest}"},
            # etcd must not name its own addresses, which no wire leads to.
            "etcd3": {"hosts": [f"127.0.0.1:{port}" for port in etcds], "use_proxies": True},
            "bootstrap": {
                "dcs": {
                    "ttl": TTL,
                    "loop_wait": 2,
                    "retry_timeout": 5,
                    "primary_start_timeout": 0,
                    "synchronous_mode": synchronous,
                    # Asynchronous: a standby takes over however much it lacks.
                    "maximum_lag_on_failover": 0 if synchronous else 1 << 40,
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
                "connect_address": f"127.0.0.1:{port}",
                "data_dir": str(self.folder / "data"),
                "bin_dir": str(binaries()),
                "authentication": {"superuser": who, "replication": who, "rewind": who},
                "basebackup": [{"checkpoint": "fast"}],
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

    def leave(self) -> None:
        """Stop everything, the wires too."""
        self.stop()
        self.clients.stop()
        self.others.stop()


class Etcd:
    """One of the etcd servers.

    Attributes:
        port: where Patroni reaches the server.
    """

    def __init__(self, name: str, folder: Path) -> None:
        self.name, self.port = name, free_port()
        self.peer = f"http://127.0.0.1:{free_port()}"
        self.url = f"http://127.0.0.1:{self.port}"
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, servers: list[Etcd]) -> None:
        """Start the server as a member of a cluster of these servers, with the data that it has."""
        program = shutil.which("etcd")
        if program is None:
            sys.exit("this needs etcd: apt-get install etcd-server")
        urls = {"client-urls": self.url, "peer-urls": self.peer}
        with (self._folder / f"{self.name}.log").open("ab") as log:
            self._process = subprocess.Popen(
                [
                    program,
                    f"--name={self.name}",
                    f"--data-dir={self._folder / self.name}",
                    *(f"--listen-{name}={url}" for name, url in urls.items()),
                    f"--advertise-client-urls={self.url}",
                    f"--initial-advertise-peer-urls={self.peer}",
                    f"--initial-cluster={','.join(f'{one.name}={one.peer}' for one in servers)}",
                ],
                stdout=log,
                stderr=log,
            )

    def stop(self) -> None:
        """Kill the server."""
        if self._process:
            self._process.kill()
            self._process.wait()

    def leads(self) -> bool:
        """Tell whether the server is the leader of the cluster, by its own account."""
        with suppress(urllib3.exceptions.HTTPError, ValueError, KeyError):
            url = f"{self.url}/v3/maintenance/status"
            answer = urllib3.request("POST", url, json={}, timeout=1, retries=False).json()
            return bool(answer["leader"] == answer["header"]["member_id"])
        return False


class Cluster:
    """Three nodes and three etcd servers."""

    def __init__(self, stack: ExitStack, folder: Path, *, synchronous: bool) -> None:
        self.etcds = [Etcd(f"etcd{number}", folder) for number in range(3)]
        self.stopped_etcds: list[Etcd] = []
        for etcd in self.etcds:
            stack.callback(etcd.stop)
            etcd.start(self.etcds)
        wait_for(lambda: any(etcd.leads() for etcd in self.etcds), "etcd does not start", 60)
        self.nodes = []
        for number in range(3):
            node = Node(number, folder, self.etcds, synchronous=synchronous)
            stack.callback(node.leave)
            self.nodes.append(node)
            node.start()
        self.wait_whole()

    @property
    def dsn(self) -> str:
        ports = ",".join(str(node.client_port) for node in self.nodes)
        return (
            f"host=127.0.0.1,127.0.0.1,127.0.0.1 port={ports} user=postgres password={PASSWORD} dbname=postgres"
            " target_session_attrs=read-write"
        )

    def primary(self) -> Node | None:
        """The one primary; None while there is none, or while there seem to be two."""
        found = [node for node in self.nodes if node.state() == ("primary", "running")]
        return found[0] if len(found) == 1 else None

    def has_no_primary(self) -> bool:
        """Tell whether every node says that it is not the primary, or says nothing."""
        return all(node.state()[0] != "primary" for node in self.nodes)

    def stop_etcds(self, count: int) -> None:
        """Kill so many etcd servers, the leader first."""
        for etcd in sorted(self.etcds, key=Etcd.leads, reverse=True)[:count]:
            etcd.stop()
            self.stopped_etcds.append(etcd)

    def start_etcds(self) -> None:
        """Start the etcd servers that were killed."""
        while self.stopped_etcds:
            self.stopped_etcds.pop().start(self.etcds)

    def is_whole(self) -> bool:
        first, *others = sorted(node.state() for node in self.nodes)
        return first == ("primary", "running") and all(state == "streaming" for _, state in others)

    def wait_whole(self) -> None:
        wait_for(self.is_whole, "the cluster does not come back", 240)
