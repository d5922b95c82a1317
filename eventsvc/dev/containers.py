"""Run PostgreSQL and Elasticsearch as containers, if a Docker engine answers."""

from __future__ import annotations

import json
import os
import secrets
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import docker
import docker.errors
import requests
from testcontainers.core.config import testcontainers_config
from testcontainers.core.container import DockerContainer
from testcontainers.core.docker_client import DockerClient

from eventsvc.dev import elasticsearch, janitor, postgres
from eventsvc.dev.server import free_port
from eventsvc.errors import SetupError

Say = Callable[[str], None]

_ENGINE_SECONDS = 60
_STOP_SECONDS = 30
_PROGRESS_SECONDS = 3.0
_LOCAL_HOSTS = ("localhost", "127.0.0.1")


@dataclass(frozen=True, slots=True)
class Recipe:
    """A description of a container.

    Attributes:
        name: the name of the server for users.
        image: the official image.
        port: the port inside the container.
        data: the folder inside the container on which a volume is mounted.
        url: the address of the server, with ``{port}`` for the port outside.
        answers: tells whether a server at an address is ready.
        environment: the environment of the container.
        command: the arguments of the image's entry point.
    """

    name: str
    image: str
    port: int
    data: str
    url: str
    answers: Callable[[str], bool]
    environment: dict[str, str] = field(default_factory=dict)
    command: tuple[str, ...] = ()


def postgres_recipe(password: str, *, durable: bool) -> Recipe:
    """Describe PostgreSQL from the official image. ``durable`` is False for tests, which are faster then."""
    options = ("-c", f"max_connections={postgres.MAX_CONNECTIONS}", "-c", f"fsync={'on' if durable else 'off'}")
    return Recipe(
        name=postgres.NAME,
        image="postgres:18",
        port=5432,
        data="/var/lib/postgresql",
        url=f"postgresql://postgres:{password}@127.0.0.1:{{port}}/postgres",
        answers=postgres.answers,
        environment={"POSTGRES_PASSWORD": password},
        command=("postgres", *options),
    )


def elasticsearch_recipe(heap: str) -> Recipe:
    """Describe Elasticsearch from the official image, without passwords: only the loopback interface can reach it."""
    return Recipe(
        name=elasticsearch.NAME,
        image="docker.elastic.co/elasticsearch/elasticsearch:9.5.0",
        port=9200,
        data="/usr/share/elasticsearch/data",
        url="http://127.0.0.1:{port}",
        answers=elasticsearch.answers,
        environment={
            "discovery.type": "single-node",
            "xpack.security.enabled": "false",
            "cluster.routing.allocation.disk.threshold_enabled": "false",
            "ES_JAVA_OPTS": f"-Xms{heap} -Xmx{heap}",
        },
    )


def image_at_hand(image: str, say: Say) -> bool:
    """Tell whether a Docker engine on this machine has the image. Download the image if it is missing."""
    try:
        with _engine() as engine:
            try:
                engine.images.get(image)
            except docker.errors.ImageNotFound:
                _pull(engine, image, say)
    except (docker.errors.DockerException, requests.RequestException, OSError) as exc:
        if not isinstance(exc, _NoEngine):
            say(f"Docker has no {image} and cannot fetch it: {_short(exc)}")
        return False
    return True


class _NoEngine(docker.errors.DockerException):  # type: ignore[misc]
    """No engine answers, or the engine is on another machine, where we cannot reach the ports safely."""


@contextmanager
def _engine() -> Iterator[Any]:
    try:
        client = DockerClient(timeout=_ENGINE_SECONDS)
    except (docker.errors.DockerException, OSError) as exc:
        raise _NoEngine(str(exc)) from exc
    with closing(client.client) as engine:
        if client.host() not in _LOCAL_HOSTS or not engine.ping():
            raise _NoEngine("the engine is not on this machine")
        yield engine


