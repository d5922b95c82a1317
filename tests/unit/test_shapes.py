"""shape=any: whatever a record holds is found again in the event, unchanged."""

from __future__ import annotations

import json
import time
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eventsvc.errors import InvalidBody, InvalidEvents
from eventsvc.event import NewEvent
from eventsvc.fields import SHORT
from eventsvc.incoming.members import read_members
from eventsvc.incoming.names import MESSAGES, TIMES
from eventsvc.incoming.occurred import read_number, read_time
from eventsvc.incoming.parser import EventParser
from eventsvc.incoming.sanitizer import Sanitizer
from eventsvc.incoming.shapes import Shaper, is_envelope

DEFAULTS = {"email": "ops@example.com", "environment": "production", "component": "shop"}
NOON = 1_764_057_600  # 2025-11-25T08:00:00Z
_parser = EventParser()


def shape(record: Any, *, lines: bool = False, sanitize: bool = True) -> NewEvent:
    raw = record if isinstance(record, bytes) else json.dumps(record).encode()
    parser = Sanitizer(_parser) if sanitize else _parser
    return Shaper(parser, DEFAULTS, _parser.email_fault, lines=lines).parse(raw)


def data_of(new: NewEvent) -> Any:
    return json.loads(new.data, parse_float=Decimal)


_text = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=12)
_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.decimals(-1000, 10**12, places=3) | _text,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_text, inner, max_size=3),
    max_leaves=6,
)
_times = st.sampled_from(
    [NOON, NOON * 1000, NOON * 10**6, NOON * 10**9, "2025-11-25T09:00:00.5+01:00", "2025-11-25", 12, -1, 1e30, True, ""]
)
_names = st.sampled_from([*MESSAGES, *TIMES, *SHORT, "data", "extra", "level", "host", "events", "method", "params"])
_records = st.dictionaries(_names | _text, _values | _times, max_size=8)


def is_kept(name: str, value: Any, new: NewEvent, members: dict[str, Any]) -> bool:
    """Tell whether a member is in the event: as a field, as the time, or in data under its own name."""
    if name in MESSAGES and (value == new.message or (value == "" and new.message == "(empty)")):
        return True
    if name in SHORT and value == getattr(new, name):
        return True
    if name in TIMES and new.occurred_at is not None and read_any(value) == new.occurred_at:
        return True
    moved = [members[extra] for extra in members if extra.strip("_") == "extra" and isinstance(members[extra], dict)]
    return any(name in one and same(one[name], value) for one in [members, *moved])


def read_any(value: Any) -> int | None:
    try:
        return (read_time(value) if isinstance(value, str) else read_number(str(value)))[0]
    except ValueError:
        return None


def same(one: Any, other: Any) -> bool:
    """Equal as JSON: true is not 1."""
    return write(one) == write(other)


def write(value: Any) -> str:
    return json.dumps(value, sort_keys=True, default=lambda number: {"number": str(number.normalize())})


@settings(max_examples=600, deadline=None)
@given(_records)
def test_every_member_of_a_record_is_kept(record: dict[str, Any]) -> None:
    raw = json.dumps(record, default=float).encode()
    sent = json.loads(raw, parse_float=Decimal)
    new = shape(raw)
    data = data_of(new)
    own = sent.get("data")
    if sent.keys() <= {"data"} or not isinstance(data, dict):
        assert same(data, own) or all(is_kept(name, value, new, {}) for name, value in sent.items() if name != "data")
        return
    for name, value in sent.items():
        if name == "data" and isinstance(value, dict):
            assert all(same(data.get(inner), value[inner]) for inner in value)
        else:
            assert is_kept(name, value, new, data), name


@settings(max_examples=300, deadline=None)
@given(_values, st.sampled_from([None, 1]))
def test_members_are_those_that_json_has(value: Any, indent: int | None) -> None:
    raw = json.dumps(value, default=float, indent=indent).encode()
    members = read_members(b" " + raw + b"\n")
    loaded = json.loads(raw)
    if not isinstance(loaded, dict):
        assert members is None
        return
    assert members is not None
    assert {json.loads(name): json.loads(inner) for name, inner in members} == loaded


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=60).filter(lambda line: b"\n" not in line and line.strip()))
def test_a_line_of_any_bytes_is_stored(line: bytes) -> None:
    new = shape(line, lines=True)
    if read_members(line) is None:
        text = line.removesuffix(b"\r").decode(errors="replace").replace("\0", "\ufffd")
        assert new.message == text or (not text and new.message == "(empty)")


