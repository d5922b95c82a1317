"""Terms are exact: looking a coded needle up among coded terms is the substring test itself."""

# ruff: noqa: RUF001  (letters that look alike are the point)
from __future__ import annotations

import json
import re
from decimal import Decimal
from typing import Any

import pytest
import unicodedata2
from hypothesis import given
from hypothesis import strategies as st

from eventsvc.text import numbers, terms
from eventsvc.text.fold import fold
from eventsvc.text.numbers import Number

# What Java's Character.isWhitespace takes for white space, as documented: where the tokenizer cuts.
_JAVA_SPACE = re.compile("[\t-\r\x1c-\x20\u1680\u2000-\u2006\u2008-\u200a\u2028\u2029\u205f\u3000]+")
_TEXT = st.text(
    st.sampled_from("ab \t\x01\x02\x03\x04\u2003\u3000AİΣ😀e\u0301")
    | st.characters(exclude_categories=["Cs"], exclude_characters="\0"),
    min_size=1,
).filter(fold)
_FLOATS = st.floats(allow_nan=False, allow_infinity=False).map(lambda number: numbers.read(repr(number)))
_NUMBERS = _FLOATS | st.integers(-(2**70), 2**70) | st.decimals(-10, 10, places=4) | st.decimals(-9, 9, places=30)


def _index(*texts: str) -> list[str]:
    """Cut as Elasticsearch's whitespace tokenizer does."""
    return _JAVA_SPACE.split(terms.trigrams(fold(text) for text in texts))


def _finds(needle: str, tokens: list[str], *, at_start: bool) -> bool:
    whole, text = terms.needle_trigrams(needle, at_start=at_start)
    if not whole:
        return any(token.startswith(text) for token in tokens)
    phrase = _JAVA_SPACE.split(text)
    return any(tokens[place : place + len(phrase)] == phrase for place in range(len(tokens)))


@given(st.lists(_TEXT, min_size=1, max_size=3), st.data())
def test_trigrams_find_each_substring_and_nothing_else(texts: list[str], data: st.DataObject) -> None:
    start = data.draw(st.integers(0, len(texts[0]) - 1))
    piece = st.integers(1, 8).map(lambda length: texts[0][start : start + length].swapcase()).filter(fold)
    needle = data.draw(piece | _TEXT)
    folded, tokens = fold(needle), _index(*texts)
    assert _finds(needle, tokens, at_start=False) == any(folded in fold(text) for text in texts)
    assert _finds(needle, tokens, at_start=True) == any(fold(text).startswith(folded) for text in texts)


@given(_TEXT)
def test_tokens_survive_the_tokenizer(message: str) -> None:
    assert _index(message) == terms.trigrams([fold(message)]).split(" ")
    assert len(_index(message)) == len(fold(message)) + 1


@pytest.mark.parametrize(
    ("text", "folded"),
    [
        ("ΌΣΟΣ ς", "όσοσ σ"), ("İIiı", "iiii"), ("ẞß", "ssss"), ("ǅ", "ǆ"), ("K", "k"), ("\U00010d50", "\U00010d70"),
        ("Ꟍ", "ꟍ"), ("E\u0301", "é"), ("J\u030c", "ǰ"), ("Å", "å"), ("α\u0345", "αι"), ("ﬁ", "fi"),
        ("\x1b[1;31mA\x1b[0m\x1b[Kb", "ab"), ("\x1b[", "\x1b["), ("[31m", "[31m"),
    ],
)  # fmt: skip
def test_fold_is_what_people_see(text: str, folded: str) -> None:
    assert fold(text) == folded


@given(_TEXT)
def test_spellings_that_are_canonically_equivalent_fold_alike(text: str) -> None:
    assert fold(unicodedata2.normalize("NFD", text)) == fold(text)


@given(_NUMBERS, _NUMBERS)
def test_number_terms_sort_as_numbers(first: Number, second: Number) -> None:
    assert (numbers.term(first) < numbers.term(second)) == (first < second)
    assert (numbers.term(first) == numbers.term(second)) == (first == second)


