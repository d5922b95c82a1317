"""Checkpoint, watermark and fence."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import date

import pytest

from eventsvc.errors import Fenced
from eventsvc.log.connection import Connection, connect, transaction
from eventsvc.log.progress import index_months, refusals, watermark
from eventsvc.log.progress.refusals import Refusal
from eventsvc.log.progress.watermark import Mark

MONTH, NEXT = date(2026, 11, 1), date(2026, 12, 1)


def test_a_leader_moves_it_forward(connection: Connection) -> None:
    fence = watermark.draw_fence(connection).fence
    watermark.move(connection, fence, checkpoint=10, seq=7)
    assert Mark(10, 7, fence) == watermark.read(connection)


def test_a_fenced_leader_moves_it_neither_forward_nor_back(connection: Connection) -> None:
    old = watermark.draw_fence(connection).fence
    new = watermark.draw_fence(connection).fence
    watermark.move(connection, new, checkpoint=10, seq=10)
    for checkpoint, seq in ((11, 11), (5, 5), (10, 10)):
        with pytest.raises(Fenced):
            watermark.move(connection, old, checkpoint=checkpoint, seq=seq)
    assert Mark(10, 10, new) == watermark.read(connection)


def test_not_even_the_leader_moves_it_back(connection: Connection) -> None:
    fence = watermark.draw_fence(connection).fence
    watermark.move(connection, fence, checkpoint=10, seq=10)
    with pytest.raises(Fenced):
        watermark.move(connection, fence, checkpoint=10, seq=9)
    assert watermark.read(connection).seq == 10


def test_a_fenced_leader_records_nothing(connection: Connection) -> None:
    old = watermark.draw_fence(connection).fence
    watermark.draw_fence(connection)
    with pytest.raises(Fenced):
        index_months.add_index(connection, old, MONTH, "name", "uuid")
    with pytest.raises(Fenced):
        refusals.record(connection, old, [Refusal(1, MONTH, "why")])
    assert index_months.list_indexes(connection) == {}


def test_one_leads_and_the_next_takes_over_when_its_session_ends(database: str) -> None:
    first, second = connect(database), connect(database)
    assert watermark.try_lead(first)
    assert not watermark.try_lead(second)
    first.close()
    assert _soon(lambda: watermark.try_lead(second))
    second.close()


def test_a_lost_index_lets_the_watermark_fall_before_its_month(connection: Connection) -> None:
    with connection.cursor() as cursor:
        for moment in ("2026-11-30 23:59:59.999+00", "2026-12-01 00:00:00+00", "2026-12-02 00:00:00+00"):
            cursor.execute(
                "INSERT INTO event (id, created_at, email, environment, component, message, data)"
                " VALUES (gen_random_uuid(), %s, 'a@b.test', 'test', 'c', 'm', '{}')",
                (moment,),
            )
    fence = watermark.draw_fence(connection).fence
    index_months.add_index(connection, fence, MONTH, "november", "u1")
    index_months.add_index(connection, fence, NEXT, "december", "u2")
    refusals.record(connection, fence, [Refusal(1, MONTH, "why"), Refusal(2, NEXT, "why")])
    watermark.move(connection, fence, checkpoint=3, seq=3)
    index_months.replace_lost_index(connection, fence, NEXT, "december-g2", "u3")
    mark = watermark.read(connection)
    assert (mark.checkpoint, mark.seq) == (1, 1)
    assert mark.fence > fence
    found = index_months.list_indexes(connection)
    assert (found[MONTH].name, found[MONTH].filled_to) == ("november", 3)
    assert (found[NEXT].name, found[NEXT].uuid, found[NEXT].filled_to) == ("december-g2", "u3", 0)
    with connection.cursor() as cursor:
        cursor.execute("SELECT seq FROM index_failure")
        assert cursor.fetchall() == [(1,)]


def test_the_watermark_stands_still_while_a_fence_is_held(database: str, connection: Connection) -> None:
    fence = watermark.draw_fence(connection).fence
    other = connect(database)
    with other.cursor() as cursor:
        cursor.execute("SET lock_timeout = '100ms'")
    with transaction(connection) as cursor:
        watermark.hold(cursor, fence)
        with pytest.raises(Exception, match="lock timeout"):
            watermark.move(other, fence, checkpoint=1, seq=1)
    watermark.move(other, fence, checkpoint=1, seq=1)
    other.close()


def _soon(condition: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline:
        if condition():
            return True
    return False


def test_fences_grow_even_when_the_log_was_restored_to_an_older_state(connection: Connection) -> None:
    before = watermark.draw_fence(connection).fence
    with connection.cursor() as cursor:
        cursor.execute("UPDATE watermark SET fence = 5")
    after = watermark.draw_fence(connection).fence
    assert after >= before
    with connection.cursor() as cursor:
        cursor.execute("UPDATE watermark SET fence = %s", (after + 10**9,))
    assert watermark.draw_fence(connection).fence == after + 10**9 + 1
