"""Event, its limits, and its JSON forms."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import lru_cache
from typing import Any

import msgspec
import orjson

from eventsvc import limits
from eventsvc.errors import Fault, InvalidBody, InvalidEvents
from eventsvc.incoming import faults


class Event(msgspec.Struct, frozen=True):
    """One stored event; immutable, like the log it lies in.

    Attributes:
        seq: its position in the log.
        id: UUID4, canonical lower-case text.
        created_at: milliseconds since 1970-01-01T00:00:00Z, by the database's clock.
        data: JSON text, as PostgreSQL's jsonb writes it. Kept as text: most readers only pass it on, and a
            round trip through Python objects would cost time and, for large integers, digits.
    """

    seq: int
    id: str
    created_at: int
    email: str
    environment: str
    component: str
    message: str
    data: str

    @property
    def position(self) -> tuple[int, int]:
        """What events are ordered by, in both stores."""
        return (self.created_at, self.seq)

    def parsed_data(self) -> Any:
        """Data as Python objects; integers of any size stay exact."""
        return msgspec.json.decode(self.data)

    def to_json(self) -> dict[str, Any]:
        """The form clients see; give it to ``dumps``."""
        return {
            "id": self.id,
            "createdAt": format_time(self.created_at),
            "email": self.email,
            "environment": self.environment,
            "component": self.component,
            "message": self.message,
            "data": orjson.Fragment(self.data),
        }


_EPOCH, _MILLISECOND = datetime(1970, 1, 1, tzinfo=UTC), timedelta(milliseconds=1)


def format_time(milliseconds: int) -> str:
    """RFC 3339 in UTC with milliseconds and Z."""
    return (_EPOCH + milliseconds * _MILLISECOND).isoformat(timespec="milliseconds")[:-6] + "Z"


def parse_time(text: str) -> int:
    """Milliseconds since 1970 of what ``format_time`` wrote."""
    return (datetime.fromisoformat(text) - _EPOCH) // _MILLISECOND


class NewEvent(msgspec.Struct, frozen=True, gc=False):
    """One event as sent, checked, not yet stored; ``data`` is compact JSON in UTF-8."""

    email: str
    environment: str
    component: str
    message: str
    data: bytes


class _Sent(msgspec.Struct, forbid_unknown_fields=True):
    email: str
    environment: str
    component: str
    message: str
    data: Any = None


class EventParser:
    """Bytes to NewEvent. It keeps the addresses it has seen: checking one costs 50 times what the rest does."""

    def __init__(self) -> None:
        self._email_fault = lru_cache(maxsize=20_000)(faults.email_fault)

    def parse(self, raw: bytes) -> NewEvent:
        """Read and check one JSON object.

        Raises:
            InvalidBody: it is not JSON.
            InvalidEvents: it breaks rules; all of them are named.
        """
        try:
            sent = _decode(raw)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as exc:
            faults.explain(raw, self._email_fault)
            raise InvalidBody(f"not JSON that can be read: {exc}") from exc
        data = msgspec.json.encode(sent.data)
        if self._is_suspicious(raw, sent, data):
            faults.explain(raw, self._email_fault)
        if _LARGE_FLOAT.search(data):
            data = msgspec.json.encode(_spell_floats(sent.data))
            if len(data) > limits.DATA_BYTES:
                raise InvalidEvents((Fault("/data", faults.data_too_large(len(data))),))
        return NewEvent(sent.email, sent.environment, sent.component, sent.message, data)

    def _is_suspicious(self, raw: bytes, sent: _Sent, data: bytes) -> bool:
        """Tell whether a rule may be broken; never False when one is (the tests try to prove otherwise)."""
        return (
            not 0 < len(sent.environment) <= limits.NAME
            or not 0 < len(sent.component) <= limits.NAME
            or not 0 < len(sent.message) <= limits.MESSAGE
            or len(data) > limits.DATA_BYTES
            or data.count(b"{") + data.count(b"[") > limits.DATA_DEPTH
            or b"\\u0000" in raw
            or b"\\u003" in raw  # an escaped colon would spoil the count of keys
            or _has_more_keys(raw, sent, data)
            or (len(data) > _LARGE_INTEGER_DIGITS and _LARGE_INTEGER.search(data) is not None)
            or self._email_fault(sent.email) is not None
        )


_decode = msgspec.json.Decoder(_Sent).decode
_LARGE_INTEGER_DIGITS = 308  # one less than float64's largest number has
_LARGE_INTEGER = re.compile(rb"[0-9]{309}")
_LARGE_FLOAT = re.compile(rb"(?:^|[:,\[])-?[0-9.]+e[0-9]")


def _has_more_keys(raw: bytes, sent: _Sent, data: bytes) -> bool:
    r"""Tell whether a key may have been given twice.

    PERF: every key brings one colon, and no encoder escapes a colon. So what was sent has as many colons as
    what was kept, unless a key was dropped as a duplicate (more) or a string was sent with \u003a (less; such
    events are sent the slow way before they come here).
    """
    kept = sent.email.count(":") + sent.environment.count(":") + sent.component.count(":") + sent.message.count(":")
    return raw.count(b":") - kept - data.count(b":") > (_KEYS_WITHOUT_DATA if data == b"null" else _KEYS)


_KEYS_WITHOUT_DATA, _KEYS = 4, 5


def _spell_floats(value: Any) -> Any:
    """Write large floats out with a decimal point.

    PostgreSQL's jsonb would give 1e300 back as an integer of 301 digits, which compares unequal to the float.
    """
    if isinstance(value, float) and abs(value) >= 1e16:  # noqa: PLR2004  (where shortest forms get an exponent)
        return msgspec.Raw(f"{Decimal(repr(value)):f}.0".encode())
    if isinstance(value, dict):
        return {key: _spell_floats(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_spell_floats(item) for item in value]
    return value