@given(_NUMBERS)
def test_numbers_are_read_as_they_are_written(number: Number) -> None:
    assert numbers.read(numbers.plain(number)) == number


@pytest.mark.parametrize("text", ["0e5", "0.0e3", "-0e5", "-0.0", "0E+400", "5e0", "0.0"])
def test_a_float_keeps_its_point_and_has_terms(text: str) -> None:
    """Zero too, whatever its exponent."""
    number = numbers.read_float(text)
    assert "." in numbers.plain(number)
    assert f"a\x00{numbers.term(number)}" in terms.code_data({"a": number}).terms


@given(st.from_regex(r"-?(0|[1-9][0-9]{0,320})\.[0-9]{1,320}", fullmatch=True))
def test_a_number_with_a_point_is_read_exactly_however_long(text: str) -> None:
    """Short numbers are read without the checks of ``read``, which would change nothing."""
    try:
        whole = numbers.read(text)
    except numbers.OutOfRange:
        with pytest.raises(numbers.OutOfRange):
            numbers.read_float(text)
    else:
        number = numbers.read_float(text)
        assert number == whole
        assert "." in numbers.plain(number)


def test_a_zero_without_a_point_has_terms() -> None:
    assert terms.code_data({"a": numbers.read("-0.0")}).terms == ["a\x00e:", "a\x00n:0", "\\*\x00n:0"]


@given(_NUMBERS)
def test_a_numbers_term_is_read_again(number: Number) -> None:
    text = numbers.read_term(numbers.term(number))
    assert Decimal(text) == number
    assert "." not in text or not text.endswith("0")


@given(_TEXT | _NUMBERS | st.booleans() | st.none() | st.sampled_from(["x" * 4096, "X" * 4096, "10", "true"]))
def test_a_value_is_read_from_its_terms(value: Any) -> None:
    """And from one of them only; so the values of a place are those that its terms tell."""
    start = terms.data_path(["a"])
    coded = [term.removeprefix(start) for term in terms.code_data({"a": value}).terms if term.startswith(start)]
    told = [code for code in map(terms.value_of, coded) if code is not None]
    assert len(told) == 1
    assert terms.term_of(told[0]) in coded
    if isinstance(value, str):
        assert told == [f"s:{value}"]
    elif value is None or isinstance(value, bool):
        assert told == ["z:" if value is None else f"b:{json.dumps(value)}"]
    else:
        assert Decimal(told[0].removeprefix("n:")) == value


def test_a_string_that_is_longer_than_its_term_is_not_told() -> None:
    start = terms.data_path(["a"])
    for text in ("x" * 4097, "X" * 4097):
        coded = [term.removeprefix(start) for term in terms.code_data({"a": text}).terms if term.startswith(start)]
        with pytest.raises(ValueError, match="longer"):
            list(map(terms.value_of, coded))


@pytest.mark.parametrize("text", ["-0.0", "0", "0.000", "-0"])
def test_there_is_one_zero(text: str) -> None:
    assert numbers.term(numbers.read(text)) == "n:0"


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("1e309", "beyond"), ("-1.8e308", "beyond"), ("1e99999999999999999999", "beyond"), ("1e-400", "nearer to zero"),
        ("2e-324", "nearer to zero"), ("-1e-99999999999999999999", "5e-324"), ("0." + "1" * 999, "digits"),
    ],
)  # fmt: skip
def test_numbers_that_no_store_holds_are_refused(text: str, why: str) -> None:
    with pytest.raises(numbers.OutOfRange, match=why):
        numbers.read(text)
    assert numbers.read_number(text) is None


@pytest.mark.parametrize("text", ["1.7976931348623157e308", "5e-324", "0." + "1" * 998, "0e-9", "-3e-324"])
def test_numbers_at_the_ends_are_read(text: str) -> None:
    assert numbers.read(text) == Decimal(text)


