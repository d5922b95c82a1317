"""The compose file, brought up under a name and a port of its own, seen from outside."""

from __future__ import annotations

import json
import os
import secrets
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import requests

ROOT = Path(__file__).parents[2]
# Images without which nothing can be tested; Kibana, Prometheus and Grafana are brought up only where they can be had.
NEEDED = ("nginx", "indexer")
SERVICES = ("postgres", "elasticsearch", "api", "indexer", "nginx")
EXTRA = ("kibana", "prometheus", "grafana")
# As docs/deployment.md says.
SHOW_KEY = ("run", "--rm", "--no-deps", "--entrypoint", "cat", "migrate", "/run/keys/admin_key")


def say(line: str) -> None:
    print(line, file=sys.__stderr__, flush=True)


def run(*command: str, check: bool = True, timeout: float = 300, **options: Any) -> str:
    """Run a program; give what it printed. A failure shows what it said."""
    done: subprocess.CompletedProcess[str] = subprocess.run(
        command, capture_output=True, text=True, timeout=timeout, check=False, cwd=ROOT, **options
    )
    if check and done.returncode:
        raise AssertionError(
            f"{' '.join(command)}: exit {done.returncode}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
        )
    return done.stdout


def wait_for(condition: Callable[[], Any], seconds: float, what: str) -> Any:
    """Poll until a condition holds; give its value."""
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < deadline, f"not within {seconds:.0f} s: {what}"
        time.sleep(0.2)
    return value


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def missing_engine() -> str:
    """Why nothing can be run in containers here; empty if it can."""
    try:
        run("docker", "version", timeout=30)
        run("docker", "compose", "version", timeout=30)
    except (FileNotFoundError, AssertionError, subprocess.TimeoutExpired):
        return "no Docker engine with compose answers"
    images = {image for image in all_images() if not image.startswith("eventsvc:")}
    images = {image for image in images if not any(name in image for name in EXTRA)}
    lacking = [image for image in sorted(images | {"python:3.13-slim"}) if not can_have(image)]
    return f"these images are not here and cannot be pulled: {', '.join(lacking)}" if lacking else ""


def all_images() -> list[str]:
    return run("docker", "compose", "--profile", "*", "config", "--images").split()


def can_have(image: str) -> bool:
    """Whether an image is here or can be pulled."""
    for command in (("docker", "image", "inspect", image), ("docker", "pull", "-q", image)):
        try:
            run(*command, timeout=600)
        except (AssertionError, subprocess.TimeoutExpired):
            continue
        return True
    return False


def build(tag: str, *, folder: str = ".", target: str = "") -> None:
    """Build an image of ours. Where builds have no network of their own, DOCKER_BUILD_OPTIONS says what to do."""
    revision = run("git", "rev-parse", "HEAD", check=False).strip() or "unknown"
    options = os.environ.get("DOCKER_BUILD_OPTIONS", "--network host").split()
    run(
        "docker",
        "buildx",
        "build",
        "--load",
        *options,
        "--build-arg",
        f"REVISION={revision}",
        *(("--target", target) if target else ()),
        "-t",
        tag,
        folder,
        timeout=900,
    )


