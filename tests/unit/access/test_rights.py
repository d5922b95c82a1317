"""Rates, restrictions, and what a key does to the events that come with it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from eventsvc.access.gate import Gate
from eventsvc.access.rights import AUDIT_COMPONENT, Grant, Rate, Restriction, Right, read_rate
from eventsvc.errors import Forbidden, InvalidEvents, InvalidParameter, QueryError
from eventsvc.incoming.parser import EventParser
from eventsvc.query.render import render

EVENT = {"email": "a@b.c", "environment": "test", "component": "orders", "message": "hello", "data": {"n": 1}}
ALL = frozenset(Right)


def gate(where: str = "", defaults: dict[str, str] | None = None, rights: frozenset[Right] = ALL) -> Gate:
    grant = Grant("i", "n", b"", rights, where, defaults or {}, None, Restriction(where, rights))
    return Gate(EventParser(), grant)


def sent(**changes: Any) -> bytes:
    return json.dumps({name: value for name, value in (EVENT | changes).items() if value is not ...}).encode()


@pytest.mark.parametrize(("text", "rate"), [("100/s", Rate(100, 1)), ("60/m", Rate(60, 60)), ("1/h", Rate(1, 3600))])
def test_a_rate_is_read(text: str, rate: Rate) -> None:
    assert read_rate(text) == rate


@pytest.mark.parametrize("text", ["100", "0/s", "-1/s", "1/d", "s", "1/s ", "1.5/s"])
def test_a_wrong_rate_is_refused(text: str) -> None:
    with pytest.raises(InvalidParameter):
        read_rate(text)


def test_a_key_without_the_right_sees_nothing_of_the_audit() -> None:
    node = Restriction("component eq 'orders'", {Right.READ}).node(0)

    assert node is not None
    assert render(node) == f"component eq 'orders' AND component ne '{AUDIT_COMPONENT}'"
    assert Restriction("", ALL).node(0) is None


def test_a_restriction_that_speaks_of_now_moves_with_the_clock() -> None:
    restriction = Restriction("createdAt gte 'now-1h'", ALL)

    assert restriction.node(7_200_000) != restriction.node(7_200_001)


def test_a_restriction_that_cannot_be_read_is_refused() -> None:
    with pytest.raises(QueryError):
        Restriction("component is 'x'", ALL)


@pytest.mark.parametrize(
    ("where", "event", "stored"),
    [
        ("component in ('orders', 'billing')", {}, True),
        ("component in ('orders', 'billing')", {"component": "secret"}, False),
        ("component eq 'orders' OR data.n eq 1", {"component": "secret"}, True),
        ("NOT email ct '@b.'", {}, False),
        ("createdAt gte 'now-1h'", {}, True),
        ("createdAt lt 'now-1h'", {}, False),
        ("id eq '00000000-0000-4000-8000-000000000000'", {}, False),
    ],
)
def test_an_event_outside_of_the_restriction_is_refused(where: str, event: dict[str, Any], *, stored: bool) -> None:
    if stored:
        assert gate(where).parse(sent(**event)).message == "hello"
    else:
        with pytest.raises(Forbidden):
            gate(where).parse(sent(**event))


def test_nobody_without_the_right_writes_into_the_audit() -> None:
    with pytest.raises(Forbidden):
        gate(rights=frozenset({Right.WRITE})).parse(sent(component=AUDIT_COMPONENT))


DEFAULTS = {"environment": "production", "component": "o:r:d", "email": "d@e.f"}


@pytest.mark.parametrize("missing", [("environment",), ("component", "email"), tuple(DEFAULTS)])
@pytest.mark.parametrize("space", [b"", b" \n"])
def test_defaults_fill_what_is_missing_and_nothing_else(missing: tuple[str, ...], space: bytes) -> None:
    new = gate(defaults=DEFAULTS).parse(space + sent(**dict.fromkeys(missing, ...)) + space)

    expected = {name: DEFAULTS[name] if name in missing else EVENT[name] for name in DEFAULTS}
    assert expected == {name: getattr(new, name) for name in DEFAULTS}
    assert new.data == b'{"n":1}'


@pytest.mark.parametrize(
    "raw",
    [
        b'{"message": "a", "message": "b"}',  # a key twice
        b'{"message": "a", "data": {"x": 1, "x": 2}}',
        b"{}",  # no message
        b'{"message": "a", "other": 1}',
        b'{"message": "a", "component": null}',
    ],
)
def test_defaults_hide_no_fault(raw: bytes) -> None:
    with pytest.raises(InvalidEvents):
        gate(defaults=DEFAULTS).parse(raw)
