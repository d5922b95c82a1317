"""The text of a key."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest

from eventsvc.access.key_text import digest, is_whole, key_id, make_key


def test_a_new_key_is_whole_and_no_two_are_alike() -> None:
    made = {make_key() for _ in range(200)}

    assert len(made) == 200
    assert all(is_whole(text) and re.fullmatch(r"ev_[0-9A-Za-z]{36}", text) for text in made)


def test_every_single_mistyped_character_is_noticed() -> None:
    text = make_key()
    wrong = {text[:i] + other + text[i + 1 :] for i in range(len(text)) for other in "0aZ" if text[i] != other}

    assert [] == [one for one in wrong if is_whole(one)]


@pytest.mark.parametrize("change", [str.lower, str.upper, lambda key: key[:-1], lambda key: f"{key}0", lambda _: ""])
def test_other_text_is_no_key(change: Callable[[str], str]) -> None:
    assert not is_whole(change(make_key()))


def test_two_swapped_neighbours_are_noticed() -> None:
    text = make_key()
    swapped = [text[:i] + text[i + 1] + text[i] + text[i + 2 :] for i in range(3, 38) if text[i] != text[i + 1]]

    assert [] == [one for one in swapped if is_whole(one)]


def test_what_is_stored_does_not_hold_the_secret() -> None:
    text = make_key()

    assert len(digest(text)) == 32
    assert key_id(text) == text[:11]  # 28 of 36 characters are left to guess
