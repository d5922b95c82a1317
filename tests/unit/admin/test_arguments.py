"""Months and ages as people write them."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

import pytest

from eventsvc.admin.commands.arguments import chosen_months, cutoff
from eventsvc.admin.commands.output import size
from eventsvc.admin.doctor import _without_password
from eventsvc.errors import InvalidParameter

OCTOBER, NOVEMBER = date(2026, 10, 1), date(2026, 11, 1)


def test_without_a_wish_it_is_every_month() -> None:
    assert chosen_months(None, {NOVEMBER, OCTOBER}) == [OCTOBER, NOVEMBER]
    assert chosen_months(["2026-11", "2026-11"], {NOVEMBER, OCTOBER}) == [NOVEMBER]


@pytest.mark.parametrize("text", ["2026-13", "2026-1", "November", "2026-11-01", ""])
def test_what_is_no_month_is_said_to_be_none(text: str) -> None:
    with pytest.raises(InvalidParameter, match="is not a month"):
        chosen_months([text], {NOVEMBER})


def test_a_month_that_is_not_indexed_is_named() -> None:
    with pytest.raises(InvalidParameter, match="nothing of 2026-10"):
        chosen_months(["2026-10"], {NOVEMBER})


@pytest.mark.parametrize(
    ("text", "age"), [("90d", timedelta(days=90)), ("2w", timedelta(days=14)), ("36h", timedelta(hours=36))]
)
def test_ages_count_from_now(text: str, age: timedelta) -> None:
    assert abs(datetime.now(UTC) - age - cutoff(text)) < timedelta(seconds=5)


def test_times_are_utc_unless_they_say_otherwise() -> None:
    assert cutoff("2026-11-01") == datetime(2026, 11, 1, tzinfo=UTC)
    assert cutoff("2026-11-01T01:00:00+01:00") == datetime(2026, 11, 1, tzinfo=UTC)
    with pytest.raises(InvalidParameter, match="neither"):
        cutoff("90")


def test_passwords_in_urls_are_hidden() -> None:
    assert _without_password("https://u:p@a:9200,http://b:1") == "https://***@a:9200,http://b:1"
    assert _without_password("plain@text") == "plain@text"


@pytest.mark.parametrize(
    ("number", "text"), [(None, "-"), (0, "0 B"), (1023, "1023 B"), (1536, "1.5 KiB"), (2**41, "2.0 TiB")]
)
def test_sizes_read_well(number: int | None, text: str) -> None:
    assert size(number) == text