@pytest.mark.parametrize(
    ("text", "nanoseconds"),
    [
        ("1764057600", NOON * 10**9),
        ("1764057600.123456789", NOON * 10**9 + 123_456_789),
        ("1.764057600123E9", NOON * 10**9 + 123_000_000),
        ("1764057600000", NOON * 10**9),
        ("1764057600000.5", NOON * 10**9 + 500_000),
        ("1764057600000001", NOON * 10**9 + 1000),
        ("1764057600000000001", NOON * 10**9 + 1),
        ("2025-11-25T08:00:00Z", NOON * 10**9),
        ("2025-11-25T09:00:00.000+0100", NOON * 10**9),
        ("2025-11-25 08:00:00.1234567+00:00", NOON * 10**9 + 123_456_700),
    ],
)
def test_a_time_is_known_by_its_magnitude(text: str, nanoseconds: int) -> None:
    assert read_time(text) == (nanoseconds, True)


@pytest.mark.parametrize(
    "value",
    [12, 0, -NOON, 1e30, "1e99999999999999999999", True, [], {}, "", "noon", "2025-11-25T08:00:00", "25/Nov/2025"],
)
def test_what_is_no_time_stays_in_data(value: Any) -> None:
    new = shape({"msg": "m", "time": value})
    assert (new.occurred_at, new.message) == (None, "m")
    assert same(data_of(new), json.loads(json.dumps({"time": value}), parse_float=Decimal))


def test_a_time_far_ahead_stays_in_data_and_the_next_one_counts() -> None:
    ahead = int(time.time()) + 100_000
    new = shape({"msg": "m", "time": ahead, "ts": NOON})
    assert (new.occurred_at, data_of(new)) == (NOON * 10**9, {"time": ahead})


def test_a_time_that_is_finer_than_a_nanosecond_stays_in_data_as_well() -> None:
    new = shape(b'{"msg": "m", "ts": 1764057600.12345678901}')
    assert new.occurred_at == NOON * 10**9 + 123_456_789
    assert data_of(new) == {"ts": Decimal("1764057600.12345678901")}


def test_an_event_that_is_right_is_taken_as_it_is() -> None:
    event = {"email": "a@b.co", "environment": "e", "component": "c", "message": "m", "data": [1, "x"]}
    new = shape(event | {"occurredAt": "2025-11-25T08:00:00Z"})
    assert (new.email, new.environment, new.component, new.message) == tuple(event.values())[:4]
    assert (data_of(new), new.occurred_at) == ([1, "x"], NOON * 10**9)


@pytest.mark.parametrize("changes", [{"email": "nobody"}, {"environment": 7}, {"component": "c" * 101}, {"email": ""}])
def test_a_field_that_is_not_right_stays_in_data_and_the_default_counts(changes: dict[str, Any]) -> None:
    new = shape({"msg": "m"} | changes)
    assert data_of(new) == changes
    assert {name: getattr(new, name) for name in SHORT} == DEFAULTS


def test_a_name_that_is_taken_goes_into_extra() -> None:
    new = shape({"msg": "m", "data": {"level": "a", "extra": 1}, "level": "b", "pid": 7})
    assert data_of(new) == {"level": "a", "extra": 1, "pid": 7, "_extra": {"level": "b"}}


def test_without_a_known_name_the_record_itself_is_the_message() -> None:
    new = shape({"code": 200, "path": "/"})
    assert (new.message, data_of(new)) == ('{"code": 200, "path": "/"}', {"code": 200, "path": "/"})
    long = shape({"path": "x" * 9_000})
    assert "characters cut out" in long.message
    assert data_of(long) == {"path": "x" * 9_000}


@pytest.mark.parametrize(
    ("record", "message"),
    [
        ({"log": "", "msg": "m"}, "m"),
        ({"log": ""}, "(empty)"),
        ({"msg": "a", "message": "b"}, "b"),
        ({"msg": 5}, '{"msg": 5}'),
    ],
)
def test_the_first_known_name_that_holds_text_counts(record: dict[str, Any], message: str) -> None:
    assert shape(record).message == message


