"""Text → AST: what may be said, what is refused and how, and the way back."""

from __future__ import annotations

import random
import tomllib
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eventsvc.errors import InvalidParameter, QueryError
from eventsvc.query import ast
from eventsvc.query.parse import DEEPEST, LONGEST, MOST_COMPARISONS, parse
from eventsvc.query.render import render
from eventsvc.text import numbers
from tests.fuzz import fuzz_parse

TESTS = Path(__file__).parents[2]
NOW = 1_517_400_000_000
EMAIL, MESSAGE = ast.Name("email"), ast.Name("message")


def read(text: str, tz: str = "UTC") -> ast.Node:
    return parse(text, now=NOW, tz=tz)


def refusal(text: str) -> QueryError:
    with pytest.raises(QueryError) as caught:
        read(text)
    return caught.value


def _equal(value: Any) -> ast.Equal:
    return ast.Equal(EMAIL, ast.Text(value))


A, B, C = _equal("a"), _equal("b"), _equal("c")


@pytest.mark.parametrize(
    ("text", "node"),
    [
        ("email eq 'a'", A),
        ('email eq "a"', A),
        ("email eq'a'", A),
        ("(((email eq 'a')))", A),
        ("\n\temail\r\neq 'a' ", A),
        ("email ne 'a'", ast.Not(A)),
        ("NOT email eq 'a'", ast.Not(A)),
        ("NOT email ne 'a'", A),
        ("NOT NOT(email eq 'a')", A),
        ("email eq 'a' AND email eq 'b' OR email eq 'c'", ast.Or((ast.And((A, B)), C))),
        ("email eq 'a' OR email eq 'b' AND email eq 'c'", ast.Or((A, ast.And((B, C))))),
        ("email eq 'a' AND (email eq 'b' AND email eq 'c')", ast.And((A, B, C))),
        ("(email eq 'a' OR email eq 'b') OR email eq 'c'", ast.Or((A, B, C))),
        ("NOT email eq 'a' AND email eq 'b'", ast.And((ast.Not(A), B))),
        ("NOT(email eq 'a' AND email eq 'b')", ast.Not(ast.And((A, B)))),
        ("email in('a','b' , 'a')", ast.In(EMAIL, (ast.Text("a"), ast.Text("b")))),
        ("email in ('a')", ast.In(EMAIL, (ast.Text("a"),))),
        ("message ct 'a'", ast.Contains(MESSAGE, "a")),
        ("message sw 'A'", ast.StartsWith(MESSAGE, "A")),
        ("message exists", ast.Exists(MESSAGE)),
        ("email eq ''", _equal("")),
    ],
)
def test_what_is_written_is_what_is_meant(text: str, node: ast.Node) -> None:
    assert read(text) == node


@pytest.mark.parametrize(
    ("literal", "value"),
    [
        (r"'it\'s'", "it's"),
        (r'"it\"s"', 'it"s'),
        ("'say \"so\"'", 'say "so"'),
        (r"'a\\b\/c'", "a\\b/c"),
        (r"'\n\r\t\b\f'", "\n\r\t\b\f"),
        (r"'\u00e9\uD83D\uDE00'", "é😀"),
        (r"'\\u00e9'", "\\u00e9"),
        (r"'\\\\n'", "\\\\n"),
        ("'two\nlines'", "two\nlines"),
        ("'\ufffd'", "\ufffd"),
        (r"'\ufffd\\'", "\ufffd\\"),
        ("'AND) OR (NOT'", "AND) OR (NOT"),
    ],
)
def test_strings(literal: str, value: str) -> None:
    assert read(f"email eq {literal}") == _equal(value)


