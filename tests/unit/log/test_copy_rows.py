"""Rows wait in blocks, get their ids and time, and may be stamped while others are still added."""

from __future__ import annotations

import itertools
import resource
import threading
import time
from contextlib import closing

import pytest

from eventsvc.errors import WriteQueueFull
from eventsvc.event import NewEvent
from eventsvc.log.write.copy_rows import NotComplete, PackedRows, pack_row

NOW = 1_795_000_000_000
COUNT = 5_000  # several blocks


def event(number: int) -> NewEvent:
    return NewEvent("a@example.com", "test", "bulk", f"event {number} {'é' * (number % 300)}", b'{"a":1}')


def add_all(rows: PackedRows) -> None:
    for number in range(COUNT):
        rows.add(event(number))


def row_id(number: int) -> bytes:
    return number.to_bytes(16, "big")


def expected(count: int) -> bytes:
    return b"".join(pack_row(row_id(number), NOW, event(number)) for number in range(count))


@pytest.mark.parametrize("count", [0, 1, COUNT])
def test_rows_come_back_with_their_ids_and_time(count: int) -> None:
    with closing(PackedRows()) as rows:
        for number in range(count):
            rows.add(event(number))
        rows.end(complete=True)
        assert b"".join(rows.stamp(NOW, map(row_id, itertools.count()))) == expected(count)
        assert b"".join(rows.stamp(NOW, map(row_id, itertools.count()))) == expected(count)


def test_rows_are_stamped_while_others_are_added() -> None:
    def add() -> None:
        for number in range(COUNT):
            rows.add(event(number))
            if number % 500 == 0:
                time.sleep(0.01)
        rows.end(complete=True)

    with closing(PackedRows()) as rows:
        thread = threading.Thread(target=add)
        thread.start()
        assert b"".join(rows.stamp(NOW, map(row_id, itertools.count()), seconds=60)) == expected(COUNT)
        thread.join()


def test_rows_that_do_not_come_in_time_or_never_are_not_stored() -> None:
    with closing(PackedRows()) as rows:
        rows.add(event(0))
        with pytest.raises(NotComplete):
            list(rows.stamp(NOW, map(row_id, itertools.count()), seconds=0.05))
        rows.end(complete=False)
        with pytest.raises(NotComplete):
            list(rows.stamp(NOW, map(row_id, itertools.count()), seconds=60))


def test_deleted_rows_are_not_read() -> None:
    """The number of the closed file may belong to another file already."""
    rows = PackedRows()
    add_all(rows)
    rows.end(complete=True)
    stamped = rows.stamp(NOW, map(row_id, itertools.count()))
    next(stamped)
    rows.close()
    with pytest.raises(NotComplete):
        next(stamped)


def test_a_full_disk_is_no_fault_of_the_service() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    with closing(PackedRows()) as rows:
        resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, hard))
        try:
            with pytest.raises(WriteQueueFull, match="temporary file"):
                add_all(rows)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
