"""Insert single events by one statement, which PostgreSQL plans once for each connection."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from eventsvc.event import Event, NewEvent
from eventsvc.log.read.state import CREATED_AT

if TYPE_CHECKING:
    from eventsvc.log.async_connection import AsyncConnection

# PERF: prepared, so that it is planned once; one JSON parameter costs a third of quoting six values an event.
PREPARE = f"""
PREPARE put (json) AS
INSERT INTO event (id, email, environment, component, message, data, occurred_at)
SELECT id, email, environment, component, message, coalesce(data, 'null'), occurred_at
FROM json_to_recordset($1) AS sent
    (id uuid, email text, environment text, component text, message text, data jsonb, occurred_at bigint)
RETURNING id::text, seq, {CREATED_AT}, data::text
"""  # noqa: S608  (a constant)
_PUT = "EXECUTE put (%s)"
# Citus sends each row of a VALUES list directly to its worker, but first collects the rows of a SELECT on the
# coordinator. It allows only immutable functions in RETURNING.
_PUT_VALUES = """
INSERT INTO event (id, email, environment, component, message, data, occurred_at) VALUES {rows}
RETURNING id::text, seq, (extract(epoch FROM created_at - timestamptz '1970-01-01 00:00:00+00') * 1000)::bigint,
    data::text
"""
_ROW_OF_VALUES = "(%s, %s, %s, %s, %s, %s::jsonb, %s)"


async def insert(connection: AsyncConnection, named: list[tuple[str, NewEvent]]) -> list[Event]:
    """Insert events with their ids; return the stored events in the same order."""
    if connection.distributed:
        statement = _PUT_VALUES.format(rows=", ".join([_ROW_OF_VALUES] * len(named)))
        rows = await connection.execute(statement, tuple(value for each in named for value in _values(*each)))
    else:
        body = msgspec.json.encode(
            [_Row(name, *_fields(new), msgspec.Raw(new.data), new.occurred_at) for name, new in named]
        )
        rows = await connection.execute(_PUT, (body.decode(),))
    stored = {row[0]: row for row in rows}
    return [_event(stored[name], new) for name, new in named]


class _Row(msgspec.Struct, gc=False):
    id: str
    email: str
    environment: str
    component: str
    message: str
    data: msgspec.Raw
    occurred_at: int | None


def _fields(new: NewEvent) -> tuple[str, str, str, str]:
    return new.email, new.environment, new.component, new.message


def _values(name: str, new: NewEvent) -> tuple[Any, ...]:
    return name, *_fields(new), new.data.decode(), new.occurred_at


def _event(row: tuple[Any, ...], new: NewEvent) -> Event:
    name, seq, created_at, data = row
    return Event(seq, name, created_at, new.occurred(created_at), *_fields(new), data)
