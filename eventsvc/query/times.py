"""Read and write times. Each time literal becomes a span, so that days and instants compare alike."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from eventsvc.errors import InvalidParameter
from eventsvc.event import NANOSECONDS

_DAY = 86_400_000  # milliseconds
_DIGITS = 9  # of a fraction of a second: nanoseconds
_EPOCH = date(1970, 1, 1).toordinal()
EARLIEST = (date.min.toordinal() - _EPOCH) * _DAY
LATEST = (date.max.toordinal() + 1 - _EPOCH) * _DAY - 1

_UNITS = {"s": 1000, "m": 60_000, "h": 3_600_000, "d": _DAY, "w": 7 * _DAY}
_NOW = re.compile(r"now((?:\s*[+-]\s*[0-9]+\s*[smhdw])*)", re.ASCII)
_STEP = re.compile(r"([+-])\s*([0-9]+)\s*([smhdw])", re.ASCII)
_TIME = re.compile(
    r"([0-9]{4})-([0-9]{1,2})-([0-9]{1,2})"
    r"(?:(?:[Tt]|\x20+)([0-9]{1,2}):([0-9]{2})(?::([0-9]{2})(?:[.,]([0-9]+))?)?"
    r"\x20*([Zz]|UTC|GMT|[+\x20-][0-9]{2}(?::?[0-9]{2})?)?)?"  # a + in a URL that was not encoded is a space
)
_MONTH = re.compile(r"([0-9]{4})(?:-([0-9]{1,2}))?", re.ASCII)
_LAST = re.compile(r"last\s+(?:([0-9]+)\s+)?(second|minute|hour|day|week)s?", re.ASCII)
_DAYS = {"yesterday": -1, "today": 0, "tomorrow": 1}
_MOVING = re.compile(r"now|last|yesterday|today|tomorrow|\\")  # an escape may stand for a letter

# What people and programs write, and what to write instead. The first pattern that matches wins.
_HINTS = (
    (r"now\s*/", "write 'today', 'yesterday' or a date"),
    (r"now\s*[-+]\s*\d+\s*(?:M|mo|y)", "months and years have no fixed length: write now-30d, or a date"),
    (r"now", "for example now-15m, now-1h-30m, now-7d"),
    (r".*\[", "leave the zone in brackets out; a time's offset is enough, and the parameter tz names a zone"),
    (r"\d{1,2}[/.]\d{1,2}[/.]\d{2,4}\b", "write the year first: '2018-01-31'"),
    (r"\d{4}[/.]\d{1,2}[/.]\d{1,2}", "write hyphens: '2018-01-31'"),
    (r"\d{8}(?:[Tt]|$)", "write hyphens and colons: '2018-01-31T10:00:00Z'"),
    (r"\d{4}-\d{1,2}-\d{1,2}[Tt\s].*[^\d\s]", "write an offset as in '2018-01-31T11:00:00+01:00', or a Z"),
    (r"(?:last|past|this|next)\b", "for example 'last 7 days', 'last hour', 'today', or a month: '2018-01'"),
    (r"(?i:today|yesterday|tomorrow|last|now)", "words are lower case: today, yesterday, 'last 7 days', now"),
    (
        r"(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun|Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec)|\d{1,2}\s",
        "write '2018-01-31'",
    ),
    (r"\d{4}-W|\d{4}-\d{3}$", "weeks and days of the year are not read: write '2018-01-31'"),
)


# Slashes that do not stand between two times.
_SLASHED = re.compile(r"now\s*/\s*[a-zA-Z]$|\d{1,4}/\d{1,2}/\d{1,4}|.*\[")


class NotATime(Exception):
    """A literal is no time; the exception's text says why.

    Attributes:
        hint: what to write instead; may be empty.
    """

    def __init__(self, reason: str, hint: str = "") -> None:
        self.hint = hint
        super().__init__(reason)


@dataclass(frozen=True, slots=True)
class Span:
    """A half-open span of time, from start until before end, in milliseconds since 1970.

    An instant between two milliseconds is an empty span at the later millisecond: no createdAt equals such an
    instant, and the first createdAt greater than the instant is that millisecond.

    Attributes:
        fine: start and end in nanoseconds, for an instant that is finer than a millisecond. The span is one nanosecond
            long, or empty if the instant lies between two nanoseconds. None: the milliseconds are exact.
    """

    start: int
    end: int
    fine: tuple[int, int] | None = None

    @property
    def exact(self) -> tuple[int, int]:
        """The start and the end in nanoseconds since 1970."""
        return self.fine or (self.start * NANOSECONDS, self.end * NANOSECONDS)


def zone(name: str) -> ZoneInfo:
    """Look up a time zone by its IANA name.

    Raises:
        InvalidParameter: there is no time zone of this name.
    """
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as exc:
        raise InvalidParameter("tz", "no such time zone; use an IANA name such as Europe/Berlin or UTC") from exc


def may_move(text: str) -> bool:
    """Tell whether a query's meaning may depend on the time it is asked. False is certain, True is a guess."""
    return _MOVING.search(text) is not None


