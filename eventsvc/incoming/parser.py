"""Parse one JSON object into a NewEvent, and check all rules."""

from __future__ import annotations

import re
from decimal import Decimal
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Protocol

import msgspec

from eventsvc import limits
from eventsvc.errors import Fault, InvalidBody, InvalidEvents
from eventsvc.event import NewEvent
from eventsvc.fields import SENT
from eventsvc.incoming import faults
from eventsvc.incoming.occurred import read_occurred
from eventsvc.text import numbers

if TYPE_CHECKING:
    from collections.abc import Iterator


class Parser(Protocol):
    """Turns bytes into a NewEvent."""

    def parse(self, raw: bytes) -> NewEvent:
        """Read and check one JSON object."""


class _Sent(msgspec.Struct, forbid_unknown_fields=True):
    email: str
    environment: str
    component: str
    message: str
    data: Any = None
    occurred_at: str | None = msgspec.field(default=None, name="occurredAt")


class EventParser:
    """Parses events. It caches e-mail addresses, because the check of an address costs 50 times as much as the rest."""

    def __init__(self) -> None:
        self.email_fault = lru_cache(maxsize=20_000)(faults.email_fault)

    def parse(self, raw: bytes) -> NewEvent:
        """Read and check one JSON object.

        Raises:
            InvalidBody: the text is not JSON.
            InvalidEvents: the event breaks rules. The error names all faults.
        """
        sent = self._read(raw)
        data = numbers.encode(sent.data)
        if self._is_suspicious(raw, sent, data):
            faults.explain(raw, self.email_fault)
        if b"E+" in data and _HAS_EXPONENT.search(data):
            data = _spell_out(sent.data)
        occurred_at = None if sent.occurred_at is None else self._occurred(raw, sent.occurred_at)
        return NewEvent(sent.email, sent.environment, sent.component, sent.message, data, occurred_at)

    def _read(self, raw: bytes) -> _Sent:
        if len(raw) > _LONG and _has_many_exponents(raw):
            event = faults.explain(raw, self.email_fault)
            return _Sent(*map(event.get, SENT))
        try:
            return _decode(raw)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as exc:
            faults.explain(raw, self.email_fault)
            raise InvalidBody(f"not JSON that can be read: {exc}") from exc

    def _occurred(self, raw: bytes, text: str) -> int:
        try:
            return read_occurred(text)
        except ValueError:
            faults.explain(raw, self.email_fault)
            return read_occurred(text)  # a moment later, the time may no longer be too far ahead

    def _is_suspicious(self, raw: bytes, sent: _Sent, data: bytes) -> bool:
        """Tell whether a rule may be broken. True is a guess; False is certain (the tests try to refute this)."""
        return (
            not 0 < len(sent.environment) <= limits.NAME
            or not 0 < len(sent.component) <= limits.NAME
            or not 0 < len(sent.message) <= limits.MESSAGE
            or len(sent.email) > limits.EMAIL  # checked here, so that the cache holds no long text
            or len(data) > limits.DATA_BYTES
            or data.count(b"{") + data.count(b"[") > limits.DATA_DEPTH
            # \u0000 is refused, and \u003a, a colon, would make the count of keys wrong
            or (b"\\u00" in raw and (b"\\u0000" in raw or b"\\u003" in raw))
            or _has_more_keys(raw, sent, data)
            or _has_large_integer(data)
            or self.email_fault(sent.email) is not None
        )


_decode = msgspec.json.Decoder(_Sent, float_hook=numbers.read_float).decode
_LARGE_INTEGER_DIGITS = 308  # one digit less than float64's largest number
# Of 309 bytes in a row, at least 9 are in a sample of every 32nd byte.
_LARGE_INTEGER, _SAMPLED_INTEGER, _SAMPLE = re.compile(rb"[0-9]{309}"), re.compile(rb"[0-9]{9}"), 32
# PERF: msgspec takes 10 µs for a float near the ends of the range, and lets no other thread run meanwhile.
_EXPONENT, _EXPONENTS = re.compile(rb"[eE][-+]?[0-9]{3}"), 500
_LONG = 6 * _EXPONENTS  # bytes; a shorter text cannot hold so many exponents
_HAS_EXPONENT = re.compile(rb"(?:^|[:,\[])-?[0-9.]+E\+[0-9]")


def _has_more_keys(raw: bytes, sent: _Sent, data: bytes) -> bool:
    r"""Tell whether a key may have been given twice.

    PERF: every key comes with one colon, and no encoder escapes a colon. So the text as sent has as many colons as the
    parsed event, unless a duplicate key was dropped (then more). A string with an escaped colon, \u003a, would give
    fewer; such events go to the slow pass before.
    """
    kept = sent.email.count(":") + sent.environment.count(":") + sent.component.count(":") + sent.message.count(":")
    keys = _KEYS + (data != b"null")
    if sent.occurred_at is not None:
        keys, kept = keys + 1, kept + sent.occurred_at.count(":")
    return raw.count(b":") - kept - data.count(b":") > keys


_KEYS = 4  # keys that every event has


def _has_many_exponents(raw: bytes) -> bool:
    letters = raw.count(b"e") + raw.count(b"E")  # PERF: takes a tenth of the time of the expression
    return letters > _EXPONENTS and len(_EXPONENT.findall(raw)) > _EXPONENTS


def _has_large_integer(data: bytes) -> bool:
    """Tell whether data has an integer of more than 308 digits.

    PERF: a search through all bytes takes longer than all other checks. The sample says no to most texts.
    """
    if len(data) <= _LARGE_INTEGER_DIGITS or _SAMPLED_INTEGER.search(data[::_SAMPLE]) is None:
        return False
    return _LARGE_INTEGER.search(data) is not None


def _spell_out(data: Any) -> bytes:
    """Write data with large numbers spelled out, and with a decimal point.

    PostgreSQL's jsonb would give 1e300 back as an integer of 301 digits, which a client would read as an integer.

    Raises:
        InvalidEvents: data is too large when spelled out.
    """
    room = limits.DATA_BYTES
    # PERF: the size is computed before anything is written, because five characters may become 300.
    for number in _with_exponent(data):
        room -= number.adjusted()
        if room < 0:
            break
    encoded = numbers.encode(_spell(data)) if room >= 0 else b""
    if room < 0 or len(encoded) > limits.DATA_BYTES:
        detail = f"is more than {limits.DATA_BYTES:,} bytes of compact JSON when its large numbers are written out"
        raise InvalidEvents((Fault("/data", detail),))
    return encoded


def _with_exponent(value: Any) -> Iterator[Decimal]:
    if isinstance(value, Decimal) and "E+" in str(value):
        yield value
    elif isinstance(value, dict | list):
        for item in value.values() if isinstance(value, dict) else value:
            yield from _with_exponent(item)


def _spell(value: Any) -> Any:
    if isinstance(value, Decimal) and "E+" in str(value):
        return msgspec.Raw(f"{value:f}.0".encode())
    if isinstance(value, dict):
        return {key: _spell(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_spell(item) for item in value]
    return value
