"""Whatever a program logs becomes an event that the service takes."""

from __future__ import annotations

import json
from typing import Any

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from eventsvc import limits
from eventsvc.incoming.parser import EventParser
from eventsvc.text.sanitize import sanitize_text, sanitize_value

_anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary() | st.dates() | st.just(10**400),
    lambda inner: st.lists(inner) | st.dictionaries(st.text() | st.integers(), inner) | st.sets(st.integers()),
    max_leaves=30,
)


@settings(max_examples=60, deadline=None)
@given(st.text(), st.dictionaries(st.text(), _anything))
def test_what_is_cleaned_passes_the_check(message: str, data: dict[str, Any]) -> None:
    sent = {
        "email": "a@localhost",
        "environment": "e",
        "component": "c",
        "message": sanitize_text(message, limits.MESSAGE),
        "data": sanitize_value(data, limits.DATA_BYTES),
    }
    EventParser().parse(msgspec.json.encode(sent))


def test_a_list_that_holds_itself_ends() -> None:
    loop: list[Any] = []
    loop += [loop, loop, loop]
    assert len(json.dumps(sanitize_value({"loop": loop}, limits.DATA_BYTES))) < limits.DATA_BYTES + 1000


def test_of_too_much_data_the_beginnings_are_kept() -> None:
    sanitized = sanitize_value({"long": "x" * 100_000, "short": 1}, limits.DATA_BYTES)
    assert sanitized["truncated"] is True
    assert sanitized["short"] == 1
    assert sanitized["long"].startswith("xxx")


def test_a_text_is_never_empty_and_never_too_long() -> None:
    assert sanitize_text("", 10) == "(empty)"
    assert sanitize_text("x" * 11, 10) == "x" * 9 + "…"
    assert sanitize_text("a\0\ud800", 10) == "a\ufffd\ufffd"