def read_time(text: str, *, now: int, tz: ZoneInfo) -> Span:
    """Read a time literal.

    Raises:
        NotATime: the literal is no date, time, span or ``now``.
    """
    first, slash, second = text.partition("/")
    if slash and not _SLASHED.match(text):
        begin, end = (_read_one(part.strip(), now, tz) for part in (first, second))
        fine = (begin.exact[0], end.exact[0])
        if fine[1] < fine[0]:
            raise NotATime("the span ends before it begins")
        return Span(begin.start, end.start, fine if begin.fine or end.fine else None)
    return _read_one(text.strip(), now, tz)


def _read_one(text: str, now: int, tz: ZoneInfo) -> Span:
    if match := _NOW.fullmatch(text):
        return _instant(now + sum(_step(*step) for step in _STEP.findall(match[1])))
    if match := _TIME.fullmatch(text):
        day = _read_date(match)
        return _whole_day(day, tz) if match[4] is None else _read_instant(day, match, tz)
    if match := _MONTH.fullmatch(text):
        return _whole_month(match, tz)
    if match := _LAST.fullmatch(text):
        return Span(_instant(now + _step("-", match[1] or "1", match[2][0])).start, now + 1)
    if text in _DAYS:
        return _whole_day(_day_of(now, tz) + timedelta(days=_DAYS[text]), tz)
    hint = next((hint for pattern, hint in _HINTS if re.match(pattern, text)), "")
    raise NotATime(_why_not(text), hint)


def _day_of(now: int, tz: ZoneInfo) -> date:
    return (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=now)).astimezone(tz).date()


def _whole_month(match: re.Match[str], tz: ZoneInfo) -> Span:
    """Give the span of a month or of a year."""
    year, month = int(match[1]), int(match[2] or 1)
    if not 1 <= year <= date.max.year or not 1 <= month <= 12:  # noqa: PLR2004
        raise NotATime(f"there is no {'month' if match[2] else 'year'} {match[0]}")
    months = year * 12 + (month if match[2] else 12)
    start = _midnight(date(year, month, 1), tz)
    end = LATEST if months >= (date.max.year + 1) * 12 else _midnight(date(months // 12, months % 12 + 1, 1), tz)
    return Span(_clamp(start), _clamp(end))


def _step(sign: str, count: str, unit: str) -> int:
    if len(count) > 12:  # noqa: PLR2004  (digits: beyond the year 9999 in any unit)
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
    # A local time that the clocks skip gets the offset before the jump. A time that occurs twice gets the first offset.
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
        nanosecond = start * NANOSECONDS + int(digits[3:_DIGITS].ljust(6, "0"))
        beyond = bool(digits[_DIGITS:].strip("0"))
        fine = (nanosecond + beyond, nanosecond + 1) if EARLIEST <= start < LATEST else None
        return Span(_clamp(start + 1), _clamp(start + 1), fine)
    return Span(_clamp(start), _clamp(start + 1))


def _read_offset(text: str) -> int:
    if text in ("Z", "z", "UTC", "GMT"):
        return 0
    hours, minutes = int(text[1:3]), int(text[3:].removeprefix(":") or 0)
    if hours > 23 or minutes > 59:  # noqa: PLR2004
        raise NotATime("offsets go from -23:59 to +23:59")
    return (hours * 60 + minutes) * (-60_000 if text[0] == "-" else 60_000)


def _why_not(text: str) -> str:
    if text.startswith("now"):
        return "after now comes + or -, a whole number and a unit: s, m, h, d or w"
    return "this is not a time"


_LAST_NANOSECOND = 2**63 - 1


def clamp_nanoseconds(nanoseconds: int) -> int:
    """Limit a time in ns since 1970 to the times that both stores can hold: 0 to 2**63 - 1.

    No event has a time before 0, and none has the last time, so a comparison keeps its meaning.
    """
    return min(max(nanoseconds, 0), _LAST_NANOSECOND)
