"""Table index_share: ranges of the log that the leading indexer leaves to the other indexers.

    leader                              another indexer                 row of the table
    offers the seqs 101 to 200                                          no taker
                                        takes the share                 taker
                                        indexes the events
                                        renews the share every second   taker, renewed_at
                                        hands in the result             taker, result
    collects the result                                                 deleted

A share belongs to one fence, so to one term of the leader. The leader takes a share back if nobody has taken it, or if
its taker has been silent. Then two indexers may write the same documents, which does no harm.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

from psycopg2.extras import Json

from eventsvc.errors import Fenced
from eventsvc.log.connection import Connection, fetch
from eventsvc.log.progress.refusals import Refusal

INDEXER = "eventsvc index"  # the application_name of an indexer's session


@dataclass(frozen=True, slots=True)
class Share:
    """The events with after < seq ≤ upto. All of them are below the horizon."""

    fence: int
    after: int
    upto: int


@dataclass(frozen=True, slots=True)
class Result:
    """The result of a share that was indexed.

    Attributes:
        touched: the names of the indexes that got documents.
        refusals: the events that Elasticsearch refused.
    """

    touched: tuple[str, ...]
    refusals: tuple[Refusal, ...]


def offer(connection: Connection, share: Share) -> None:
    """Let any other indexer take a share."""
    with connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO index_share (fence, after, upto) VALUES (%s, %s, %s)", (share.fence, share.after, share.upto)
        )


_TAKE = """
    UPDATE index_share SET taker = %s, renewed_at = clock_timestamp() WHERE (fence, after) = (
      SELECT fence, after FROM index_share WHERE taker IS NULL AND fence = (SELECT fence FROM watermark)
      ORDER BY after LIMIT 1 FOR UPDATE SKIP LOCKED)
    RETURNING fence, after, upto
"""


def take(connection: Connection, taker: str) -> Share | None:
    """Take the oldest share that nobody has taken; None if there is none."""
    rows = fetch(connection, _TAKE, (taker,))
    return Share(*rows[0]) if rows else None


def renew(connection: Connection, taker: str, shares: Sequence[Share]) -> None:
    """Tell the leader that the taker is still at work.

    Raises:
        Fenced: the leader has taken a share back, or its term is over.
    """
    with connection.cursor() as cursor:
        cursor.execute(
            "UPDATE index_share SET renewed_at = clock_timestamp()"
            " WHERE taker = %s AND (fence, after) IN (SELECT * FROM unnest(%s::bigint[], %s::bigint[]))",
            (taker, [share.fence for share in shares], [share.after for share in shares]),
        )
        if cursor.rowcount < len(shares):
            raise Fenced("the leader has taken the share back")


def hand_in(connection: Connection, taker: str, share: Share, result: Result) -> None:
    """Give the leader a share's result. If the share no longer belongs to the taker, nothing happens."""
    refusals = [[one.seq, one.month.isoformat(), one.reason] for one in result.refusals]
    with connection.cursor() as cursor:
        cursor.execute(
            "UPDATE index_share SET result = %s WHERE fence = %s AND after = %s AND taker = %s",
            (Json({"touched": list(result.touched), "refusals": refusals}), share.fence, share.after, taker),
        )


def give_back(connection: Connection, taker: str) -> None:
    """Let others take all shares of this taker that have no result."""
    with connection.cursor() as cursor:
        cursor.execute("UPDATE index_share SET taker = NULL WHERE taker = %s AND result IS NULL", (taker,))


def collect(connection: Connection, fence: int, silence: float) -> dict[int, Result | None]:
    """Delete the leader's shares that have a result or whose taker is silent; give them.

    Args:
        connection: a connection to the log.
        fence: the leader's fence.
        silence: seconds. A taker that has not renewed its share for longer hangs or is dead.

    Returns:
        The results by ``after`` of their shares. None: the taker was silent, so the leader must index the share.
    """
    rows = fetch(
        connection,
        "DELETE FROM index_share WHERE fence = %s AND (result IS NOT NULL OR taker IS NOT NULL"
        " AND renewed_at < clock_timestamp() - make_interval(secs => %s)) RETURNING after, result::json",
        (fence, silence),
    )
    return {after: _read_result(result) for after, result in rows}


def _read_result(stored: Any) -> Result | None:
    if stored is None:
        return None
    refusals = (Refusal(int(seq), date.fromisoformat(month), reason) for seq, month, reason in stored["refusals"])
    return Result(tuple(stored["touched"]), tuple(refusals))


def take_back(connection: Connection, fence: int) -> int | None:
    """Delete the leader's oldest share that nobody has taken; give its ``after``, or None."""
    rows = fetch(
        connection,
        "DELETE FROM index_share WHERE (fence, after) = (SELECT fence, after FROM index_share"
        " WHERE fence = %s AND taker IS NULL ORDER BY after LIMIT 1 FOR UPDATE SKIP LOCKED) RETURNING after",
        (fence,),
    )
    return int(rows[0][0]) if rows else None


def forget(connection: Connection, fence: int) -> None:
    """Delete the shares of earlier terms."""
    with connection.cursor() as cursor:
        cursor.execute("DELETE FROM index_share WHERE fence < %s", (fence,))


def count_others(connection: Connection) -> int:
    """Count the other indexers that work on this log, from their sessions."""
    ((count,),) = fetch(
        connection,
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
        " AND application_name = %s",
        (INDEXER,),
    )
    return int(count)
