"""An event as stored (Event), as sent (NewEvent), and in JSON."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import lru_cache
from typing import Any

import msgspec
import orjson


class Event(msgspec.Struct, frozen=True, gc=False):
    """One stored event; immutable, like the log it lies in.

    Attributes:
        seq: the event's number in the log; a later event has a higher one.
        id: UUID4, canonical lower-case text.
        created_at: milliseconds since 1970-01-01T00:00:00Z, by the database's clock.
        occurred_at: nanoseconds since 1970, by the sender's clock; equal to created_at if the sender gives no time.
        data: JSON text, as PostgreSQL's jsonb writes it. Most readers only pass the text on. A round trip through
            Python objects would cost time and, for large numbers, digits.
    """

    seq: int
    id: str
    created_at: int
    occurred_at: int
    email: str
    environment: str
    component: str
    message: str
    data: str

    @property
    def position(self) -> tuple[int, int]:
        """(createdAt, seq), in ms and as a number: the usual order of events in both stores."""
        return (self.created_at, self.seq)

    @property
    def occurred_position(self) -> tuple[int, int]:
        """(occurredAt, seq), in ns and as a number: the order of events if the request says orderBy=occurredAt."""
        return (self.occurred_at, self.seq)

    def parsed_data(self) -> Any:
        """Parse data; a number becomes an int or a Decimal, so it is exact."""
        return _decode_exactly(self.data)

    def to_json(self) -> dict[str, Any]:
        """Give the form that clients see, for ``orjson.dumps``."""
        return {
            "id": self.id,
            "createdAt": format_time(self.created_at),
            "occurredAt": format_nanoseconds(self.occurred_at),
            "email": self.email,
            "environment": self.environment,
            "component": self.component,
            "message": self.message,
            "data": orjson.Fragment(self.data),
        }


NANOSECONDS = 1_000_000  # in a millisecond
_TO_MILLISECONDS = len("2018-01-31T12:00:00.123")
_decode_exactly = msgspec.json.Decoder(float_hook=Decimal).decode

_EPOCH, _MILLISECOND = datetime(1970, 1, 1, tzinfo=UTC), timedelta(milliseconds=1)


def format_time(milliseconds: int) -> str:
    """Write a time as RFC 3339 in UTC, with milliseconds and Z."""
    # PERF: documents and answers are full of times, many within the same second.
    seconds, fraction = divmod(milliseconds, 1000)
    return f"{_format_second(seconds)}.{fraction:03}Z"


def format_moment(moment: datetime) -> str:
    """Write a time of the database as RFC 3339 in UTC, with milliseconds and Z."""
    return format_time(round(moment.timestamp() * 1000))


def format_nanoseconds(nanoseconds: int) -> str:
    """Write a time as RFC 3339 in UTC with Z, and with three, six or nine digits after the second as needed."""
    milliseconds, rest = divmod(nanoseconds, NANOSECONDS)
    text = format_time(milliseconds)
    return f"{text[:-1]}{rest:06}".removesuffix("000") + "Z" if rest else text


@lru_cache(maxsize=1024)
def _format_second(seconds: int) -> str:
    day, rest = divmod(seconds, 86_400)
    minutes, second = divmod(rest, 60)
    return f"{_format_day(day)}T{minutes // 60:02}:{minutes % 60:02}:{second:02}"


@lru_cache(maxsize=1024)
def _format_day(day: int) -> str:
    return (_EPOCH + timedelta(days=day)).date().isoformat()


def parse_time(text: str) -> int:
    """Read a time that ``format_time`` wrote, as milliseconds since 1970."""
    return (datetime.fromisoformat(text) - _EPOCH) // _MILLISECOND


def parse_nanoseconds(text: str) -> int:
    """Read a time that ``format_nanoseconds`` wrote, as nanoseconds since 1970."""
    milliseconds, rest = text[:_TO_MILLISECONDS], text[_TO_MILLISECONDS:-1]
    return parse_time(milliseconds + "Z") * NANOSECONDS + int(rest.ljust(6, "0"))


class NewEvent(msgspec.Struct, frozen=True, gc=False):
    """One event as sent: checked, but not stored yet.

    Attributes:
        data: compact JSON in UTF-8.
        occurred_at: nanoseconds since 1970; None for the time at which the event is stored.
    """

    email: str
    environment: str
    component: str
    message: str
    data: bytes
    occurred_at: int | None = None

    def occurred(self, created_at: int) -> int:
        """Give occurredAt in nanoseconds, if the event is stored at this time."""
        return created_at * NANOSECONDS if self.occurred_at is None else self.occurred_at
