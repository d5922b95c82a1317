"""What a key does to the events that are sent with it: fills in its defaults, and refuses what lies outside."""

from __future__ import annotations

import time
from typing import Protocol

import msgspec

from eventsvc.access.rights import AUDIT_COMPONENT, Grant
from eventsvc.errors import Forbidden
from eventsvc.event import Event, NewEvent
from eventsvc.query.to_predicate import Candidate


class Parser(Protocol):
    """Bytes to NewEvent."""

    def parse(self, raw: bytes) -> NewEvent:
        """Read and check one JSON object."""


class Gate:
    """A parser for the events of one request."""

    def __init__(self, parser: Parser, grant: Grant) -> None:
        self._parse, self._defaults = parser.parse, grant.defaults
        self._now = round(time.time() * 1000)
        self._hides_audit, self._inside = grant.restriction.hides_audit, grant.restriction.test(self._now)

    def parse(self, raw: bytes) -> NewEvent:
        """Read and check one JSON object.

        Raises:
            InvalidBody, InvalidEvents: as the parser does.
            Forbidden: it lies outside of what the key may see.
        """
        new = self._parse(self._complete(raw) if self._defaults else raw)
        if (self._hides_audit and new.component == AUDIT_COMPONENT) or (
            self._inside is not None and not self._inside(Candidate(as_stored(new, self._now)))
        ):
            raise Forbidden("this key may not store such an event: it would not see the event itself")
        return new

    def _complete(self, raw: bytes) -> bytes:
        """Write the missing fields before the last bracket, so that all that was sent is checked as it was sent."""
        try:
            sent = msgspec.json.decode(raw, type=dict[str, msgspec.Raw])
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            return raw  # the parser says what is wrong
        missing = {name: value for name, value in self._defaults.items() if name not in sent}
        if not missing:
            return raw
        comma = b"," if sent else b""
        return raw.rstrip()[:-1] + comma + msgspec.json.encode(missing)[1:]


def as_stored(new: NewEvent, now: int) -> Event:
    """Give the event that this one is about to become; it has no id yet."""
    text = (new.email, new.environment, new.component, new.message, new.data.decode())
    return Event(0, "", now, new.occurred(now), *text)
