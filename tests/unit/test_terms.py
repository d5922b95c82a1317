"""Terms are exact: looking a coded needle up among coded terms is the substring test itself."""

from __future__ import annotations

import json
import math
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventsvc.text import case, terms

# What Java's Character.isWhitespace takes for white space, as documented: where the tokenizer cuts.
_JAVA_SPACE = re.compile("[\t-\r\x1c-\x20\u1680\u2000-\u2006\u2008-\u200a\u2028\u2029\u205f\u3000]+")
_TEXT = st.text(
    st.sampled_from("ab \t\x01\x02\x03\x04\u2003\u3000AİΣ😀") | st.characters(exclude_categories=["Cs"]), min_size=1
)
_NUMBERS = st.floats(allow_nan=False, allow_infinity=False) | st.integers(-(2**70), 2**70)


def _index(message: str) -> list[str]:
    """Cut as Elasticsearch's whitespace tokenizer does."""
    return _JAVA_SPACE.split(terms.trigrams(message))


def _finds(needle: str, tokens: list[str], *, at_start: bool) -> bool:
    whole, text = terms.needle_trigrams(needle, at_start=at_start)
    if not whole:
        return any(token.startswith(text) for token in tokens)
    phrase = _JAVA_SPACE.split(text)
    return any(tokens[place : place + len(phrase)] == phrase for place in range(len(tokens)))


@given(_TEXT, st.data())
def test_trigrams_find_each_substring_and_nothing_else(message: str, data: st.DataObject) -> None:
    start = data.draw(st.integers(0, len(message) - 1))
    piece = st.integers(1, 8).map(lambda length: message[start : start + length].swapcase())
    needle = data.draw(piece | _TEXT)
    folded, tokens = terms.fold(needle), _index(message)
    assert _finds(needle, tokens, at_start=False) == (folded in terms.fold(message))
    assert _finds(needle, tokens, at_start=True) == terms.fold(message).startswith(folded)


@given(_TEXT)
def test_tokens_survive_the_tokenizer(message: str) -> None:
    assert _index(message) == terms.trigrams(message).split(" ")
    assert len(_index(message)) == len(message) + 1


@given(st.text())
def test_fold_keeps_the_length_and_is_done_once(text: str) -> None:
    folded = terms.fold(text)
    assert len(folded) == len(text)
    assert terms.fold(folded) == folded


def test_fold_gives_the_same_by_table_and_by_python() -> None:
    """Python's own lower() is used where it agrees with the table, whatever its version of Unicode."""
    table = case.read_table()
    points = [*range(0xD800), *range(0xE000, 0x110000)]
    wrong = [hex(point) for point in points if terms.fold(chr(point)) != chr(table.get(point, point))]
    assert wrong == []
    # A neighbour from outside the ranges forces the way by table, one from inside the other.
    text = "".join(map(chr, points))
    assert terms.fold(text) == "".join(chr(table.get(point, point)) for point in points)


@pytest.mark.parametrize(
    ("text", "folded"),
    [("ΌΣΟΣ", "όσοσ"), ("İI", "ii"), ("ẞß", "ßß"), ("ǅ", "ǆ"), ("K", "k"), ("\U00010d50", "\U00010d70"), ("Ꟍ", "ꟍ")],
)
def test_fold_is_by_code_point(text: str, folded: str) -> None:
    assert terms.fold(text) == folded


@given(_NUMBERS, _NUMBERS)
def test_number_terms_sort_as_numbers(one: float, other: float) -> None:
    first, second = terms.as_number(one), terms.as_number(other)
    assert (terms.number_term(first) < terms.number_term(second)) == (first < second)
    assert (terms.number_term(first) == terms.number_term(second)) == (first == second)


def test_minus_zero_is_zero() -> None:
    assert terms.number_term(-0.0) == terms.number_term(0.0)


def test_a_number_beyond_float64_does_not_crash() -> None:
    assert terms.as_number(10**400) == math.inf
    assert terms.as_number(-(10**400)) == -math.inf


def test_data_terms_name_path_type_and_value() -> None:
    value = {"a": {"b.c": ["X", [1, [True]]]}, "z": None, "e": [], "o": {}}
    assert terms.data_terms(value) == [
        "a\0e:",
        "a.b\\.c\0e:",
        "a.b\\.c\0s:X",
        "a.b\\.c\0f:x",
        "a.b\\.c\0n:bff0000000000000",
        "a.b\\.c\0b:true",
        "z\0e:",
        "z\0z:",
        "o\0e:",
    ]


@pytest.mark.parametrize("value", [None, 1, "x", True, [], [1, "x", [None]]])
def test_data_without_paths_has_no_terms(value: object) -> None:
    assert terms.data_terms(value) == []


def test_an_array_on_top_is_looked_into() -> None:
    assert terms.data_terms([{"a": 1}, [[{"b": 2}]]]) == [
        "a\0e:", f"a\0{terms.number_term(1)}", "b\0e:", f"b\0{terms.number_term(2)}"
    ]  # fmt: skip


@given(st.lists(st.text(), min_size=1, max_size=4), st.lists(st.text(), min_size=1, max_size=4))
def test_paths_are_told_apart(one: list[str], other: list[str]) -> None:
    assert (terms.data_path(one) == terms.data_path(other)) == (one == other)


@pytest.mark.parametrize("text", ["x" * 60_000, "漢" * 20_000, "😀" * 16_000, "Ⱥ" * 30_000])
def test_no_term_is_too_long_for_lucene(text: str) -> None:
    for term in terms.data_terms({text: text, "a": {text: [text]}}):
        assert len(term.encode()) <= 32_766


@pytest.mark.parametrize("length", [4095, 4096, 4097, 7680, 7936, 7937, 7938, 12_000, 65_000])
def test_every_needle_lies_whole_in_a_window_of_a_long_string(length: int) -> None:
    text = "".join(chr(0x4E00 + place % 20_000) for place in range(length))
    windows = [term[4:] for term in terms.data_terms({"a": text}) if term[:3] == "a\0f"]
    for start in range(0, length, 7):
        needle = text[start : start + terms.LONGEST_NEEDLE]
        assert any(needle in window for window in windows), start
    assert sum(map(len, windows)) < 1.2 * length + terms.LONGEST_TEXT


def test_long_strings_sort_by_their_beginning_and_differ_by_their_end() -> None:
    same = "x" * terms.LONGEST_TEXT
    assert terms.text_term(same) < terms.text_term(same + "a")
    assert terms.text_term(same + "a") != terms.text_term(same + "b")
    assert terms.text_term(same[:-1] + "y") > terms.text_term(same + "z")


def test_terms_of_much_data_stay_bounded() -> None:
    """A long key over thousands of elements is kept by its digest."""
    value = {"k" * 500: list(range(20_000))}
    text = json.dumps(value)
    assert len(text) > 100_000
    assert sum(len(term) for term in terms.data_terms(value)) < 20 * len(text)
