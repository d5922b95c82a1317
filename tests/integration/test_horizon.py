"""The horizon against writers that commit late, out of order, or not at all."""

from __future__ import annotations

import io
import random
import threading
import time
import uuid
from collections.abc import Callable

import psycopg2
import pytest

from eventsvc.log.connection import connect
from eventsvc.log.progress.horizon import Horizon

WRITERS = 8
SECONDS, PATIENCE = 2.0, 60.0

_INSERT = (
    "INSERT INTO event (id, email, environment, component, message, data)"
    " SELECT gen_random_uuid(), 'a@b.test', 'test', 'writer', %s, '{}' FROM generate_series(1, %s) RETURNING seq"
)


class Writer(threading.Thread):
    """Inserts, dawdles, then commits or rolls back; remembers what it committed."""

    def __init__(self, dsn: str, seed: int, stop: threading.Event) -> None:
        super().__init__()
        self.dsn, self.random, self.stop_event = dsn, random.Random(seed), stop
        self.committed: list[int] = []
        self.rolled_back = 0

    def run(self) -> None:
        connection = psycopg2.connect(self.dsn)
        while not self.stop_event.is_set():
            with connection.cursor() as cursor:
                seqs: list[int] = []
                for _ in range(self.random.randint(1, 3)):
                    cursor.execute(_INSERT, (uuid.uuid4().hex, self.random.randint(1, 20)))
                    seqs += [seq for (seq,) in cursor]
                    self.stop_event.wait(self.random.choice((0, 0, 0.001, 0.02)))
            if self.random.random() < 0.25:
                connection.rollback()
                self.rolled_back += 1
            else:
                connection.commit()
                self.committed += seqs
        connection.close()


def follow(dsn: str, highest: Callable[[], int]) -> tuple[list[int], list[int]]:
    """Read the log while eight writers write it; return what was read and what was committed."""
    stop = threading.Event()
    writers = [Writer(dsn, seed, stop) for seed in range(WRITERS)]
    reader = connect(dsn)
    seen: list[int] = []

    def read() -> None:
        to = highest()
        with reader.cursor() as cursor:
            after = seen[-1] if seen else 0
            cursor.execute("SELECT seq FROM event WHERE seq > %s AND seq <= %s ORDER BY seq", (after, to))
            seen.extend(seq for (seq,) in cursor)

    for writer in writers:
        writer.start()
    began = time.monotonic()
    while (passed := time.monotonic() - began) < SECONDS or (passed < PATIENCE and not _have_done_enough(writers)):
        read()
    stop.set()
    for writer in writers:
        writer.join()
    for _ in range(3):  # one poll may still know writers of before
        read()
    reader.close()
    assert _have_done_enough(writers)
    return seen, sorted(seq for writer in writers for seq in writer.committed)


def _have_done_enough(writers: list[Writer]) -> bool:
    return all(writer.rolled_back for writer in writers) and sum(len(writer.committed) for writer in writers) > 300


def test_nothing_is_missed_nothing_twice_all_in_order(database: str) -> None:
    connection = connect(database)
    horizon = Horizon(connection)
    seen, committed = follow(database, horizon.poll)
    connection.close()
    assert committed == seen


def test_the_naive_rule_misses_events(database: str) -> None:
    """The proof that the test above can fail: a reader of the highest seq that it can see loses events."""
    connection = connect(database)

    def highest_visible() -> int:
        with connection.cursor() as cursor:
            cursor.execute("SELECT coalesce(max(seq), 0) FROM event")
            return int(cursor.fetchall()[0][0])

    seen, committed = follow(database, highest_visible)
    connection.close()
    missed = set(committed) - set(seen)
    assert missed


def test_a_horizon_of_a_fresh_log_is_zero(connection: psycopg2.extensions.connection) -> None:
    assert Horizon(connection).poll() == 0


def test_poll_never_waits_and_never_passes_an_open_transaction(
    database: str, connection: psycopg2.extensions.connection
) -> None:
    slow, quick = psycopg2.connect(database), psycopg2.connect(database)
    with slow.cursor() as cursor:
        cursor.execute(_INSERT, ("slow", 1))
    with quick.cursor() as cursor:
        cursor.execute(_INSERT, ("quick", 1))
    quick.commit()
    horizon = Horizon(connection)
    assert [horizon.poll() for _ in range(3)] == [0, 0, 0]
    slow.commit()
    assert horizon.poll() == 2
    slow.close()
    quick.close()


def test_a_rolled_back_seq_does_not_hold_the_horizon(database: str, connection: psycopg2.extensions.connection) -> None:
    other = psycopg2.connect(database)
    with other.cursor() as cursor:
        cursor.execute(_INSERT, ("never", 5))
    horizon = Horizon(connection)
    assert horizon.poll() == 0
    other.rollback()
    other.close()
    assert horizon.poll() == 5


@pytest.mark.parametrize("way", ["INSERT", "COPY"])
def test_writers_through_the_parent_lock_the_parent(
    database: str, connection: psycopg2.extensions.connection, way: str
) -> None:
    """The rule rests on it, so it is checked against the server at hand."""
    writer = psycopg2.connect(database)
    with writer.cursor() as cursor:
        if way == "INSERT":
            cursor.execute(_INSERT, ("x", 1))
        else:
            row = f"{uuid.uuid4()}\ta@b.test\ttest\twriter\tx\t{{}}\n"
            cursor.copy_expert(
                "COPY event (id, email, environment, component, message, data) FROM STDIN", io.StringIO(row)
            )
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT count(*) FROM pg_locks WHERE relation = 'event'::regclass AND mode = 'RowExclusiveLock' AND granted"
        )
        assert cursor.fetchall() == [(1,)]
    assert Horizon(connection).poll() == 0
    writer.rollback()
    writer.close()


def test_a_writer_to_a_partition_directly_counts_too(database: str, connection: psycopg2.extensions.connection) -> None:
    writer = psycopg2.connect(database)
    with writer.cursor() as cursor:
        cursor.execute(
            _INSERT.replace("event (id,", "event_default (created_at, id,").replace("gen_", "'1999-01-01', gen_"),
            ("x", 1),
        )
    assert Horizon(connection).poll() == 0
    writer.commit()
    writer.close()
    assert Horizon(connection).poll() == 1
