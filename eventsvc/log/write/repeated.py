"""Find the events that repeated Idempotency-Keys of single events stand for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from eventsvc.event import Event, NewEvent, format_time
from eventsvc.log.citus import IS_PREPARED
from eventsvc.log.read.state import EVENT_COLUMNS
from eventsvc.log.write import idempotency

if TYPE_CHECKING:
    from eventsvc.log.async_connection import AsyncConnection
    from eventsvc.log.write.idempotency import Kept

_READ = f"""
SELECT {EVENT_COLUMNS}
FROM event WHERE (id, created_at) IN (SELECT * FROM unnest(%s::uuid[], %s::timestamptz[]))
"""  # noqa: S608  (constants only)
# On Citus, this condition says on which workers the events are, so that no other worker is asked.
_WHERE_SENT = "AND id = ANY (%s::uuid[]) AND email = ANY (%s) AND component = ANY (%s)"


def first_id(seed: bytes) -> str:
    """Give the id of a request's first event."""
    return idempotency.format_id(idempotency.derive_id(seed, 0))


async def find_stored(
    connection: AsyncConnection, repeated: list[tuple[Kept, NewEvent]]
) -> tuple[dict[str, Event], bool]:
    """Find the events of repeated requests.

    Args:
        connection: a connection in a transaction.
        repeated: for each request, the record of its key, and the event that it has sent again.

    Returns:
        The events that are stored, by id; and whether a worker of Citus has still to commit what may be the others.
    """
    if not repeated:
        return {}, False
    ids, times = [first_id(kept.seed) for kept, _ in repeated], [format_time(kept.created_at) for kept, _ in repeated]
    if not connection.distributed:
        return await _read(connection, _READ, ids, times), False
    emails, components = [new.email for _, new in repeated], [new.component for _, new in repeated]
    found = await _read(connection, _READ + _WHERE_SENT, ids, times, ids, emails, components)
    if len(found) == len(set(ids)):
        return found, False
    # The order matters: the events are read after the prepared transactions were listed. An API key may have given the
    # stored event another email or component, as a default.
    ((prepared,),) = await connection.execute(IS_PREPARED)
    return await _read(connection, _READ, ids, times), prepared


async def _read(connection: AsyncConnection, statement: str, *values: list[str]) -> dict[str, Event]:
    rows = await connection.execute(statement, values)
    return {event.id: event for event in (Event(*row) for row in rows)}
