"""Read the time that the sender gives: RFC 3339, or with shape=any also a number; to the nanosecond."""

from __future__ import annotations

import re
import time
from datetime import UTC, datetime, timedelta
from decimal import Decimal, InvalidOperation

from eventsvc.incoming.members import read_members
from eventsvc.text.numbers import JSON_NUMBER

_TIME = re.compile(
    r"([0-9]{4}-[0-9]{2}-[0-9]{2})[Tt ]((?:[01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9])(?:\.([0-9]+))?"
    r"([Zz]|[+-](?:[01][0-9]|2[0-3]):[0-5][0-9])?"
)
_EPOCH, _SECOND = datetime(1970, 1, 1, tzinfo=UTC), timedelta(seconds=1)
_DIGITS = 9
_SECOND_NS = 1_000_000_000
_DAY = 86_400 * _SECOND_NS

# For ns, µs, ms and s: the least number that is read in this unit, and the power of ten that converts the unit to ns.
# All four numbers stand for the same time in March 1973. So a smaller number, such as a duration, is refused as a time.
# The largest number of seconds is in the year 5138.
_UNITS = ((Decimal("1e17"), 0), (Decimal("1e14"), 3), (Decimal("1e11"), 6), (Decimal("1e8"), 9))
_LARGEST = Decimal(2**63)  # in nanoseconds, the year 2262
_LONGEST_NUMBER = 28  # characters; Decimal computes exactly with so many digits
_FRACTION = re.compile(rb"[0-9]{1,9}")
_NO_COLON = re.compile(r"(.*[0-9][+-][0-9]{2})([0-9]{2})")


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
    moment = (second - _EPOCH) // _SECOND * _SECOND_NS + int(fraction.ljust(_DIGITS, "0"))
    if moment < 0:
        raise ValueError("lies before 1970")
    return _not_ahead(moment)


def read_time(text: str) -> tuple[int, bool]:
    """Read a time as loggers write it: RFC 3339, also with an offset without a colon, or a number since 1970.

    Returns:
        Nanoseconds since 1970, and whether they are exactly the time that the text gives.

    Raises:
        ValueError: the text is no time, or the time is not allowed.
    """
    if text.replace(".", "", 1).isdecimal() or "E" in text or "e" in text:
        return read_number(text)
    no_colon = _NO_COLON.fullmatch(text)
    return read_occurred(f"{no_colon[1]}:{no_colon[2]}" if no_colon else text), True


def read_number(text: str) -> tuple[int, bool]:
    """Read seconds, milliseconds, microseconds or nanoseconds since 1970; the size of the number tells which.

    Returns:
        Nanoseconds since 1970, and whether they are exactly the time that the number gives.

    Raises:
        ValueError: the text is not such a number, or the time is not allowed.
    """
    if len(text) > _LONGEST_NUMBER or not JSON_NUMBER.fullmatch(text):
        raise ValueError("is not a number of seconds")
    try:
        number = Decimal(text)
    except InvalidOperation as exc:  # an exponent of 20 digits
        raise ValueError("is beyond every time") from exc
    if number > _LARGEST:
        raise ValueError("lies more than a day ahead")
    for least, digits in _UNITS:
        if number >= least:
            moment = number.scaleb(digits)
            return _not_ahead(int(moment)), moment == int(moment)
    raise ValueError("is too small a number for a time")


def read_object(value: bytes) -> tuple[int, bool]:
    """Read log4j2's {"epochSecond": 1764057600, "nanoOfSecond": 1}, or loguru's {"repr": "…", "timestamp": 1764057600}.

    Raises:
        ValueError: it is another object, or no time.
    """
    members = dict(read_members(value) or [])
    if members.keys() == {b'"repr"', b'"timestamp"'}:
        return read_number(members[b'"timestamp"'].decode(errors="replace"))
    second, fraction = members.get(b'"epochSecond"', b""), members.get(b'"nanoOfSecond"', b"0")
    if len(members) != 2 or not second.isdigit() or not _FRACTION.fullmatch(fraction):  # noqa: PLR2004
        raise ValueError("is not a time of log4j2 or loguru")
    return read_number(f"{second.decode()}.{int(fraction):09}")


def _not_ahead(moment: int) -> int:
    if moment > time.time_ns() + _DAY:
        raise ValueError("lies more than a day ahead: the sender's clock or its time zone is wrong")
    return moment
