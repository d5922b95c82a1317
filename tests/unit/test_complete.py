"""Where a query ends, as the completion of the shell sees it."""

from __future__ import annotations

import pytest

from eventsvc.terminal import complete


@pytest.mark.parametrize(
    ("text", "expects", "begun"),
    [
        ("", "subject", ""),
        ("comp", "subject", "comp"),
        ("component ", "operator", ""),
        ("component e", "operator", "e"),
        ("component eq ", "value", ""),
        ("component eq 'or", "value", "'or"),
        ("component eq 'order book", "value", "'order book"),
        (r"component eq 'it\'s", "value", r"'it\'s"),
        ('component eq "or', "value", '"or'),
        ("component eq 'orders' ", "link", ""),
        ("component eq 'orders' A", "link", "A"),
        ("component eq 'orders' AND ", "subject", ""),
        ("component exists ", "link", ""),
        ("component in (", "value", ""),
        ("component in ('a'", "comma", ""),
        ("component in ('a', 'b", "value", "'b"),
        ("component in ('a', 'b') ", "link", ""),
        ("(NOT (component eq 'a' OR ema", "subject", "ema"),
        ("((component eq 'a')) ", "link", ""),
        ("'bare string' ", "link", ""),
        ("data.amount gt 30", "value", "30"),
        ("data.amount gt 30 ", "link", ""),
        ("data.'user id' ", "operator", ""),
        ("createdAt gte now-1h AND ", "subject", ""),
    ],
)
def test_what_may_come_next_is_known_from_what_stands_before(text: str, expects: str, begun: str) -> None:
    place = complete._find_place(text)
    assert (place.expects, place.begun) == (expects, begun)
    assert place.head + place.begun == text or place.head == text + " "


def test_a_word_after_a_string_is_set_apart() -> None:
    assert complete._find_place("component eq 'a'").head == "component eq 'a' "