def _pull(engine: Any, image: str, say: Say) -> None:
    say(f"fetching the container image {image}")
    layers: dict[str, tuple[int, int]] = {}
    shown = time.monotonic()
    for step in engine.api.pull(*image.rsplit(":", 1), stream=True, decode=True):
        if "error" in step:
            raise docker.errors.DockerException(step["error"])
        detail = step.get("progressDetail") or {}
        if "total" in detail:
            layers[f"{step['id']} {step['status']}"] = (detail.get("current", 0), detail["total"])
        if time.monotonic() - shown > _PROGRESS_SECONDS and layers:
            shown = time.monotonic()
            done, total = (sum(part) // 1_000_000 for part in zip(*layers.values(), strict=True))
            say(f"fetching {image}: {done} of {total} MB")


def _short(exc: BaseException) -> str:
    return str(getattr(exc, "explanation", None) or exc).strip().splitlines()[0][:200]


class ContainerServer:
    """A container of a recipe. Its data lies in a named volume, or goes with the container."""

    def __init__(self, recipe: Recipe, *, container: str, volume: str | None, port: int = 0) -> None:
        """Prepare, without a start.

        Args:
            recipe: the description of the container.
            container: the name of the container. A container that has this name already is left over from a killed run.
            volume: the name of the volume that keeps the data; None: the data goes with the container.
            port: the port to listen on; 0: any free port.
        """
        self.name, self.way = recipe.name, f"container of {recipe.image}"
        self._recipe, self._name, self._volume = recipe, container, volume
        self._port = port
        self._container: DockerContainer | None = None
        self._janitor: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """The address."""
        return self._recipe.url.format(port=self._port)

    def start(self) -> None:
        """Create and start the container, or start it again."""
        with _translated(self.name):
            if self._container is not None:
                self._container.get_wrapped_container().start()
                return
            self._remove_left_over()
            self._port = self._port or free_port()
            self._watch()
            self._container = self._prepared()
            self._container.start()

    def _prepared(self) -> DockerContainer:
        # The janitor does the work of the helper container, so that no second image has to be downloaded.
        testcontainers_config.ryuk_disabled = True
        recipe = self._recipe
        container = DockerContainer(recipe.image).with_name(self._name)
        container.env.update(recipe.environment)
        if recipe.command:
            container.with_command(list(recipe.command))
        if self._volume is not None:
            container.with_volume_mapping(self._volume, recipe.data, "rw")
        ports: Any = container.ports  # docker takes an address too, testcontainers' types do not know
        ports[f"{recipe.port}/tcp"] = ("127.0.0.1", self._port)
        return container

    def _remove_left_over(self) -> None:
        with _engine() as engine, suppress(docker.errors.NotFound):
            old = engine.containers.get(self._name)
            old.stop(timeout=_STOP_SECONDS)
            old.remove(force=True, v=True)

    def _watch(self) -> None:
        self._janitor = subprocess.Popen(  # noqa: S603  (our own script)
            [sys.executable, janitor.__file__, self._name],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    def alive(self) -> bool:
        """Tell whether the container runs."""
        if self._container is None:
            return False
        with suppress(docker.errors.DockerException, requests.RequestException):
            wrapped = self._container.get_wrapped_container()
            wrapped.reload()
            return bool(wrapped.status == "running")
        return False

    def ready(self) -> bool:
        """Tell whether the server answers."""
        return self._recipe.answers(self.url)

    def stop(self) -> None:
        """Stop and remove the container; a named volume stays."""
        if self._container is not None:
            with suppress(docker.errors.DockerException, requests.RequestException), _engine() as engine:
                wrapped = engine.containers.get(self._name)
                wrapped.stop(timeout=_STOP_SECONDS)
                wrapped.remove(force=True, v=True)
            self._container.get_docker_client().client.close()
            self._container = None
        if self._janitor is not None and self._janitor.stdin is not None:
            self._janitor.stdin.close()
            self._janitor.wait()
            self._janitor = None

    def last_lines(self, count: int = 15) -> str:
        """Give the end of the log."""
        if self._container is None:
            return ""
        try:
            log = self._container.get_wrapped_container().logs(tail=count).decode("utf-8", "replace")
        except (docker.errors.DockerException, requests.RequestException):
            return ""
        return "\n".join(f"  {line}" for line in log.splitlines())


@contextmanager
def _translated(name: str) -> Iterator[None]:
    try:
        yield
    except (docker.errors.DockerException, requests.RequestException) as exc:
        raise SetupError(f"{name} cannot be started as a container: {_short(exc)}") from exc


@dataclass(frozen=True, slots=True)
class Identity:
    """The names of the containers of a data folder, and their password."""

    name: str
    password: str

    @classmethod
    def of(cls, folder: Path) -> Identity:
        """Read the identity from the data folder, or make a new identity."""
        file = folder / "containers.json"
        if not file.exists():
            folder.mkdir(parents=True, exist_ok=True)
            token = {"name": f"eventsvc-{secrets.token_hex(6)}", "password": secrets.token_hex(16)}
            unfinished = file.with_suffix(".new")
            with os.fdopen(os.open(unfinished, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o600), "w") as output:
                json.dump(token, output)
            unfinished.rename(file)
        return cls(**json.loads(file.read_text()))
