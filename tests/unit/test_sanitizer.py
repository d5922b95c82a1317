"""What is changed so that it can be stored keeps everything that was right about it."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import pytest

from eventsvc.incoming.parser import EventParser
from eventsvc.incoming.sanitizer import Sanitizer

_REST = '{"email": "a@b.test", "environment": "e", "component": "c", "message": "m\\u0000", "data": '


def _sanitize(data: str) -> Any:
    return json.loads(Sanitizer(EventParser()).parse(f"{_REST}{data}}}".encode()).data, parse_float=Decimal)


@pytest.mark.parametrize("number", ["1.5", "-0.25", "12345678901234567890.123", "1e300", "7"])
def test_a_number_stays_a_number_to_its_last_digit(number: str) -> None:
    assert _sanitize(f'{{"n": [{number}]}}')["n"] == [Decimal(number)]


def test_numbers_that_are_nested_too_deep_are_within_text() -> None:
    data = _sanitize('{"n": ' + "[" * 30 + "1.5, 12345678901234567890.123, 1e999" + "]" * 30 + "}")
    assert '[1.5, "12345678901234567890.123", "1e999"]' in json.dumps(data).replace('\\"', '"')


def test_data_that_is_too_large_and_no_object_becomes_text() -> None:
    value = _sanitize(json.dumps([1e300] * 10_000))["value"]
    assert value.startswith("[1")
    assert len(value) < 64 * 1024