@pytest.mark.parametrize(
    ("literal", "value"),
    [
        ("1", ast.Number(Decimal(1))),
        ("-0", ast.Number(Decimal(0))),
        ("0.5", ast.Number(Decimal("0.5"))),
        ("-1.5e-3", ast.Number(Decimal("-0.0015"))),
        ("1E+2", ast.Number(Decimal("1E+2"))),
        ("9007199254740993", ast.Number(Decimal(9007199254740993))),
        ("1" + "0" * 300, ast.Number(Decimal("1" + "0" * 300))),
        ("true", ast.Boolean(True)),
        ("false", ast.Boolean(False)),
        ("null", ast.Null()),
        ("'null'", ast.Text("null")),
    ],
)
def test_values_of_data(literal: str, value: ast.Value) -> None:
    node = read(f"data.a eq {literal}")
    assert node == ast.Equal(ast.Path(("a",)), value)
    assert str(node) == str(ast.Equal(ast.Path(("a",)), value))  # -0.0 == 0.0


@pytest.mark.parametrize(
    ("path", "keys"),
    [
        ("data.a", ("a",)),
        ("data.a.b-c.@d.$e.0", ("a", "b-c", "@d", "$e", "0")),
        ("data.'user id'.\"x.y\"", ("user id", "x", "y")),
        ("data.a[0].b[12]", ("a", "0", "b", "12")),
        ("data.a[*].b[]", ("a", "b")),
        ("data", ()),
        ("data.*", ()),
        (r"data.'a\'b'.''", ("a'b", "")),
        ("data.eq.AND.true.now", ("eq", "AND", "true", "now")),
        ("data.größe.漢", ("größe", "漢")),
        ("data.data", ("data",)),
    ],
)
def test_paths(path: str, keys: tuple[str, ...]) -> None:
    assert read(f"{path} eq null") == ast.Equal(ast.Path(keys), ast.Null())


def test_true_is_not_one() -> None:
    """Python says True == 1; a cache keyed by a node must not."""
    assert read("data.a eq true") != read("data.a eq 1")
    assert read("data.a in (1, true, 1.0)") == ast.In(ast.Path(("a",)), (ast.Number(Decimal(1)), ast.Boolean(True)))


def test_an_id_is_read_in_either_case() -> None:
    canonical = "1b4e28ba-2fa1-41d2-883f-0016d3cca427"
    assert read(f"id eq '{canonical.upper()}'") == ast.Equal(ast.Name("id"), ast.Text(canonical))


_ERRORS = tomllib.loads((TESTS / "language/errors.toml").read_text(encoding="utf-8"))["error"]


@pytest.mark.parametrize("case", _ERRORS, ids=[case["typed"] for case in _ERRORS])
def test_mistakes_are_answered_kindly(case: dict[str, Any]) -> None:
    error = refusal(case["typed"])
    said = {"offset": error.offset, "width": error.width, "says": error.reason}
    said |= {"expected": ", ".join(error.expected)} if error.expected else {}
    said |= {"hint": error.hint} if error.hint else {}
    assert said == {name: value for name, value in case.items() if name != "typed"}


def test_line_and_column() -> None:
    error = refusal("email eq 'x'\nAND\n  message ct buyer")
    assert (error.line, error.column, error.offset) == (3, 14, 30)


@pytest.mark.parametrize("text", ["a\0", "email eq '\0'", "email eq '\ud800'", "\udfff"])
def test_what_no_event_can_hold_is_refused(text: str) -> None:
    assert "is in no event" in refusal(text).reason


@pytest.mark.parametrize(
    "name", ["", "Nowhere", "../../etc/passwd", "Europe", "/etc/localtime", "\0", "x" * 5000, "Ümlaut"]
)
def test_an_unknown_zone_is_an_error_of_its_own(name: str) -> None:
    with pytest.raises(InvalidParameter):
        read("id exists", tz=name)


def test_the_longest_query_is_read_and_a_longer_one_is_not() -> None:
    longest = f"message eq '{'x' * (LONGEST - 13)}'"
    longest = longest.ljust(LONGEST)
    read(longest)
    error = refusal(longest + " ")
    assert error.reason == "the query has 8,193 characters, 8,192 are allowed"


