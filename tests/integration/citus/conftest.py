"""A database spread over the workers of the cluster that EVENTSVC_TEST_CITUS_URL names; without it, nothing runs here.

The URL names a coordinator to which workers were added, in a database that may be thrown away; its user must be let
in on the workers as well. The tests kill these servers, so they run in one process only, not with ``-n`` (`make test`).
Each server needs ``wal_level=logical`` and a ``max_prepared_transactions`` above 0.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from typing import Any

import pytest
from psycopg2.extensions import make_dsn, parse_dsn

from eventsvc.log import citus, schema
from eventsvc.log.connection import connect
from tests.integration.citus.load import LocalServer


def execute(dsn: str, *statements: str) -> list[tuple[Any, ...]]:
    connection = connect(dsn)
    try:
        with connection.cursor() as cursor:
            for statement in statements:
                cursor.execute(statement)
            return cursor.fetchall() if cursor.description else []
    finally:
        connection.close()


class Cluster:
    """One database, of the same name on coordinator and workers."""

    def __init__(self, url: str) -> None:
        self.url, self.name = url, f"eventsvc_test_{secrets.token_hex(6)}"
        self.workers = execute(
            url, "SELECT nodename, nodeport FROM pg_dist_node WHERE shouldhaveshards AND groupid > 0"
        )

    @property
    def dsn(self) -> str:
        return make_dsn(self.url, dbname=self.name)

    def worker(self, number: int, name: str = "") -> str:
        host, port = self.workers[number]
        return make_dsn(self.url, host=host, port=port, dbname=name or self.name)

    def make(self) -> None:
        everywhere = [self.url, *(self.worker(i, "postgres") for i in range(len(self.workers)))]
        for dsn in everywhere:
            execute(dsn, f"CREATE DATABASE {self.name}")
        for dsn in (self.dsn, *(self.worker(i) for i in range(len(self.workers)))):
            execute(dsn, "CREATE EXTENSION citus")
        ((host, port),) = execute(self.url, "SELECT nodename, nodeport FROM pg_dist_node WHERE groupid = 0")
        execute(
            self.dsn,
            f"SELECT citus_set_coordinator_host('{host}', {port})",
            *(f"SELECT citus_add_node('{host}', {port})" for host, port in self.workers),
        )

    def add_worker(self, url: str) -> None:
        """Add a server, named by the URL, on which no shard lies yet."""
        parts = parse_dsn(url)
        self.workers.append((parts["host"], int(parts["port"])))
        execute(self.worker(-1, "postgres"), f"CREATE DATABASE {self.name}")
        execute(self.worker(-1), "CREATE EXTENSION citus")
        execute(self.dsn, "SELECT citus_add_node('{}', {})".format(*self.workers[-1]))

    def local_server(self, number: int | None) -> LocalServer:
        """Give the process of a worker, or of the coordinator (None); skip the test if it is on another machine."""
        url = self.url if number is None else self.worker(number, "postgres")
        ((folder,),) = execute(url, "SELECT current_setting('data_directory')")
        try:
            return LocalServer(url, folder)
        except FileNotFoundError:
            pytest.skip("not run: the servers are not on this machine, so they cannot be killed")

    def count_prepared(self, *numbers: int) -> int:
        """Count the transactions that are prepared on these workers; without a number, on all."""
        count = "SELECT count(*) FROM pg_prepared_xacts WHERE database = current_database()"
        return sum(execute(self.worker(number), count)[0][0] for number in numbers or range(len(self.workers)))

    def place(self, component: str) -> int:
        """Give the number of the worker that stores the events of a component."""
        ((host, port),) = execute(
            self.dsn,
            "SELECT nodename, nodeport FROM pg_dist_shard_placement"
            f" WHERE shardid = get_shard_id_for_distribution_column('event', '{component}')",
        )
        return self.workers.index((host, port))

    def drop(self) -> None:
        for dsn in (self.url, *(self.worker(i, "postgres") for i in range(len(self.workers)))):
            execute(dsn, f"DROP DATABASE IF EXISTS {self.name} WITH (FORCE)")


@pytest.fixture(scope="module")
def cluster(citus_url: str, request: pytest.FixtureRequest) -> Iterator[Cluster]:
    """Migrated, with a few events, and spread by component over the module's number of SHARDS."""
    if not citus_url:
        pytest.skip("not run: EVENTSVC_TEST_CITUS_URL names no coordinator of a Citus cluster")
    cluster = Cluster(citus_url)
    try:
        cluster.make()
        connection = connect(cluster.dsn)
        schema.migrate(connection)
        with connection.cursor() as cursor:
            cursor.execute(
                "INSERT INTO event (id, email, environment, component, message, data)"
                " SELECT gen_random_uuid(), 'a@b.c', 'before', 'c' || i, 'buyer ' || i, '{}'"
                " FROM generate_series(1, 100) AS i"
            )
        shards = getattr(request.module, "SHARDS", 8)
        assert len(list(citus.distribute(connection, citus.Distribution("component", shards)))) == 3
        connection.close()
        yield cluster
    finally:
        cluster.drop()


@pytest.fixture
def database(cluster: Cluster) -> str:
    return cluster.dsn
