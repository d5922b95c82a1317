"""The service as a process of its own, to be measured from outside; alone, or with servers of its own."""

from __future__ import annotations

import http.client
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

from eventsvc import connection_file


class Service:
    """Runs ``python ARGUMENTS`` with these settings, on a free port, and waits until it answers."""

    def __init__(self, settings: dict[str, str], *arguments: str) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = int(probe.getsockname()[1])
        environment = {name: text for name, text in os.environ.items() if not name.startswith("EVENTSVC_")}
        environment |= {"EVENTSVC_PORT": str(self.port), "EVENTSVC_LOG_LEVEL": "error"} | settings
        self._process = subprocess.Popen([sys.executable, *arguments], env=environment)
        deadline = time.monotonic() + 180  # `dev` starts Elasticsearch
        while not self._answers():
            if time.monotonic() > deadline:
                sys.exit("the service does not start")
            time.sleep(0.1)

    @property
    def pid(self) -> int:
        """The process id of gunicorn's master."""
        return self._process.pid

    def _answers(self) -> bool:
        with closing(http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)) as connection, suppress(OSError):
            connection.request("GET", "/healthz")
            return connection.getresponse().status == 200
        return False

    def highest_memory(self) -> float:
        """The most memory a worker ever had, in MiB."""
        children = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children").read_text(encoding="ascii")
        texts = [Path(f"/proc/{pid}/status").read_text(encoding="ascii") for pid in children.split()]
        return max(int(kib) / 1024 for text in texts for kib in re.findall(r"VmHWM:\s+(\d+) kB", text))

    def __enter__(self) -> Service:  # noqa: PYI034
        return self

    def __exit__(self, *_: object) -> None:
        self._process.send_signal(signal.SIGTERM)
        self._process.wait(60)


@contextmanager
def running_dev() -> Iterator[tuple[Service, dict[str, str]]]:
    """Start ``eventsvc dev`` with local servers and an empty log; give it and the variables of its connection file."""
    with (
        tempfile.TemporaryDirectory(prefix="eventsvc-bench-", ignore_cleanup_errors=True) as folder,
        Service({"EVENTSVC_DATA": folder, "EVENTSVC_DEV_SERVERS": "local"}, "-m", "eventsvc", "dev") as dev,
    ):
        Path(folder).chmod(0o711)
        deadline = time.monotonic() + 60
        while not (Path(folder) / "connection").exists():  # the API answers before the file is written
            if time.monotonic() > deadline:
                sys.exit("the development server writes no connection file")
            time.sleep(0.1)
        yield dev, connection_file.read(folder)


def wait_for_the_index(service: Service, *, seconds: float = 300.0) -> None:
    """Wait until the index holds every event."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        with closing(http.client.HTTPConnection("127.0.0.1", service.port, timeout=60)) as client:
            client.request("GET", "/event?limit=1")
            answer = client.getresponse()
            if answer.getheader("Eventsvc-Lag") == "0" and answer.getheader("Eventsvc-Source") != "sql":
                return
        time.sleep(0.5)
    sys.exit("the index does not catch up")
