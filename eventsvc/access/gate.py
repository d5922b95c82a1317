"""Apply a key to the events sent with it: fill in the key's defaults, and refuse events that the key may not see."""

from __future__ import annotations

import time

import msgspec

from eventsvc.access.rights import AUDIT_COMPONENT, Grant
from eventsvc.errors import Forbidden
from eventsvc.event import Event, NewEvent
from eventsvc.incoming.parser import Parser
from eventsvc.query.to_predicate import Candidate


class Gate:
    """A parser for the events of one request."""

    def __init__(self, parser: Parser, grant: Grant) -> None:
        self._parse, self._defaults = parser.parse, grant.defaults
        self._now = round(time.time() * 1000)
        self._hides_audit, self._inside = grant.restriction.hides_audit, grant.restriction.test(self._now)

    def parse(self, raw: bytes) -> NewEvent:
        """Read and check one JSON object.

        Raises:
            InvalidBody, InvalidEvents: the parser refuses the event.
            Forbidden: the key may not see such an event.
        """
        new = self._parse(self._complete(raw) if self._defaults else raw)
        if (self._hides_audit and new.component == AUDIT_COMPONENT) or (
            self._inside is not None and not self._inside(Candidate(_as_stored(new, self._now)))
        ):
            raise Forbidden("this key may not store such an event: it would not see the event itself")
        return new

    def _complete(self, raw: bytes) -> bytes:
        """Insert the missing fields before the last bracket, so that the parser checks the rest exactly as sent."""
        try:
            sent = msgspec.json.decode(raw, type=dict[str, msgspec.Raw])
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            return raw  # the parser says what is wrong
        missing = {name: value for name, value in self._defaults.items() if name not in sent}
        if not missing:
            return raw
        comma = b"," if sent else b""
        return raw.rstrip()[:-1] + comma + msgspec.json.encode(missing)[1:]


def _as_stored(new: NewEvent, now: int) -> Event:
    """Give the event as it will be stored, but without id and seq."""
    text = (new.email, new.environment, new.component, new.message, new.data.decode())
    return Event(0, "", now, new.occurred(now), *text)
