"""Events in the form that COPY … (FORMAT binary) reads (PostgreSQL documentation, "COPY", Binary Format).

PERF: a third faster than the text form on both sides, and nothing in it needs escaping.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from eventsvc.event import NewEvent

COPY = "COPY event (id, created_at, email, environment, component, message, data) FROM STDIN (FORMAT binary)"
HEADER = b"PGCOPY\n\xff\r\n\0" + bytes(8)
TRAILER = b"\xff\xff"

_POSTGRES_EPOCH = 946_684_800_000  # 2000-01-01 in milliseconds since 1970
_FIRST = struct.Struct(">hi16siqi").pack
_LENGTH = struct.Struct(">i").pack
_JSONB_VERSION = b"\x01"


def pack_row(event_id: bytes, created_at: int, new: NewEvent) -> bytes:
    """Pack one event; ``created_at`` in milliseconds since 1970."""
    email = new.email.encode()
    environment = new.environment.encode()
    component = new.component.encode()
    message = new.message.encode()
    microseconds = (created_at - _POSTGRES_EPOCH) * 1000
    return b"".join(
        (
            _FIRST(7, 16, event_id, 8, microseconds, len(email)),
            email,
            _LENGTH(len(environment)),
            environment,
            _LENGTH(len(component)),
            component,
            _LENGTH(len(message)),
            message,
            _LENGTH(len(new.data) + 1),
            _JSONB_VERSION,
            new.data,
        )
    )


class CopySource:
    """What psycopg2 reads a COPY from: an iterator of rows as a file.

    An error while the rows are made must not be raised through psycopg2, which would replace it: it ends the
    rows and waits in ``failure``.
    """

    def __init__(self, rows: Iterator[bytes]) -> None:
        self._parts = _with_frame(rows)
        self._rest = b""
        self.failure: Exception | None = None

    def read(self, size: int) -> bytes:
        """Give up to ``size`` bytes; nothing at the end."""
        parts = [self._rest]
        length = len(self._rest)
        while length < size and (part := self._next()):
            parts.append(part)
            length += len(part)
        whole = b"".join(parts)
        self._rest = whole[size:]
        return whole[:size]

    def _next(self) -> bytes:
        try:
            return next(self._parts, b"")
        except Exception as exc:  # noqa: BLE001  (see the class)
            self.failure = exc
            return b""


def _with_frame(rows: Iterator[bytes]) -> Iterator[bytes]:
    yield HEADER
    yield from rows
    yield TRAILER
