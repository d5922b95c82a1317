"""Time literals: each is a span of milliseconds, so that days and instants compare alike."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from eventsvc.errors import InvalidParameter

_DAY = 86_400_000  # milliseconds
_EPOCH = date(1970, 1, 1).toordinal()
EARLIEST = (date.min.toordinal() - _EPOCH) * _DAY
LATEST = (date.max.toordinal() + 1 - _EPOCH) * _DAY - 1

_UNITS = {"s": 1000, "m": 60_000, "h": 3_600_000, "d": _DAY, "w": 7 * _DAY}
_NOW = re.compile(r"now((?:\s*[+-]\s*[0-9]+\s*[smhdw])*)", re.ASCII)
_STEP = re.compile(r"([+-])\s*([0-9]+)\s*([smhdw])", re.ASCII)
_TIME = re.compile(
    r"([0-9]{4})-([0-9]{1,2})-([0-9]{1,2})"
    r"(?:(?:[Tt]|\x20+)([0-9]{1,2}):([0-9]{2})(?::([0-9]{2})(?:[.,]([0-9]+))?)?"
    r"\x20*([Zz]|[+-][0-9]{2}:?[0-9]{2})?)?"
)


class NotATime(Exception):
    """A literal that cannot be read; the text says why."""


@dataclass(frozen=True, slots=True)
class Span:
    """From start until before end, milliseconds since 1970.

    An instant between two milliseconds is an empty span at the next one: nothing equals it, and what is
    greater than it begins there.
    """

    start: int
    end: int


def zone(name: str) -> ZoneInfo:
    """The time zone of an IANA name.

    Raises:
        InvalidParameter: there is none of that name.
    """
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as exc:
        raise InvalidParameter("tz", "no such time zone; use an IANA name such as Europe/Berlin or UTC") from exc


def read_time(text: str, *, now: int, tz: ZoneInfo) -> Span:
    """What a literal stands for.

    Raises:
        NotATime: it is no date, time, span or ``now``.
    """
    first, slash, second = text.partition("/")
    if slash:
        start, end = (_read_one(part.strip(), now, tz).start for part in (first, second))
        if end < start:
            raise NotATime("the span ends before it begins")
        return Span(start, end)
    return _read_one(text.strip(), now, tz)


def _read_one(text: str, now: int, tz: ZoneInfo) -> Span:
    if match := _NOW.fullmatch(text):
        return _instant(now + sum(_step(*step) for step in _STEP.findall(match[1])))
    if match := _TIME.fullmatch(text):
        day = _read_date(match)
        return _whole_day(day, tz) if match[4] is None else _read_instant(day, match, tz)
    raise NotATime(_why_not(text))


def _step(sign: str, count: str, unit: str) -> int:
    if len(count) > 12:  # noqa: PLR2004  (digits: beyond every year there is)
        raise NotATime("the time lies outside the years 1 to 9999")
    return int(sign + count) * _UNITS[unit]


def _instant(milliseconds: int) -> Span:
    if not EARLIEST <= milliseconds <= LATEST:
        raise NotATime("the time lies outside the years 1 to 9999")
    return Span(milliseconds, milliseconds + 1)


def _read_date(match: re.Match[str]) -> date:
    try:
        return date(int(match[1]), int(match[2]), int(match[3]))
    except ValueError as exc:
        raise NotATime(f"there is no day {match[1]}-{match[2]}-{match[3]}") from exc


def _whole_day(day: date, tz: ZoneInfo) -> Span:
    end = _midnight(day + timedelta(days=1), tz) if day < date.max else LATEST
    return Span(_clamp(_midnight(day, tz)), _clamp(end))


def _midnight(day: date, tz: ZoneInfo) -> int:
    return (day.toordinal() - _EPOCH) * _DAY - _offset(day, time(), tz)


def _offset(day: date, clock: time, tz: ZoneInfo) -> int:
    # A time that the clocks skip gets the offset before the jump, one that they show twice the first.
    offset = datetime.combine(day, clock, tzinfo=tz).utcoffset() or timedelta()
    return offset // timedelta(milliseconds=1)


def _clamp(milliseconds: int) -> int:
    return min(max(milliseconds, EARLIEST), LATEST)


def _read_instant(day: date, match: re.Match[str], tz: ZoneInfo) -> Span:
    try:
        clock = time(int(match[4]), int(match[5]), int(match[6] or 0))
    except ValueError as exc:
        raise NotATime("hours go from 00 to 23, minutes and seconds from 00 to 59") from exc
    digits = (match[7] or "").ljust(3, "0")
    seconds = (clock.hour * 60 + clock.minute) * 60 + clock.second
    offset = _offset(day, clock, tz) if match[8] is None else _read_offset(match[8])
    start = (day.toordinal() - _EPOCH) * _DAY + seconds * 1000 + int(digits[:3]) - offset
    if digits[3:].strip("0"):
        return Span(_clamp(start + 1), _clamp(start + 1))
    return Span(_clamp(start), _clamp(start + 1))


def _read_offset(text: str) -> int:
    if text in "Zz":
        return 0
    hours, minutes = int(text[1:3]), int(text[-2:])
    if hours > 23 or minutes > 59:  # noqa: PLR2004
        raise NotATime("offsets go from -23:59 to +23:59")
    return (hours * 60 + minutes) * (-60_000 if text[0] == "-" else 60_000)


def _why_not(text: str) -> str:
    if text.startswith("now"):
        return "after now comes + or -, a whole number and a unit: s, m, h, d or w"
    return "this is not a time"


def format_instant(milliseconds: int) -> str:
    """RFC 3339 in UTC with milliseconds and Z."""
    days, rest = divmod(milliseconds, _DAY)
    instant = datetime.combine(date.fromordinal(days + _EPOCH), time(), tzinfo=UTC) + timedelta(milliseconds=rest)
    return instant.replace(tzinfo=None).isoformat(timespec="milliseconds") + "Z"