class Stack:
    """One project of compose: docker-compose.yml, and the files that are added to it."""

    def __init__(self, image: str, *added: str, **variables: str) -> None:
        files = ("docker-compose.yml", *added)
        self._command = ("docker", "compose", *(part for file in files for part in ("-f", file)))
        self.project = f"evtest-{secrets.token_hex(4)}"
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._environment = os.environ | {
            "API_IMAGE": image,
            "API_PUBLISH": f"127.0.0.1:{self.port}",
            "KIBANA_PUBLISH": f"127.0.0.1:{free_port()}",
            "ELASTICSEARCH_HEAP": "512m",
            **variables,
        }
        self.logs_of_the_past: list[str] = []
        self._key = ""

    def compose(self, *arguments: str, timeout: float = 300, **options: Any) -> str:
        return run(*self._command, "-p", self.project, *arguments, timeout=timeout, env=self._environment, **options)

    def up(self, *services: str) -> None:
        """Start what is needed for these services, in order of health."""
        self.compose("up", "-d", "--no-build", "--wait", *(services or NEEDED), timeout=600)

    def down(self, *options: str) -> None:
        self.logs_of_the_past.append(self.logs())
        self.compose("down", "--remove-orphans", "--timeout", "30", *options)
        self._key = ""

    def logs(self) -> str:
        return self.compose("logs", "--no-color")

    def containers(self, service: str) -> list[str]:
        return self.compose("ps", "-q", service).split()

    def admin(self, *arguments: str, timeout: float = 300) -> str:
        return self.compose("exec", "-T", "api", "eventsvc", "admin", *arguments, timeout=timeout)

    def is_healthy(self, container: str) -> bool:
        state = json.loads(run("docker", "inspect", "-f", "{{json .State}}", container))
        return bool(state["Running"]) and state["Health"]["Status"] == "healthy"

    def wait_healthy(self, container: str, seconds: float = 300) -> None:
        wait_for(lambda: self.is_healthy(container), seconds, f"{container} is healthy")

    def wait_back(self, seconds: float = 180) -> None:
        """Wait until events can be stored, and found through the index, whatever else is going on."""
        wait_for(lambda: self._lag() is not None, seconds, "the service is back")

    def wait_ready(self, seconds: float = 180) -> None:
        """Wait until the index has caught up, too."""
        wait_for(lambda: self._lag() == "0", seconds, "the service is ready and the index has caught up")

    def _lag(self) -> str | None:
        """How far the index is behind the log; None while something is missing."""
        try:
            ready = requests.get(f"{self.url}/readyz", timeout=10)
            if ready.status_code != 200 or ready.json()["index"] != "ok":
                return None
            answer = self.get("/event", limit="1", timeout=30)
        except (requests.RequestException, ValueError):
            return None
        return answer.headers.get("Eventsvc-Lag") if answer.headers.get("Eventsvc-Source") != "sql" else None

    @property
    def key(self) -> dict[str, str]:
        """The header that lets us in, with the first key, which the first start made."""
        if not self._key:
            self._key = self.compose(*SHOW_KEY).strip()
        return {"Authorization": f"Bearer {self._key}"}

    def get(self, path: str, *, timeout: float = 60, **parameters: Any) -> requests.Response:
        return requests.get(self.url + path, params=parameters, headers=self.key, timeout=timeout)

    def post(self, event: dict[str, Any], **headers: str) -> requests.Response:
        return requests.post(f"{self.url}/event", json=event, headers=self.key | headers, timeout=60)

    def find(self, query: str, **parameters: Any) -> requests.Response:
        return self.get("/event", q=query, **parameters)

    def export(self, query: str) -> list[dict[str, Any]]:
        """Everything that matches, as NDJSON."""
        headers = self.key | {"Accept": "application/x-ndjson"}
        answer = requests.get(f"{self.url}/event", params={"q": query}, headers=headers, timeout=120)
        assert answer.status_code == 200, answer.text
        lines = [json.loads(line) for line in answer.text.splitlines()]
        assert not any("error" in line for line in lines), lines[-1]
        return lines

    def sql(self, statement: str) -> str:
        return self.compose("exec", "-T", "postgres", "psql", "-U", "eventsvc", "-XAtc", statement).strip()

    def pipe(self, command: tuple[str, ...], *, source: Path | None = None, output: Path | None = None) -> None:
        """Run a program in the PostgreSQL container, with files as its input and output."""
        whole = [*self._command, "-p", self.project, "exec", "-T", "postgres", *command]
        with (
            (source or Path(os.devnull)).open("rb") as standard_input,
            (output or Path(os.devnull)).open("wb") as result,
        ):
            subprocess.run(
                whole, cwd=ROOT, env=self._environment, stdin=standard_input, stdout=result, timeout=300, check=True
            )

    def secrets(self) -> list[str]:
        """Every secret that the first start made."""
        files = {
            "postgres": ("password",),
            "eventsvc": ("database_url", "elasticsearch_password"),
            "keys": ("admin_key", "metrics_key"),
            "kibana-objects": ("password",),
            "kibana": ("elasticsearch_password", "encryption_key"),
            "elasticsearch": ("elastic_password", "node.key"),
        }
        found = []
        for volume, names in files.items():
            for name in names:
                found += self.read_secret(volume, name).split("\n")
        return [line for line in found if len(line) > 20 and "-----" not in line]

    def read_secret(self, volume: str, name: str) -> str:
        mount = f"{self.project}_{volume}-secrets:/secrets:ro"
        image = self._environment["API_IMAGE"]
        return run(
            "docker", "run", "--rm", "--user", "0", "-v", mount, "--entrypoint", "cat", image, f"/secrets/{name}"
        )


def kill_process(container: str) -> None:
    """SIGKILL a container's first process as a crash would, from outside: `docker kill` also stops restarting it."""
    pid = run("docker", "inspect", "-f", "{{.State.Pid}}", container).strip()
    rights = ("--pid", "host", "--user", "0", "--cap-drop", "ALL", "--cap-add", "KILL")
    run("docker", "run", "--rm", *rights, "--entrypoint", "sh", "python:3.13-slim", "-c", f"kill -KILL {pid}")


@contextmanager
def disconnected(stack: Stack, service: str, network: str, alias: str = "") -> Iterator[None]:
    """Pull the plug of a service's network for a while."""
    (container,) = stack.containers(service)
    name = f"{stack.project}_{network}"
    run("docker", "network", "disconnect", name, container)
    try:
        yield
    finally:
        run("docker", "network", "connect", "--alias", alias or service, name, container)


def lines_of(texts: Iterable[str]) -> list[str]:
    return [line for text in texts for line in text.splitlines() if line.strip()]
