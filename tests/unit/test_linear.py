"""Every pass over untrusted text is linear: four times the text does not take sixteen times as long."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import partial
from typing import Any

import pytest

from eventsvc.errors import EventsvcError
from eventsvc.incoming import faults
from eventsvc.incoming.parser import EventParser
from eventsvc.incoming.sanitizer import Sanitizer
from eventsvc.incoming.shapes import Shaper
from eventsvc.incoming.split import split_json, split_lines
from eventsvc.query.parse import LONGEST, parse
from eventsvc.search import paths
from tests.timing import least_seconds

_GOOD = b'{"email":"a@example.com","environment":"e","component":"c","message":"m"'
_MOST = 10.0  # times as long for four times as much; what is quadratic takes 16 times as long
_UNCLOSED = b'{"email":"' + b"[" * 501


class _Pieces:
    """Gives a body in small pieces: what looks at earlier ones again takes its time."""

    def __init__(self, body: bytes) -> None:
        self._file = io.BytesIO(body)

    def read(self, _size: int) -> bytes:
        return self._file.read(1024)


def _split(split: Callable[[Any, int], Iterable[object]], body: bytes) -> None:
    for _ in split(_Pieces(body), 64 * 1024**2):
        pass


def _parse_fresh(raw: bytes) -> None:
    EventParser().parse(raw)


def _members(size: int, pattern: bytes) -> bytes:
    return _GOOD + b"".join(b"," + pattern % number for number in range(size))


EVENTS: dict[str, tuple[Callable[[int], bytes], int]] = {
    "a string that does not end": (lambda n: _UNCLOSED + b'\\"' * n, 20_000),
    "brackets and quotes": (lambda n: b"[" * 600 + b'"[' * n, 20_000),
    "backslashes": (lambda n: _UNCLOSED + b"\\" * n, 40_000),
    "deep": (lambda n: b'{"a":' * n, 20_000),
    "unknown fields": (lambda n: _members(n, b'"komponent%d":1') + b"}", 2_000),
    "keys given twice": (lambda n: _members(n, b'"a%d":1') + _members(n, b'"a%d":2')[len(_GOOD) :] + b"}", 2_000),
    "large floats": (lambda n: _GOOD + b',"data":[' + b",".join([b"1e300"] * n) + b"]}", 4_000),
    "wrong numbers": (lambda n: _GOOD + b',"data":[' + b",".join([b"1e999"] * n) + b"]}", 4_000),
    "digits": (lambda n: _GOOD + b',"data":' + b"9" * n + b"}", 40_000),
    "surrogates": (lambda n: _GOOD + b',"data":"' + b"\\ud800" * n + b'"}', 10_000),
    "lines of one event": (lambda n: _GOOD + b"\n" * n + b"x}", 40_000),
    "a long address": (lambda n: b'{"email":"' + "ü".encode() * n + b'@x.com"}', 20_000),
}


@pytest.mark.parametrize("name", EVENTS)
def test_events(name: str) -> None:
    write, size = EVENTS[name]
    assert_linear(_parse_fresh, write(size), write(4 * size))


@pytest.mark.parametrize("pattern", ["ü", "1א.", "a.", "xn--", "a\u0301", '"', "\u0958", "-", "\u200d"], ids=ascii)
def test_an_address_is_checked_in_no_time_whatever_it_holds(pattern: str) -> None:
    """Addresses are cut off at a length; the slowest of that length says what a bulk of 100,000 costs."""
    for text in (f"{pattern * 200}@example.com", f"a@{pattern * 200}.com"):
        assert least_seconds(partial(faults.email_fault, text[-254:])) < 0.1


def _taken(size: int) -> bytes:
    extras = b",".join(b'"%sextra":1' % (b"_" * count) for count in range(round(size**0.5)))
    return b'{"data":{' + extras + b"}," + extras + b"}"


_RECORDS: dict[str, Callable[[int], bytes]] = {
    "strings that do not end": lambda n: b'{"a' + b'\\"' * n,
    "nested": lambda n: b'{"msg":"m","a":' + b"[" * n + b"]" * n + b"}",
    "members": lambda n: b"{" + b",".join(b'"a%d":[{}]' % number for number in range(n)) + b"}",
    "deep members": lambda n: b'{"msg":"m"' + b',"a":[[[[[[1]]]]]]' * n + b"}",
    "objects that do not end": lambda n: b'{"a":[[[[1,{"b":' * n,
    "brackets that do not fit": lambda n: b'{"a":' + b"[[[}}}" * n + b"}",
    "one name": lambda n: b'{"msg":"m"' + b',"a":1' * n + b"}",
    "names that are taken": _taken,
    "long times": lambda n: b'{"msg":"m","time":"' + b"1+11" * n + b'","ts":' + b"1" * n + b"}",
    "no message": lambda n: b'{"a":"' + b'\\"' * n + b'"}',
    "text": lambda n: b'"\\' * n,
}


@pytest.mark.parametrize("lines", [False, True])
@pytest.mark.parametrize("name", _RECORDS)
def test_records_of_any_shape(name: str, lines: bool) -> None:  # noqa: FBT001
    def shape(raw: bytes) -> None:
        parser = EventParser()
        Shaper(Sanitizer(parser), _DEFAULTS, parser.email_fault, lines=lines).parse(raw)

    assert_linear(shape, _RECORDS[name](8_000), _RECORDS[name](32_000))


_DEFAULTS = {"email": "a@example.com", "environment": "e", "component": "c"}


BODIES: dict[str, Callable[[int], bytes]] = {
    "strings": lambda n: b"[" + b'"\\"' * n,
    "objects": lambda n: b"[" + b'{"a":' * n,
    "closed too often": lambda n: b"[" + b"}" * n,
    "deep elements": lambda n: b"[" + b'{"a":[[[[[1]]]]]},' * n,
    "elements that only look like objects": lambda n: b"[" + b'{"a":1]},' * n,
    "space": lambda n: b"[" + b" " * n,
}


@pytest.mark.parametrize("name", BODIES)
def test_arrays_are_split(name: str) -> None:
    assert_linear(lambda body: _split(split_json, body), BODIES[name](5_000), BODIES[name](20_000))


@pytest.mark.parametrize("line", [b"\n", b"x\n", b"x"])
def test_lines_are_split(line: bytes) -> None:
    assert_linear(lambda body: _split(split_lines, body), line * 200_000, line * 800_000)


@pytest.mark.parametrize(("count", "length"), [(10_000, 20), (1_000, 48), (60, 1_000), (8, 8_000)])
def test_similar_paths_are_found_in_no_time_whatever_events_hold(count: int, length: int) -> None:
    known = [f"data.{number:05}{'ab' * (length // 2)}" for number in range(count)]
    assert least_seconds(partial(paths.near, f"data.{'ab' * (length // 2)}x", known)) < 0.2


QUERIES = [
    "(",
    "NOT ",
    "'",
    "a ",
    "message ct 'x' AND ",
    "message ct 'x' ",
    "data.a in (1,",
    "\\",
    "komponent eq 'x' OR ",
    "é",
]


@pytest.mark.parametrize("pattern", QUERIES)
def test_queries_with_errors(pattern: str) -> None:
    text = pattern * LONGEST
    assert_linear(lambda query: parse(query, now=0), text[: LONGEST // 4], text[:LONGEST])


def test_near_names_are_looked_for_only_as_often_as_they_are_told() -> None:
    raw = json.dumps({f"komponent{number}": 1 for number in range(20_000)}).encode()
    assert _seconds(_parse_fresh, raw) < 2


def assert_linear(work: Callable[[Any], object], small: Any, large: Any) -> None:
    assert _seconds(work, large) < _MOST * _seconds(work, small) + 0.005


def _seconds(work: Callable[[Any], object], text: Any) -> float:
    def run() -> None:
        with suppress(EventsvcError):
            work(text)

    return least_seconds(run)
