"""A stream becomes events whatever pieces it arrives in, and however it is cut."""

from __future__ import annotations

import io
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eventsvc.errors import InvalidBody, InvalidEvents
from eventsvc.incoming import split


class Pieces:
    """Gives a body in pieces of a size of its own."""

    def __init__(self, body: bytes, size: int) -> None:
        self._file, self._size = io.BytesIO(body), size

    def read(self, size: int) -> bytes:
        return self._file.read(min(size, self._size))


_json = st.recursive(
    st.none() | st.integers() | st.text(st.sampled_from('a,"[]{}\\é\n'), max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=12,
)


@settings(max_examples=150, deadline=None)
@given(st.lists(_json, max_size=8), st.integers(1, 50), st.sampled_from([None, 1]))
def test_the_elements_of_an_array_are_found(elements: list[Any], size: int, indent: int | None) -> None:
    body = b" \n" + json.dumps(elements, indent=indent).encode() + b"\n "
    found = list(split.split_json(Pieces(body, size), 10_000))
    assert [number for number, _ in found] == list(range(1, len(elements) + 1))
    assert [json.loads(raw) for _, raw in found] == elements  # type: ignore[arg-type]


@settings(max_examples=150, deadline=None)
@given(st.lists(_json, min_size=1, max_size=8), st.data())
def test_a_cut_array_is_never_taken_for_a_whole_one(elements: list[Any], data: Any) -> None:
    body = json.dumps(elements).encode()
    cut = body[: data.draw(st.integers(1, len(body) - 1))]
    with pytest.raises(InvalidBody, match="the body ends inside event"):
        list(split.split_json(Pieces(cut, 7), 10_000))


def test_deep_elements_are_found_too() -> None:
    deep = b"[" * 500 + b"]" * 500
    found = list(split.split_json(Pieces(b"[" + deep + b', {"a": ' + deep + b"}]", 64), 10_000))
    assert [raw.strip() for _, raw in found] == [deep, b'{"a": ' + deep + b"}"]  # type: ignore[union-attr]


@settings(max_examples=100, deadline=None)
@given(st.lists(_json, max_size=6), st.sampled_from(["events", "logs"]), st.sampled_from([None, 1]))
def test_the_records_of_an_envelope_are_found(elements: list[Any], name: str, indent: int | None) -> None:
    body = b"\n " + json.dumps({name: elements}, indent=indent).encode() + b" \n"
    found = list(split.split_json(Pieces(body, 300), 10_000, envelope=True))
    assert [json.loads(raw) for _, raw in found] == elements  # type: ignore[arg-type]
    for cut in range(body.index(b"[") + 1, len(body.rstrip())):
        with pytest.raises(InvalidBody, match="the body ends"):
            list(split.split_json(Pieces(body[:cut], 300), 10_000, envelope=True))


@pytest.mark.parametrize("after", [b', "x": 1}', b"}}", b"} {}", b"]}", b"} x"])
def test_what_follows_the_array_of_an_envelope_is_refused(after: bytes) -> None:
    with pytest.raises(InvalidBody, match="something follows the array of 1 events"):
        list(split.split_json(Pieces(b'{"logs": [{}]' + after, 300), 100, envelope=True))


def test_what_follows_an_array_is_refused() -> None:
    with pytest.raises(InvalidBody, match="something follows the array of 1 events"):
        list(split.split_json(Pieces(b'[{}]\n{"a": 1}', 3), 100))


def test_an_element_without_end_does_not_fill_memory() -> None:
    with pytest.raises(InvalidBody, match="the body ends inside event 2 of the array"):
        list(split.split_json(Pieces(b'[{}, "' + b"x" * 100_000, 50), 100))


@pytest.mark.parametrize("size", [1, 9, 50, 1000])
@pytest.mark.parametrize("long", [b'"%b"', b'{"a":"\\"%b,]}"}', b'[["%b"]]', b'{"%b":{}}'])
def test_an_element_that_is_too_long_is_one_bad_event(size: int, long: bytes) -> None:
    body = b"[1," + long % (b"x" * 500) + b" , {}," + long % (b"]" * 101) + b"]"
    found = [isinstance(raw, InvalidEvents) for _, raw in split.split_json(Pieces(body, size), 100)]
    assert found == [False, True, False, True]


@settings(max_examples=150, deadline=None)
@given(
    st.lists(st.dictionaries(st.text(max_size=3), _json, max_size=3), max_size=8),
    st.integers(1, 50),
    st.sampled_from(["", "\n", " \r\n\t"]),
)
def test_objects_that_follow_one_another_are_found(objects: list[Any], size: int, between: str) -> None:
    body = between.join(map(json.dumps, objects)).encode() + between.encode()
    found = list(split.split_json(Pieces(body, size), 10_000))
    assert [number for number, _ in found] == list(range(1, len(objects) + 1))
    assert [json.loads(raw) for _, raw in found] == objects  # type: ignore[arg-type]


@pytest.mark.parametrize("size", [1, 7, 1000])
def test_what_is_no_object_is_left_to_the_parser(size: int) -> None:
    found = [
        raw for _, raw in split.split_json(Pieces(b'{"a":1}, {"b":"' + b"y" * 200 + b'"}{"c":[1]} x {"d"', size), 99)
    ]
    assert found[0::2] == [b'{"a":1}', b'{"c":[1]}']
    assert isinstance(found[1], InvalidEvents)
    assert found[3:] == [b' x {"d"']


@pytest.mark.parametrize("size", [1, 2, 1000])
def test_a_byte_order_mark_is_skipped(size: int) -> None:
    assert list(split.split_lines(Pieces(split.BOM + b"{}\n{}", size), 9)) == [(1, b"{}"), (2, b"{}")]
    assert list(split.split_json(Pieces(split.BOM + b"[{}]", size), 9)) == [(1, b"{}")]
    assert list(split.split_json(Pieces(split.BOM + b"{}", size), 9)) == [(1, b"{}")]
    assert list(split.split_json(Pieces(split.BOM, size), 9)) == []


@pytest.mark.parametrize("size", [1, 2, 3, 7, 1000])
def test_lines_keep_their_numbers_and_blank_ones_are_left_out(size: int) -> None:
    body = b'{"a":1}\r\n\n  \n{"b":2}\n{"c":3}'
    found = [(number, bytes(raw).strip()) for number, raw in split.split_lines(Pieces(body, size), 100)]  # type: ignore[arg-type]
    assert found == [(1, b'{"a":1}'), (4, b'{"b":2}'), (5, b'{"c":3}')]


@pytest.mark.parametrize("size", [1, 9, 50, 1000])
def test_a_line_that_is_too_long_is_one_bad_line(size: int) -> None:
    body = b"a\n" + b"x" * 500 + b"\nb\n" + b"y" * 500
    found = [(number, isinstance(raw, InvalidEvents)) for number, raw in split.split_lines(Pieces(body, size), 20)]
    assert found == [(1, False), (2, True), (3, False), (4, True)]
