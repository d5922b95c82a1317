"""What an event may be: every limit, every trap of JSON, and that the fast pass misses nothing."""

from __future__ import annotations

import json
import math
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eventsvc.errors import InvalidBody, InvalidEvents
from eventsvc.event import format_nanoseconds, format_time, parse_nanoseconds, parse_time
from eventsvc.incoming import faults
from eventsvc.incoming.occurred import read_occurred
from eventsvc.incoming.parser import EventParser

GOOD: dict[str, Any] = {
    "email": "diego@chefhero.com",
    "environment": "production",
    "component": "orders",
    "message": "the buyer #123456 has placed an order",
    "data": {"order_id": 123, "amount": 300},
}
OWN = "anything of your own goes into data, where shape=any in the URL of POST /event puts it"
parse = EventParser().parse


def event(**changes: Any) -> bytes:
    return json.dumps(GOOD | changes).encode()


def with_data(text: str) -> bytes:
    return event(data=0).replace(b'"data": 0', b'"data": ' + text.encode())


def found(raw: bytes) -> list[tuple[str, str]]:
    with pytest.raises(InvalidEvents) as caught:
        parse(raw)
    return [(fault.pointer, fault.detail) for fault in caught.value.faults]


def test_a_plain_event_is_taken_as_it_is() -> None:
    new = parse(event())
    assert (new.email, new.environment, new.component, new.message) == tuple(GOOD.values())[:4]
    assert json.loads(new.data) == GOOD["data"]


def test_data_may_be_left_out_and_is_null_then() -> None:
    raw = json.dumps({name: value for name, value in GOOD.items() if name != "data"}).encode()
    assert parse(raw).data == b"null"


@pytest.mark.parametrize("data", [None, True, 0, "x", [], {}, [1, {"a": None}], {"": {"": 1}}])
def test_data_is_any_json_value(data: object) -> None:
    assert json.loads(parse(event(data=data)).data) == data


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"email": "no-at"}, ("/email", "is not a valid e-mail address: An email address must have an @-sign.")),
        ({"email": "a" * 250 + "@b.co"}, ("/email", "has 255 characters; at most 254 are allowed")),
        ({"email": ""}, ("/email", "must not be empty")),
        ({"email": 1}, ("/email", "must be a string, not a number")),
        ({"environment": ""}, ("/environment", "must not be empty")),
        ({"environment": "e" * 101}, ("/environment", "has 101 characters; at most 100 are allowed")),
        ({"component": None}, ("/component", "must be a string, not null")),
        ({"component": "c" * 101}, ("/component", "has 101 characters; at most 100 are allowed")),
        ({"message": ""}, ("/message", "must not be empty")),
        ({"message": "m" * 8192}, ("/message", "has 8,192 characters; at most 8,191 are allowed")),
        ({"message": ["x"]}, ("/message", "must be a string, not an array")),
        ({"message": "a\0b"}, ("/message", "contains a NUL character (\\u0000), which cannot be stored")),
        (
            {"message": "\ud800"},
            ("/message", "contains half of a surrogate pair (\\ud800), which is not a character"),
        ),
        ({"mesage": "x"}, ("/mesage", "is not a field of an event; did you mean message?")),
        (
            {"zz/~": 1},
            (
                "/zz~1~0",
                f"is not a field of an event; {OWN}",
            ),
        ),
        (
            {"msg": 1},
            (
                "/msg",
                "is not a field of an event; shape=any in the URL of POST /event takes the records of other loggers",
            ),
        ),
        ({"id": "x"}, ("/id", "is given by the service; leave it out")),
        (
            {"createdAt": "x"},
            (
                "/createdAt",
                "is given by the service, when it stores the event; say in occurredAt when it happened",
            ),
        ),
        ({"occurredat": "x"}, ("/occurredat", "is not a field of an event; did you mean occurredAt?")),
        ({"data": "x" * 65_535}, ("/data", "is 65,537 bytes of compact JSON; at most 65,536 are allowed")),
        ({"data": {"a": ["x", {"b": "\0"}]}}, ("/data/a/1/b", "")),
    ],
)
def test_each_rule_has_its_message(changes: dict[str, Any], expected: tuple[str, str]) -> None:
    ((pointer, detail),) = found(event(**changes))
    assert pointer == expected[0]
    if expected[1]:
        assert detail == expected[1]


