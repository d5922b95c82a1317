"""AST → Elasticsearch: filters only, flat, and nothing that the index cannot say exactly."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import pytest

from eventsvc.fields import FIELDS, TEXTS
from eventsvc.query.parse import parse
from eventsvc.query.to_elasticsearch import DEEPEST, to_elasticsearch


def query(text: str) -> Any:
    return to_elasticsearch(parse(text, now=0))


def _bools(body: Any, level: int = 1) -> Iterator[tuple[int, dict[str, Any]]]:
    if isinstance(body, dict):
        if "bool" in body:
            yield level, body["bool"]
            level += 1
        for inner in body.values():
            yield from _bools(inner, level)
    elif isinstance(body, list):
        for inner in body:
            yield from _bools(inner, level)


_DATA = FIELDS["data"].exact
_TYPES = (("f=", "f>"), ("s:", "s;"))


def _either(queries: Iterable[Any]) -> Any:
    return {"bool": {"should": list(queries), "minimum_should_match": 1}}


@pytest.mark.parametrize(
    ("text", "body"),
    [
        ("email eq 'a*'", {"term": {"email": "a*"}}),
        ("message eq 'A b'", {"term": {"message.raw": "A b"}}),
        ("email in ('a', 'b')", {"terms": {"email": ["a", "b"]}}),
        ("email ct 'A*?\\\\'", {"wildcard": {"terms.email": {"value": "*a\\*\\?\\\\*"}}}),
        ("component sw 'A*'", {"prefix": {"terms.component": {"value": "a*"}}}),
        ("message ct 'A b'", {"match_phrase": {"terms.message": "aSb"}}),
        ("message ct 'Buyer'", {"match_phrase": {"terms.message": "buy uye yer"}}),
        ("message ct 'A '", {"prefix": {"terms.message": {"value": "aS"}}}),
        ("message sw 'A'", {"prefix": {"terms.message": {"value": "Ea"}}}),
        ("message sw 'AB'", {"match_phrase": {"terms.message": "Eab"}}),
        ("message exists", {"match_all": {}}),
        ("data.a.b exists", {"term": {"terms.data": "a.b\0e:"}}),
        ("data.a eq 'X'", {"term": {"terms.data": "a\0s:X"}}),
        ("data.a eq null", {"term": {"terms.data": "a\0z:"}}),
        ("data.a eq true", {"term": {"terms.data": "a\0b:true"}}),
        ("data.a ct 'X*'", {"wildcard": {"terms.data": {"value": "a\0f?*x\\**"}}}),
        ("data.'*' sw 'X'", _either({"prefix": {_DATA: {"value": f"*\0f{n}x"}}} for n in "=:")),
        ("data ct 'ab'", {"prefix": {"terms.values": {"value": "ab"}}}),
        ("data eq 'X'", {"term": {_DATA: "\\*\0s:X"}}),
        ("data.a.0 eq 'x'", {"term": {_DATA: "a.0\0f=x"}}),
        (
            "any ct 'abc'",
            _either(
                [
                    *({"wildcard": {f"terms.{name}": {"value": "*abc*"}}} for name in TEXTS[:-1]),
                    *({"match_phrase": {f"terms.{name}": "abc"}} for name in ("message", "values")),
                ]
            ),
        ),
        (
            "any eq '7'",
            _either(
                [
                    *({"term": {FIELDS[name].exact: "7"}} for name in TEXTS),
                    {"terms": {_DATA: ["\\*\0f=7", "\\*\0n:15000017"]}},
                ]
            ),
        ),
        ("data.a gte 'X'", _either({"range": {_DATA: {"gte": f"a\0{k}X", "lt": f"a\0{n}"}}} for k, n in _TYPES)),
        ("data.a lt 'X'", _either({"range": {_DATA: {"lt": f"a\0{k}X", "gte": f"a\0{k}"}}} for k, _ in _TYPES)),
        ("data.a gt 1", {"range": {"terms.data": {"gt": "a\0n:15000011", "lt": "a\0n;"}}}),
        ("data.a lte -1", {"range": {"terms.data": {"lte": "a\0n:-4999998~", "gte": "a\0n:"}}}),
        (
            "createdAt eq '1970-01-01'",
            {"range": {"createdAt": {"gte": 0, "lt": 86_400_000, "format": "epoch_millis"}}},
        ),
        ("email ne 'a'", {"bool": {"must_not": [{"term": {"email": "a"}}]}}),
        (
            "email eq 'a' AND NOT email eq 'b' AND NOT (id exists OR email eq 'c')",
            {
                "bool": {
                    "filter": [{"term": {"email": "a"}}],
                    "must_not": [{"terms": {"email": ["b", "c"]}}, {"match_all": {}}],
                }
            },
        ),
        ("email eq 'a' OR email eq 'b' OR email in ('c', 'd')", {"terms": {"email": ["a", "b", "c", "d"]}}),
        (
            "message ct 'abc' AND (email eq 'a' OR component eq 'b')",
            {
                "bool": {
                    "filter": [{"match_phrase": {"terms.message": "abc"}}],
                    "should": [{"term": {"email": "a"}}, {"term": {"component": "b"}}],
                    "minimum_should_match": 1,
                }
            },
        ),
    ],
)
def test_each_form(text: str, body: Any) -> None:
    assert query(text) == body


def test_long_chains_are_flat_and_short() -> None:
    """No deep nesting, and equalities of one field are one clause however many there are."""
    found = query(" OR ".join(f"email eq 'a{n}'" for n in range(300)))
    assert found == {"terms": {"email": [f"a{n}" for n in range(300)]}}
    ((level, one),) = _bools(query(" AND ".join(["message ct 'abc'"] * 300)))
    assert (level, len(one["filter"])) == (1, 300)


def test_brackets_and_double_negations_cost_no_depth() -> None:
    text = "id exists"
    for _ in range(12):
        text = f"(NOT (NOT ({text} AND email eq 'a')))"
    assert max(level for level, _ in _bools(query(text))) == 1


def test_every_choice_must_be_met_and_nothing_is_scored() -> None:
    text = "NOT (email eq 'a' OR message ct 'b' AND (data.a gt 1 OR NOT (data.b lt 2 OR id exists) AND email ct 'c'))"
    for _, one in _bools(query(text)):
        assert "must" not in one
        assert ("should" in one) == ("minimum_should_match" in one)


def test_what_would_be_too_deep_for_elasticsearch_is_left_to_sql() -> None:
    def nested(levels: int) -> str:
        text = "email ct 'a'"
        for level in range(levels):
            more = ("OR message ct 'b'", "AND message ct 'b' AND NOT id exists")[level % 2]
            text = f"({text}) {more}"
        return text

    assert query(nested(60)) is None
    for levels in range(1, 60):
        body = query(nested(levels))
        if body is not None:
            assert max(level for level, _ in _bools(body)) <= DEEPEST
    assert query(nested(20)) is not None


def test_what_is_too_long_for_an_automaton_is_left_to_sql() -> None:
    assert query(f"email ct '{'a' * 254}'") is not None
    assert query(f"email ct '{'a' * 255}'") is None
    assert query(f"data.a ct '{'a' * 300}'") is None
    assert query(f"data.{'k' * 500} ct '{'a' * 150}'") is not None
    assert query(f"message ct '{'a' * 8000}'") is not None
    assert query(f"data.a sw '{'x' * 400}'") is not None
    assert query(f"data.a sw '{'x' * 401}'") is None


def test_what_long_strings_do_not_keep_is_left_to_sql() -> None:
    assert query(f"data.a eq '{'x' * 8000}'") is not None
    assert query(f"data.a gt '{'x' * 4097}'") is None


def test_places_that_the_index_does_not_have_are_left_to_sql() -> None:
    assert query("data.a.15.b eq 1") is not None
    assert query("data.a.16.b eq 1") is None
    assert query("data.a.0.b.0 eq 1") is None
    assert query("data.a.00.b.1 eq 1") is not None
