"""Time literals are exact spans of milliseconds, in every zone."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventsvc.event import format_time
from eventsvc.query.times import EARLIEST, LATEST, NotATime, Span, read_time, zone

NOW = 1_517_400_000_123
HOUR = 3_600_000


def at(text: str) -> int:
    return round(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp() * 1000)


def read(text: str, tz: str = "UTC") -> Span:
    return read_time(text, now=NOW, tz=zone(tz))


@pytest.mark.parametrize("text", ["2018-01-01", "2018-1-1", "2018-01-1", " 2018-1-01 "])
def test_a_date_is_the_whole_day(text: str) -> None:
    assert read(text) == Span(at("2018-01-01"), at("2018-01-02"))


@pytest.mark.parametrize(
    ("day", "tz", "start", "hours"),
    [
        ("2018-03-25", "Europe/Berlin", "2018-03-24T23:00", 23),
        ("2018-10-28", "Europe/Berlin", "2018-10-27T22:00", 25),
        ("2018-06-01", "Asia/Kolkata", "2018-05-31T18:30", 24),
        ("2018-04-01", "Australia/Lord_Howe", "2018-03-31T13:00", 24.5),
        ("2018-03-11", "America/Havana", "2018-03-11T05:00", 23),  # midnight is skipped: the day begins at 01:00
        ("2018-11-04", "America/Havana", "2018-11-04T04:00", 25),  # midnight comes twice
        ("2018-02-17", "America/Sao_Paulo", "2018-02-17T02:00", 25),  # the day's last hour comes twice
        ("2011-12-30", "Pacific/Apia", "2011-12-30T10:00", 0),  # the day that Samoa left out
        ("2011-12-29", "Pacific/Apia", "2011-12-29T10:00", 24),
    ],
)
def test_days_are_as_long_as_in_their_zone(day: str, tz: str, start: str, hours: float) -> None:
    assert read(day, tz) == Span(at(start), at(start) + round(hours * HOUR))


@pytest.mark.parametrize(
    ("text", "instant"),
    [
        ("2018-01-31T10:00:00Z", "2018-01-31T10:00"),
        ("2018-01-31t10:00:00z", "2018-01-31T10:00"),
        ("2018-01-31 10:00:00.5Z", "2018-01-31T10:00:00.500"),
        ("2018-01-31T10:00Z", "2018-01-31T10:00"),
        ("2018-1-31T9:05+01:00", "2018-01-31T08:05"),
        ("2018-01-31T10:00:00.120000000-05:30", "2018-01-31T15:30:00.120"),
        ("2018-01-31T10:00:00,25+0100", "2018-01-31T09:00:00.250"),
        ("2018-01-31 10:00:00 Z", "2018-01-31T10:00"),
        ("2018-01-31T10:00:00", "2018-01-31T10:00"),
        ("2018-01-31 11:00:00 01:00", "2018-01-31T10:00"),  # a + in a URL that was not encoded
        ("2018-01-31 10:00:00+00", "2018-01-31T10:00"),
        ("2018-01-31 10:00:00 UTC", "2018-01-31T10:00"),
        ("2018-01-31 10:00 GMT", "2018-01-31T10:00"),
    ],
)
def test_a_time_is_one_millisecond(text: str, instant: str) -> None:
    assert read(text) == Span(at(instant), at(instant) + 1)


@pytest.mark.parametrize(
    ("text", "start", "end"),
    [
        ("2018-02", "2018-02-01", "2018-03-01"),
        ("2018-12", "2018-12-01", "2019-01-01"),
        ("2018", "2018-01-01", "2019-01-01"),
        ("2018/2019-02", "2018-01-01", "2019-02-01"),
    ],
)
def test_a_month_and_a_year_are_whole(text: str, start: str, end: str) -> None:
    assert read(text) == Span(at(start), at(end))


def test_months_begin_in_their_zone_and_end_with_time() -> None:
    assert read("2018-07", "Europe/Berlin") == Span(at("2018-06-30T22:00"), at("2018-07-31T22:00"))
    assert read("9999").end == read("9999-12").end == LATEST


@pytest.mark.parametrize(
    ("text", "back"), [("last 7 days", 168), ("last hour", 1), ("last 24 hours", 24), ("last week", 168)]
)
def test_the_last_hours_reach_to_now(text: str, back: int) -> None:
    assert read(text) == Span(NOW - back * HOUR, NOW + 1)


def test_words_for_days_are_days_in_the_zone() -> None:
    for tz in ("UTC", "Pacific/Kiritimati", "Pacific/Pago_Pago"):
        today = read("today", tz)
        assert today.start <= NOW < today.end
        assert read("yesterday", tz).end == today.start
        assert read("tomorrow", tz).start == today.end


def test_a_time_without_an_offset_is_in_the_zone() -> None:
    assert read("2018-07-01 00:00", "Europe/Berlin").start == at("2018-06-30T22:00")
    assert read("2018-07-01T00:00Z", "Europe/Berlin").start == at("2018-07-01")


@pytest.mark.parametrize("fraction", ["0005", "0000000001", "000999999999999999999999"])
def test_an_instant_between_two_milliseconds_is_an_empty_span(fraction: str) -> None:
    """So that nothing equals it, and what is greater begins at the next millisecond."""
    after = at("2018-01-31T10:00:00.001")
    span = read(f"2018-01-31T10:00:00.{fraction}Z")
    assert (span.start, span.end) == (after, after)


@pytest.mark.parametrize(
    ("fraction", "start", "end"),
    [
        ("", 0, 1_000_000),
        (".000", 0, 1_000_000),
        (".001000000", 1_000_000, 2_000_000),
        (".0005", 500_000, 500_001),
        (".000000001", 1, 2),
        (".123456789000", 123_456_789, 123_456_790),
        (".0000000001", 1, 1),
        (".0009999999999", 1_000_000, 1_000_000),
    ],
)
def test_an_instant_is_a_millisecond_or_with_more_digits_a_nanosecond(fraction: str, start: int, end: int) -> None:
    """And an empty span between two nanoseconds."""
    second = at("2018-01-31T10:00:00") * 1_000_000
    assert read(f"2018-01-31T10:00:00{fraction}Z").exact == (second + start, second + end)


def test_a_span_keeps_the_digits_of_both_ends() -> None:
    second = at("2018-01-31T10:00:00") * 1_000_000
    span = read("2018-01-31T10:00:00.000000001Z/2018-01-31T10:00:00.5Z")
    assert span.exact == (second + 1, second + 500_000_000)
    assert read("now-1h/now").exact == ((NOW - HOUR) * 1_000_000, NOW * 1_000_000)


@pytest.mark.parametrize(
    ("text", "offset"),
    [
        ("now", 0),
        ("now-15m", -15 * 60_000),
        ("now+2d", 48 * HOUR),
        ("now - 1 w", -168 * HOUR),
        ("now-1h-30m", -90 * 60_000),
        ("now-10s+10s", 0),
        ("now-0s", 0),
    ],
)
def test_relative_times_are_exact(text: str, offset: int) -> None:
    assert read(text) == Span(NOW + offset, NOW + offset + 1)


def test_a_span_goes_from_the_first_to_the_second() -> None:
    assert read("2018-01-01/2018-02-01") == Span(at("2018-01-01"), at("2018-02-01"))
    assert read("now-1h / now") == Span(NOW - HOUR, NOW)


@pytest.mark.parametrize("tz", ["UTC", "Pacific/Kiritimati", "Pacific/Pago_Pago", "Europe/Amsterdam"])
@pytest.mark.parametrize(
    "text", ["0001-01-01", "9999-12-31", "0001-01-01T00:00+23:59", "9999-12-31T23:59:59.9999-23:59", "9999-12-31T23:59"]
)
def test_the_first_and_last_years_do_not_overflow(text: str, tz: str) -> None:
    span = read(text, tz)
    assert EARLIEST <= span.start <= span.end <= LATEST
    assert read(f"{format_time(span.start)}/{format_time(span.end)}") == span


@pytest.mark.parametrize(
    "text",
    ["", "soon", "20180", "2018-00", "2018-13", "0000", "last", "last 5 months", "Today",
     "2018-02-30", "0000-01-01", "10000-01-01", "2018-01-01T", "2018-01-01T10", "10:00",
     "2018-01-01T24:00Z", "2018-01-01T10:60Z", "2018-01-01T10:00:60Z", "2018-01-01T10:00+24:00", "2018-01-01T10:00 CET",
     "2018-01-01Z", "now-", "now-5", "now-5y", "now-1.5h", "nowish", "now-99999999999999999999w", "now+9999999d",
     "/", "2018-01-02/2018-01-01", "2018-01-01/", "2018-01-01/2018-01-02/2018-01-03", "2018-01-01T10:00:00.Z",
     "\u0662\u0660\u0661\u0668-01-01"],
)  # fmt: skip
def test_everything_else_is_refused(text: str) -> None:
    with pytest.raises(NotATime):
        read(text)


@given(st.integers(EARLIEST, LATEST - 1))
def test_what_is_printed_is_read_again(moment: int) -> None:
    assert read(format_time(moment)) == Span(moment, moment + 1)


@given(st.datetimes(timezones=st.timezones()))
def test_offsets_are_understood_as_python_understands_them(moment: datetime) -> None:
    """Python's own arithmetic is the independent witness."""
    text = moment.isoformat()
    if moment.utcoffset() is None or len(text[19:].partition("+")[2]) > 5 or text.count(":") != 3:
        return  # an offset with seconds, of a time before there were zones
    try:
        expected = moment.astimezone(UTC)
    except OverflowError:
        return
    micros = (expected - datetime(1970, 1, 1, tzinfo=UTC)) // (datetime.resolution)
    start, rest = divmod(micros, 1000)
    if EARLIEST < start < LATEST - 1:
        span = read(text)
        assert (span.start, span.end) == ((start + 1, start + 1) if rest else (start, start + 1))
        assert span.exact == (micros * 1000, micros * 1000 + (1 if rest else 1_000_000))