@pytest.mark.parametrize(
    ("data", "pointer", "detail"),
    [
        ('{"a": 1, "a": 2}', "/data/a", "is given more than once"),
        ('{"a": 1, "\\u0061": 2}', "/data/a", "is given more than once"),
        ('[{"k": {"x:y": 1, "x\\u003ay": 2}}]', "/data/0/k/x:y", "is given more than once"),
        ('"\\u0000"', "/data", "contains a NUL character (\\u0000), which cannot be stored"),
        ('{"\\u0000": 1}', "/data", "has a key that contains a NUL character (\\u0000), which cannot be stored"),
        ('"\\ud800"', "/data", "contains half of a surrogate pair (\\ud800), which is not a character"),
        ('{"\\udfff": 1}', "/data", "has a key that contains half of a surrogate pair (\\udfff), which is not a"),
        ("NaN", "/data", "NaN is not a JSON number"),
        ('{"a": [-Infinity]}', "/data/a/0", "-Infinity is not a JSON number"),
        ("1e999", "/data", "is beyond float64 (up to 1.8e308)"),
        ("-1e999", "/data", "is beyond float64 (up to 1.8e308)"),
        ("9" * 309, "/data", "is beyond float64 (up to 1.8e308)"),
        ("9" * 5000, "/data", "is an integer of 5,000 digits; numbers must fit float64 (up to 1.8e308)"),
        ("-" + "9" * 5000, "/data", "is an integer of 5,000 digits; numbers must fit float64 (up to 1.8e308)"),
        ("[" * 21 + "]" * 21, "/data" + "/0" * 20, "is nested deeper than 20 levels"),
        ("[" * 3000 + "]" * 3000, "", "is nested deeper than 20 levels"),
        ('{"a":' * 100_000, "", "is nested deeper than 20 levels"),
    ],
)
def test_each_trap_of_json_is_noticed(data: str, pointer: str, detail: str) -> None:
    ((found_pointer, found_detail),) = found(with_data(data))
    assert (found_pointer, found_detail[: len(detail)]) == (pointer, detail)


@pytest.mark.parametrize("before", range(33))
def test_an_integer_that_is_too_large_is_noticed_wherever_it_begins(before: int) -> None:
    ((pointer, detail),) = found(with_data(f'["{"x" * before}", {"7" * 309}, "{"y" * 300}"]'))
    assert (pointer, detail) == ("/data/1", "is beyond float64 (up to 1.8e308)")


@pytest.mark.parametrize(
    "data",
    [
        "[" * 20 + "]" * 20,
        '"\\\\u0000"',
        '"\\\\\\\\u0000"',
        '"a:b"',
        '"\\u003a"',
        '{"a":{"b":1},"b":{"a":1}}',
        '"\\ud83d\\ude00"',
        "9" * 308,
        "-0",
        "-0.0",
        "1E5",
        '"' + "[{" * 50 + '"',
        '"' + "9" * 400 + '"',
        '"' + "😀" * 16000 + '"',
        "5e-324",
    ],
)
def test_what_only_looks_like_a_trap_is_taken(data: str) -> None:
    assert json.loads(parse(with_data(data)).data) == json.loads(data)


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (b"", "not JSON: Expecting value at line 1, column 1"),
        (b'{"email": ', "not JSON: Expecting value at line 1, column 11"),
        (b"{'a': 1}", "not JSON: Expecting property name enclosed in double quotes at line 1, column 2"),
        (b'{"email": "\xff"}', "not valid UTF-8: byte 0xff at offset 11"),
        (b"{} x", "not JSON: Extra data at line 1, column 4"),
    ],
)
def test_what_is_not_json_is_told_with_its_place(raw: bytes, reason: str) -> None:
    with pytest.raises(InvalidBody) as caught:
        parse(raw)
    assert str(caught.value) == reason


@pytest.mark.parametrize("raw", [b"[]", b'"x"', b"1", b"null"])
def test_an_event_is_an_object(raw: bytes) -> None:
    ((pointer, detail),) = found(raw)
    assert pointer == ""
    assert detail.startswith("must be a JSON object, not ")


def test_all_faults_come_at_once() -> None:
    pointers = [pointer for pointer, _ in found(b'{"email": "x", "message": "", "x": 1, "data": [NaN]}')]
    assert pointers == ["/environment", "/component", "/message", "/email", "/x", "/data/0"]