def test_data_terms_name_path_type_and_value() -> None:
    coded = terms.code_data({"a": {"b.c": ["X", [1, [True]]]}, "z": None, "e": [], "o": {}, "t": "x"})
    assert set(coded.terms) == {
        "a\0e:", "a.b.c\0e:", "\\*\0s:X", "a.b.c\0s:X", "a.b.c\0f:x", "a.b.c\0n:15000011", "\\*\0n:15000011",
        "a.b.c\0b:true", "\\*\0b:true", "a.b.c.0\0e:", "a.b.c.0\0b:true", "a.b.c.0\0s:X", "a.b.c.0\0f:x",
        "a.b.c.0\0n:15000011", "a.b.c.1\0e:", "a.b.c.1\0n:15000011", "a.b.c.1\0b:true", "z\0e:", "z\0z:",
        "\\*\0z:", "o\0e:", "t\0e:", "\\*\0f=x", "t\0f=x",
    }  # fmt: skip
    assert list(coded.texts) == ["x", "1"]


@pytest.mark.parametrize(
    ("text", "spelled"),
    [("0.1", False), ("1.0", False), ("0.10", True), ("123456789012345678.12", True), ("7190000000000000789", False)],
)
def test_what_a_float_would_spell_otherwise_is_told(text: str, *, spelled: bool) -> None:
    value = int(text) if "." not in text else Decimal(text)
    assert terms.code_data({"a": [value]}).spelled is spelled


@pytest.mark.parametrize(("value", "found"), [(1, ["n:15000011"]), ("X", ["s:X"]), ([], []), ({}, [])])
def test_data_that_is_no_object_has_terms_of_no_path(value: object, found: list[str]) -> None:
    assert list(terms.code_data(value).terms) == [terms.ANYWHERE + term for term in found]


def test_an_array_on_top_is_looked_into() -> None:
    found = terms.code_data([{"a": 1}, [[{"b": 2}]]]).terms
    assert {"a\0e:", f"a\0{numbers.term(1)}", "0.a\0e:", "b\0e:", f"b\0{numbers.term(2)}", "1.b\0e:"} < set(found)


def test_only_the_first_elements_are_found_by_their_place() -> None:
    found = terms.code_data({"a": list(range(40))}).terms
    assert f"a.15\0{numbers.term(15)}" in found
    assert f"a.16\0{numbers.term(16)}" not in found


@given(st.lists(st.text(), min_size=1, max_size=4), st.lists(st.text(), min_size=1, max_size=4))
def test_paths_are_told_apart(one: list[str], other: list[str]) -> None:
    assert (terms.data_path(one) == terms.data_path(other)) == (".".join(one) == ".".join(other))


@pytest.mark.parametrize("text", ["x" * 60_000, "漢" * 20_000, "😀" * 16_000, "Ⱥ" * 30_000])
def test_no_term_is_too_long_for_lucene(text: str) -> None:
    for term in terms.code_data({text: text, "a": {text: [text]}}).terms:
        assert len(term.encode()) <= 32_766


@pytest.mark.parametrize("length", [4095, 4096, 4097, 7680, 7936, 7937, 7938, 12_000, 65_000])
def test_every_needle_lies_whole_in_a_window_of_a_long_string(length: int) -> None:
    text = "".join(chr(0x4E00 + place % 20_000) for place in range(length))
    windows = [term[4:] for term in terms.code_data({"a": text}).terms if term[:3] == "a\0f"]
    for start in range(0, length, 7):
        needle = text[start : start + terms.LONGEST_NEEDLE]
        assert any(needle in window for window in windows), start
    assert sum(map(len, windows)) < 1.2 * length + terms.LONGEST_TEXT


def test_long_strings_sort_by_their_beginning_and_differ_by_their_end() -> None:
    same = "X" * terms.LONGEST_TEXT
    assert terms.text_term(same) < terms.text_term(same + "a")
    assert terms.text_term(same + "a") != terms.text_term(same + "b")
    assert terms.text_term(same[:-1] + "y") > terms.text_term(same + "z")


def test_terms_of_much_data_stay_bounded() -> None:
    """A long key over thousands of elements is kept by its digest."""
    value = {"k" * 500: list(range(20_000))}
    text = json.dumps(value)
    assert len(text) > 100_000
    assert sum(len(term) for term in terms.code_data(value).terms) < 20 * len(text)