@pytest.mark.parametrize("opening", ["(", "NOT (", "NOT ", "(NOT "])
def test_the_deepest_query_is_read_and_a_deeper_one_is_not(opening: str) -> None:
    levels = opening.count("(") + opening.count("NOT")

    def nested(count: int) -> str:
        return opening * count + "id exists" + ")" * (opening.count("(") * count)

    read(nested(DEEPEST // levels))
    assert refusal(nested(DEEPEST // levels + 1)).reason == "more than 64 levels of brackets and NOT"
    assert refusal(opening * 900).reason == "more than 64 levels of brackets and NOT"


def test_levels_side_by_side_do_not_add_up() -> None:
    read(" AND ".join(["NOT (NOT (id exists))"] * 100))


def test_the_largest_query_is_read_and_a_larger_one_is_not() -> None:
    def among(count: int) -> str:
        return f"data.a in ({','.join(['1'] * count)})"

    read(among(MOST_COMPARISONS))
    assert refusal(among(MOST_COMPARISONS + 1)).reason.startswith("more than 1,024 comparisons")
    assert refusal(among(MOST_COMPARISONS - 1) + " OR id exists OR id exists").reason.startswith("more than 1,024")


_PATHS = st.lists(st.text("ab.' \\é*", max_size=3), min_size=1, max_size=3).map(ast.path)
_NEEDLES = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=8)
_NUMBERS = (
    (st.floats(allow_nan=False, allow_infinity=False).map(repr) | st.decimals(-99, 99, places=30).map(str))
    .map(numbers.read)
    .map(ast.Number)
)
_VALUES = st.one_of(_NEEDLES.map(ast.Text), _NUMBERS, st.booleans().map(ast.Boolean), st.just(ast.Null()))
_MOMENTS = st.integers(-62_135_596_800_000, 253_402_300_799_999)
_COMPARISONS = st.one_of(
    st.builds(ast.Equal, _PATHS, _VALUES),
    st.builds(ast.In, _PATHS, st.lists(_VALUES, min_size=1, max_size=3, unique=True).map(tuple)),
    st.builds(ast.Contains, st.just(MESSAGE) | _PATHS, _NEEDLES),
    st.builds(ast.StartsWith, st.just(EMAIL) | _PATHS, _NEEDLES),
    st.builds(ast.Range, _PATHS, st.sampled_from(ast.Order), _NEEDLES.map(ast.Text) | _NUMBERS),
    st.builds(ast.Exists, st.just(MESSAGE) | _PATHS),
    st.builds(ast.Equal, st.just(ast.Name("id")), st.uuids().map(lambda value: ast.Text(str(value)))),
    _MOMENTS.map(lambda moment: ast.Created(moment, None)),
    _MOMENTS.map(lambda moment: ast.Created(None, moment)),
    st.tuples(_MOMENTS, _MOMENTS).map(sorted).map(lambda pair: ast.Created(pair[0], pair[1])),
)
NODES = st.recursive(
    _COMPARISONS,
    lambda inner: st.one_of(
        inner.map(ast.negation),
        st.lists(inner, min_size=2, max_size=3).map(ast.conjunction),
        st.lists(inner, min_size=2, max_size=3).map(ast.disjunction),
    ),
    max_leaves=6,
)


@given(NODES)
def test_reading_what_was_printed_gives_the_same_back(node: ast.Node) -> None:
    """Whatever the time and the zone it is read in."""
    assert parse(render(node), now=0, tz="Pacific/Apia") == node


def test_nothing_but_a_query_error_comes_out() -> None:
    """A taste of ``tests/fuzz/fuzz_parse.py``, which throws a million texts."""
    chance = random.Random()
    for _ in range(1500):
        fuzz_parse.check(fuzz_parse._draw(chance), chance)


@given(st.text(), st.integers(0, 2**32))
@settings(max_examples=200)
def test_any_text_at_all_is_read_or_refused(text: str, seed: int) -> None:
    fuzz_parse.check(text, random.Random(seed))


@given(st.text("(NOT idexs)'\"\\.,AR", max_size=300), st.integers(0, 2**32))
@settings(max_examples=200)
def test_text_of_the_languages_own_letters_is_read_or_refused(text: str, seed: int) -> None:
    fuzz_parse.check(text, random.Random(seed))