def test_faults_are_counted_beyond_those_named() -> None:
    with pytest.raises(InvalidEvents) as caught:
        parse(with_data("[" + ",".join(["NaN"] * 100) + "]"))
    assert (len(caught.value.faults), caught.value.total) == (20, 100)


@pytest.mark.parametrize(
    "email",
    [
        "a@localhost",
        "a@db.local",
        "ci@x.test",
        "jo+tag@Example.COM",
        "j.o'neill@example.co.uk",
        "ö@example.com",
        "a@bücher.example",
        "x@sub.domain.example.org",
        "a@b.co",
        "root@LOCALHOST",
        "a" * 64 + "@example.com",
    ],
)
def test_addresses_that_internal_services_send_are_valid(email: str) -> None:
    assert parse(event(email=email)).email == email


@pytest.mark.parametrize("email", ["@", "a@", "@b.co", "a b@c.de", "a@b", "a@b..co", "a@-b.co", "a@b.co.", "a@b@c.de"])
def test_other_things_are_no_addresses(email: str) -> None:
    assert [pointer for pointer, _ in found(event(email=email))] == ["/email"]


@pytest.mark.parametrize(
    "number", ["1e16", "1e22", "1e23", "1.5e300", "-1e300", "1.7976931348623157e308", "1e-7", "0.1"]
)
def test_floats_come_back_as_the_same_floats(number: str) -> None:
    """jsonb spells numbers out: without a decimal point a large float would come back as an integer."""
    text = parse(with_data(f'{{"x": [{number}]}}')).data
    value = json.loads(text)["x"][0]
    assert isinstance(value, float)
    assert value == float(number)
    assert b"e" not in text or abs(value) < 1


@pytest.mark.parametrize("number", ["123456789012345678.12", "0.10", "-0.30", "1.0", "100.00", "0." + "3" * 60])
def test_decimals_are_stored_as_they_were_sent(number: str) -> None:
    assert parse(with_data(f'{{"x": [{number}]}}')).data == b'{"x":[%s]}' % number.encode()


@pytest.mark.parametrize(
    ("number", "why"), [("1e-400", "nearer to zero"), ("-2e-324", "nearer to zero"), ("0." + "1" * 999, "digits")]
)
def test_numbers_that_cannot_be_kept_are_refused_at_their_place(number: str, why: str) -> None:
    ((pointer, detail),) = found(with_data(f'{{"x": [1, {number}]}}'))
    assert pointer == "/data/x/1"
    assert why in detail


def test_integers_of_any_size_stay_exact() -> None:
    assert json.loads(parse(with_data("[123456789012345678901234567890]")).data) == [123456789012345678901234567890]


_FORM = "must be an RFC 3339 time, such as 2018-01-31T12:00:00.123Z"
_SECOND = 1_517_400_000_000_000_000


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2018-01-31T12:00:00Z", _SECOND),
        ("2018-01-31t12:00:00z", _SECOND),
        ("2018-01-31 14:00:00+02:00", _SECOND),
        ("2018-01-31T12:00:00-00:00", _SECOND),
        ("2018-01-31T12:00:00.1Z", _SECOND + 100_000_000),
        ("2018-01-31T12:00:00.123456789Z", _SECOND + 123_456_789),
        ("1970-01-01T01:00:00+01:00", 0),
        (None, None),
    ],
)
def test_when_it_happened_is_kept_to_the_nanosecond(text: str | None, moment: int | None) -> None:
    assert parse(event(occurredAt=text)).occurred_at == moment


@pytest.mark.parametrize(
    ("value", "detail"),
    [
        ("yesterday", _FORM),
        ("", _FORM),
        ("2018-01-31", _FORM),
        ("2018-01-31T12:00:60Z", _FORM),
        ("2018-01-31T12:00:00.Z", _FORM),
        ("2018-01-31T12:00:00\0Z", _FORM),
        (1_517_400_000, _FORM),
        ({"a": 1}, _FORM),
        ("2018-01-31T12:00:00", "lacks an offset: end it with Z or, for example, +01:00"),
        ("2018-02-30T12:00:00Z", "names a day that there is not: 2018-02-30"),
        ("0000-01-01T12:00:00Z", "names a day that there is not: 0000-01-01"),
        ("2018-01-31T12:00:00.1234567890Z", "has 10 digits after the second; at most 9 are kept"),
        ("1969-12-31T23:59:59.999999999Z", "lies before 1970"),
        ("0001-01-01T00:00:00+23:59", "lies before 1970"),
        ("9999-12-31T23:59:59-23:59", "lies more than a day ahead: the sender's clock or its time zone is wrong"),
    ],
)
def test_when_it_happened_is_refused_with_the_reason(value: Any, detail: str) -> None:
    assert found(event(occurredAt=value)) == [("/occurredAt", detail)]


