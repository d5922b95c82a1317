"""Read occurredAt, the time that the sender gives: RFC 3339, to the nanosecond."""

from __future__ import annotations

import re
import time
from datetime import UTC, datetime, timedelta

_TIME = re.compile(
    r"([0-9]{4}-[0-9]{2}-[0-9]{2})[Tt ]((?:[01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9])(?:\.([0-9]+))?"
    r"([Zz]|[+-](?:[01][0-9]|2[0-3]):[0-5][0-9])?"
)
_EPOCH, _SECOND = datetime(1970, 1, 1, tzinfo=UTC), timedelta(seconds=1)
_DIGITS = 9
_DAY = 86_400 * 1_000_000_000  # nanoseconds


def read_occurred(text: object) -> int:
    """Read occurredAt as nanoseconds since 1970.

    Raises:
        ValueError: the value is not such a time, or the time is not allowed. The text says why.
    """
    match = _TIME.fullmatch(text) if isinstance(text, str) else None
    if match is None:
        raise ValueError("must be an RFC 3339 time, such as 2018-01-31T12:00:00.123Z")
    day, clock, fraction, offset = match.groups(default="")
    if not offset:
        raise ValueError("lacks an offset: end it with Z or, for example, +01:00")
    if len(fraction) > _DIGITS:
        raise ValueError(f"has {len(fraction)} digits after the second; at most {_DIGITS} are kept")
    try:
        second = datetime.fromisoformat(f"{day}T{clock}{offset.upper()}")
    except ValueError as exc:
        raise ValueError(f"names a day that there is not: {day}") from exc
    moment = (second - _EPOCH) // _SECOND * 1_000_000_000 + int(fraction.ljust(_DIGITS, "0"))
    if moment < 0:
        raise ValueError("lies before 1970")
    if moment > time.time_ns() + _DAY:
        raise ValueError("lies more than a day ahead: the sender's clock or its time zone is wrong")
    return moment
