"""Table index_failure: the events that Elasticsearch refused. Searches find them in PostgreSQL."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date
from typing import Any

from psycopg2.extras import execute_values

from eventsvc.log.connection import Connection, fetch, transaction
from eventsvc.log.progress import watermark


@dataclass(frozen=True, slots=True)
class Refusal:
    """An event that Elasticsearch refuses; the reason quotes nothing of the event."""

    seq: int
    month: date
    reason: str


def record(connection: Connection, fence: int, refused: Iterable[Refusal]) -> None:
    """Record events that the index has refused. From now on, searches find these events in PostgreSQL.

    Raises:
        Fenced: another fence was drawn meanwhile.
    """
    with transaction(connection) as cursor:
        watermark.hold(cursor, fence)
        insert(cursor, refused)


def insert(cursor: Any, refused: Iterable[Refusal]) -> None:
    """Record refusals, each with its latest reason. Runs inside the caller's transaction."""
    execute_values(
        cursor,
        "INSERT INTO index_failure (seq, month, reason) VALUES %s ON CONFLICT (seq)"
        " DO UPDATE SET reason = excluded.reason, failed_at = clock_timestamp()",
        [(refusal.seq, refusal.month, refusal.reason) for refusal in refused],
    )


def list_seqs(connection: Connection) -> list[int]:
    """List the seqs of all refused events, lowest first."""
    return [seq for (seq,) in fetch(connection, "SELECT seq FROM index_failure ORDER BY seq")]


def list_reasons(connection: Connection) -> list[tuple[str, int]]:
    """List the reasons of refusals with their numbers of events, the most frequent reason first."""
    rows = fetch(connection, "SELECT reason, count(*) FROM index_failure GROUP BY 1 ORDER BY 2 DESC, 1")
    return [(reason, count) for reason, count in rows]


def forget(connection: Connection, seqs: list[int]) -> None:
    """Delete the refusals of events that the index has accepted after all."""
    with connection.cursor() as cursor:
        cursor.execute("DELETE FROM index_failure WHERE seq = ANY (%s)", (seqs,))


def forget_month(cursor: Any, month: date) -> None:
    """Delete the refusals of a month that is dropped, or whose index was lost. Runs in the caller's transaction."""
    cursor.execute("DELETE FROM index_failure WHERE month = %s", (month,))