def test_what_happens_within_a_day_is_taken() -> None:
    """The sender's clock may be fast, and its hour may be that of another zone."""
    ahead = [datetime.now(UTC) + timedelta(hours=hours) for hours in (23, 25)]
    assert parse(event(occurredAt=ahead[0].isoformat())).occurred_at is not None
    assert [pointer for pointer, _ in found(event(occurredAt=ahead[1].isoformat()))] == ["/occurredAt"]


@given(st.integers(0, 2**62))
def test_what_is_written_is_read_again(moment: int) -> None:
    text = format_nanoseconds(moment)
    assert parse_nanoseconds(text) == moment
    if moment < _SECOND:
        assert read_occurred(text) == moment


def test_times_are_written_with_milliseconds() -> None:
    assert format_time(1_515_715_199_007) == "2018-01-11T23:59:59.007Z"
    assert parse_time("2018-01-11T23:59:59.007Z") == 1_515_715_199_007


# Keys and strings full of what the fast pass counts or looks for.
_texts = st.text(st.sampled_from('ab:,"{}[]\\\0\ud800éu03'), max_size=6)
_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**400), 10**400) | st.floats() | _texts,
    lambda inner: st.lists(inner, max_size=4) | st.lists(st.tuples(_texts, inner), max_size=4).map(tuple),
    max_leaves=25,
)


def _write(value: Any, draw: Any) -> str:
    """JSON text as badly as it may be written: duplicate keys, any escapes, any spaces."""
    if isinstance(value, tuple):
        members = [f"{_write(key, draw)}{draw(_spaces)}:{draw(_spaces)}{_write(item, draw)}" for key, item in value]
        return "{" + f"{draw(_spaces)},".join(members) + "}"
    if isinstance(value, list):
        return "[" + ",".join(_write(item, draw) for item in value) + "]"
    if isinstance(value, str):
        how = draw(st.sampled_from(["plain", "escaped", "ascii"]))
        if how == "escaped":
            return '"' + "".join(f"\\u{ord(char):04x}" for char in value) + '"'
        safe = how == "ascii" or any(0xD800 <= ord(char) < 0xE000 for char in value)
        return json.dumps(value, ensure_ascii=safe)
    return json.dumps(value)


_MOMENTS = (
    *("", ',"occurredAt":null', ',"occurredAt":"2018-01-31T12:00:00Z"', ',"occurredAt":"2018-01-31T12:00:00.5+01:00"'),
    *(',"occurredAt":"12:00"', ',"occurredAt":1', ',"occurredAt":null,"occurredAt":"2018-01-31T12:00:00Z"'),
    ',"occurredAt":"2018-01-31T12:00:00Z","occurred\\u0041t":"2018-01-31T12:00:00Z"',
)
_spaces = st.sampled_from(["", " ", "\n"])


@settings(max_examples=400, deadline=None)
@given(st.data(), _values, _texts, st.sampled_from(_MOMENTS))
def test_the_fast_pass_misses_nothing_that_the_slow_pass_finds(
    data: Any, value: Any, message: str, moment: str
) -> None:
    value_text, message_text = _write(value, data.draw), _write(message or "m", data.draw)
    raw = (
        f'{{"email":"a@localhost","environment":"e","component":"c:d","message":{message_text},"data":{value_text}{moment}}}'
    ).encode()
    try:
        faults.explain(raw, faults.email_fault)
    except InvalidEvents:
        with pytest.raises(InvalidEvents):
            parse(raw)
        return
    new = parse(raw)
    assert new.message == json.loads(message_text)
    assert _same(msgspec.json.decode(new.data), json.loads(value_text))


def _same(left: Any, right: Any) -> bool:
    if isinstance(left, dict) and isinstance(right, dict):
        return left.keys() == right.keys() and all(_same(left[key], right[key]) for key in left)
    if isinstance(left, list) and isinstance(right, list):
        return len(left) == len(right) and all(map(_same, left, right))
    if isinstance(left, float) or isinstance(right, float):
        return type(left) is type(right) and math.isclose(left, right, rel_tol=0, abs_tol=0)
    return bool(left == right)