def test_numbers_keep_every_digit() -> None:
    new = shape(b'{"msg": "m", "id": 123456789012345678901234567890, "x": 1.10}')
    assert new.data == b'{"id":123456789012345678901234567890,"x":1.10}'


@pytest.mark.parametrize("raw", [b'{"a":nul}', b'{"a":[}', b'{"a":1', b'{"a" 1}', b'{"a":1}}', b'"x" y', b'{"a":1,}'])
def test_what_is_not_json_is_a_line_or_refused_with_its_own_place(raw: bytes) -> None:
    assert shape(raw, lines=True).message == raw.decode()
    with pytest.raises(InvalidBody) as caught:
        shape(raw)
    with pytest.raises(InvalidBody) as plain:
        _parser.parse(raw)
    assert str(caught.value) == str(plain.value)


@pytest.mark.parametrize("lines", [False, True])
def test_bytes_that_are_not_utf_8_are_told_with_their_place_in_the_record(lines: bool) -> None:  # noqa: FBT001
    new = shape(b'{"msg": "caf\xe9", "k\xff": 1}', lines=lines)
    mark = {"pointer": "", "detail": "not valid UTF-8: byte 0xe9 at offset 12"}
    assert (new.message, data_of(new)) == ("caf\ufffd", {"k\ufffd": 1, "sanitized": [mark]})
    text = shape(b"caf\xe9" if lines else b'"caf\xe9"', lines=lines)
    assert text.message == "caf\ufffd"
    assert "at offset" in data_of(text)["sanitized"][0]["detail"]


@settings(max_examples=500, deadline=None)
@given(_records, st.data(), st.booleans())
def test_a_record_with_any_fault_is_stored_or_refused(record: dict[str, Any], data: Any, lines: bool) -> None:  # noqa: FBT001
    """Nothing but our own errors, and none for a line."""
    raw = bytearray(json.dumps(record, default=float).encode())
    for _ in range(data.draw(st.integers(1, 3))):
        place = data.draw(st.integers(0, len(raw)))
        raw[place : place + data.draw(st.integers(0, 2))] = data.draw(st.sampled_from(FAULTS))
    try:
        shape(bytes(raw), lines=lines)
    except (InvalidBody, InvalidEvents):
        assert not lines


FAULTS = [
    b"",
    b'"',
    b"{",
    b"}",
    b"[",
    b"]",
    b",",
    b":",
    b"\\",
    b"\xff",
    b"\\u0000",
    b"\\ud800",
    b"NaN",
    b"1e999",
    b"\0",
    b"\n",
]


def test_sanitize_false_refuses_what_would_be_changed() -> None:
    with pytest.raises(InvalidEvents, match="at most 8,191"):
        shape({"msg": "x" * 9_000}, sanitize=False)
    with pytest.raises(InvalidBody, match="not valid UTF-8"):
        shape(b'{"msg": "\xff"}', sanitize=False)


@pytest.mark.parametrize(
    ("record", "data"),
    [
        ({"method": "collect", "params": {"message": "m", "meta": {"a": 1}}}, {"meta": {"a": 1}}),
        ({"method": "collect", "params": {"message": "m"}, "id": 1}, None),
        ({"method": "query", "params": {"message": "m"}}, None),
        ({"method": "collect", "params": ["m"]}, None),
    ],
)
def test_only_winstons_envelope_is_opened(record: dict[str, Any], data: Any) -> None:
    assert data_of(shape(record)) == (data or record)


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b' {"events": [{"a": 1}]}\n', True),
        (b'{"logs":[]}', True),
        (b'{"logs":[{"a":NaN}]}', True),
        (b'{"events":[1],"msg":"m"}', False),
        (b'{"events":[1],"logs":[2]}', False),
        (b'{"msg":"m","events":[1]}', False),
        (b'{"events":{"a":[1]}}', False),
        (b'{"others":[1]}', False),
        (b'[{"events":[1]}]', False),
    ],
)
def test_an_envelope_holds_nothing_beside_its_array(body: bytes, expected: bool) -> None:  # noqa: FBT001
    assert is_envelope(body) == expected
