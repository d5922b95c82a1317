"""The piece of the query with a caret under the place."""

from __future__ import annotations

import pytest

from eventsvc.errors import QueryError
from eventsvc.query.mistakes import render_excerpt


def show(text: str, offset: int, width: int = 1) -> list[str]:
    return render_excerpt(QueryError("wrong", text=text, offset=offset, width=width)).split("\n")


@pytest.mark.parametrize(
    ("text", "offset", "width", "shown"),
    [
        ("email = 'x'", 6, 1, ["email = 'x'", "      ^"]),
        ("email == 'x'", 6, 2, ["email == 'x'", "      ^^"]),
        ("", 0, 1, ["", "^"]),
        ("email", 5, 1, ["email", "     ^"]),
        ("one\ntwo x\nthree", 8, 1, ["two x", "    ^"]),
        ("one x\ntwo", 4, 1, ["one x", "    ^"]),
        ("one\r\ntwo\r\nthree", 5, 3, ["two", "^^^"]),
        ("one\n", 4, 1, ["", "^"]),
        ("a\tb =", 4, 1, ["a b =", "    ^"]),
        ("a\u200bb", 1, 1, ["a\ufffdb", " ^"]),
        ("abc", 1, 50, ["abc", " ^^"]),
        ("a\nb c", 0, 50, ["a", "^"]),
        ("漢字 =", 3, 1, ["漢字 =", "     ^"]),
        ("😀x", 0, 1, ["😀x", "^^"]),
        ("e\u0301 =", 3, 1, ["e\u0301 =", "  ^"]),
        ("a\ud800", 1, 1, ["a\ufffd", " ^"]),
    ],
)
def test_the_caret_stands_under_the_place(text: str, offset: int, width: int, shown: list[str]) -> None:
    assert show(text, offset, width) == shown


@pytest.mark.parametrize("offset", [0, 50, 99, 100, 500, 999, 1000])
def test_long_lines_are_cut_round_the_place(offset: int) -> None:
    text = "".join(chr(ord("a") + place % 26) for place in range(1000))
    line, caret = show(text, offset)
    assert len(line) <= 102
    place = caret.index("^")
    assert line[place : place + 1] == text[offset : offset + 1]
    assert line.startswith("…") == (offset > 60)
