"""All exceptions of eventsvc, as one tree. No exception knows HTTP or SQL.

EventsvcError
├── InvalidInput             the caller's fault: say what, where and what to do
│   ├── QueryError           a query that cannot be read or makes no sense
│   ├── InvalidEvents        one or more events that break a rule
│   ├── InvalidBody          a body that cannot be read at all (syntax, encoding, type, size)
│   ├── UnknownProtocol      a body of a protocol that holds many records in a form of its own
│   ├── InvalidParameter     a query parameter or header with an impossible value
│   ├── KeyReused            an Idempotency-Key that came before with another body
│   └── SeqNotReached        a seq that the log has not reached
├── KeyRunning               a request with the same Idempotency-Key is still running
├── Unauthenticated          the request needs a valid key, and has none
├── Forbidden                the key does not allow this
├── KeyNotFound              no valid API key has this id
├── TooManyRequests          the key, or the address, has sent more requests than it may
├── QueriesQueued            more long queries wait to be read than is allowed
├── EventNotFound            no event has this id
├── ViewNotFound             no saved view has this name
├── EventGone                the event was stored once, and has been erased since
├── EventsHeld               a hold keeps some of the events that were to be erased
├── ErasureNotFound          no erasure has this id
├── LogError                 PostgreSQL could not do its part
│   ├── LogUnavailable       PostgreSQL cannot be reached, or the connection broke
│   │   └── WorkerUnavailable   a worker of the log does not answer; the coordinator does
│   ├── LogTimeout           a statement ran into its time limit
│   ├── CommitUnknown        PostgreSQL did not confirm a COMMIT: nobody knows whether the events are stored
│   ├── WriteQueueFull       more events wait to be written than is allowed
│   ├── SearchesQueued       more heavy searches wait than is allowed
│   ├── Fenced               the next fence was drawn: the leader with the old fence may change nothing any more
│   └── SchemaError          this version needs another schema of the database
├── IndexUnavailable         Elasticsearch cannot give a whole answer now
└── SetupError               a setting is wrong, or a server cannot be started
"""

from __future__ import annotations

from dataclasses import dataclass


class EventsvcError(Exception):
    """The root of the tree. Its text is written for an operator."""

    @property
    def public(self) -> str:
        """The text that clients may see."""
        return str(self)


class InvalidInput(EventsvcError):
    """What the caller sent cannot be used."""


class QueryError(InvalidInput):
    """A query that cannot be read, or that makes no sense.

    Attributes:
        text: the query as sent.
        reason: what is wrong, one sentence.
        offset: 0-based position in characters.
        width: how many characters the fault covers, at least 1.
        expected: what could stand there instead, in words; may be empty.
        hint: what to do about a common mistake; may be empty.
    """

    def __init__(
        self, reason: str, *, text: str, offset: int, width: int = 1, expected: tuple[str, ...] = (), hint: str = ""
    ) -> None:
        self.reason, self.text, self.offset, self.width = reason, text, offset, max(1, width)
        self.expected, self.hint = expected, hint
        super().__init__(reason)

    @property
    def line(self) -> int:
        """The 1-based line of the fault."""
        return self.text.count("\n", 0, self.offset) + 1

    @property
    def column(self) -> int:
        """The 1-based column of the fault, in characters."""
        return self.offset - (self.text.rfind("\n", 0, self.offset) + 1) + 1


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing wrong with one event.

    Attributes:
        pointer: a JSON pointer (RFC 6901) into the event, "" for the event itself.
        detail: what is wrong and what is allowed.
        line: 1-based line (NDJSON) or position (array) in a bulk request; None for a single event.
    """

    pointer: str
    detail: str
    line: int | None = None


class InvalidEvents(InvalidInput):
    """One or more events break a rule; nothing was stored."""

    def __init__(self, faults: tuple[Fault, ...], *, total: int | None = None) -> None:
        self.faults = faults
        self.total = len(faults) if total is None else total
        super().__init__("; ".join(f"{fault.pointer or '/'}: {fault.detail}" for fault in faults[:3]))


class InvalidBody(InvalidInput):
    """A body that cannot be read at all."""


class UnsupportedMediaType(InvalidBody):
    """A Content-Type or Content-Encoding that is not understood."""


class UnknownProtocol(InvalidInput):
    """A body of another protocol, with many records in a form that is not understood."""


class BodyTooLarge(InvalidBody):
    """A body that is larger than the limit, as sent or decompressed."""


class InvalidParameter(InvalidInput):
    """A query parameter or header with an impossible value."""

    def __init__(self, name: str, detail: str) -> None:
        self.name, self.detail = name, detail
        super().__init__(f"{name}: {detail}")


class KeyReused(InvalidInput):
    """An Idempotency-Key that came before with another body."""


class SeqNotReached(InvalidInput):
    """A seq that the log has not reached."""

    def __init__(self, seq: int, last: int) -> None:
        super().__init__(f"the log ends at seq {last}: it has no state as of seq {seq}")


class KeyRunning(EventsvcError):
    """A request with the same Idempotency-Key is still running."""


class Unauthenticated(EventsvcError):
    """The request carries no valid key, and needs one."""


class Forbidden(EventsvcError):
    """The key lacks the right that the request needs."""


class KeyNotFound(EventsvcError):
    """No valid API key has this id."""

    def __init__(self, key_id: str) -> None:
        super().__init__(f"no good key has the id {key_id!r}")


class TooManyRequests(EventsvcError):
    """The key, or the address, has sent more requests than it may; try again later."""


class QueriesQueued(EventsvcError):
    """More long queries wait to be read than is allowed; try again in a moment."""


class ViewNotFound(EventsvcError):
    """No saved view has this name."""

    def __init__(self, name: str) -> None:
        super().__init__(f"no view is called {name!r}")


class EventGone(EventsvcError):
    """The event was stored once, and has been erased since."""


class EventsHeld(EventsvcError):
    """Some of the events that were to be erased must be kept.

    Attributes:
        holds: the name of each hold, with how many of the events it keeps.
    """

    def __init__(self, holds: tuple[tuple[str, int], ...]) -> None:
        self.holds = holds
        named = ", ".join(f"{name} ({count:,})" for name, count in holds)
        super().__init__(f"nothing was erased: holds keep some of these events: {named}")


class ErasureNotFound(EventsvcError):
    """No erasure has this id."""

    def __init__(self, erasure_id: str) -> None:
        super().__init__(f"no erasure has the id {erasure_id!r}")


class EventNotFound(EventsvcError):
    """No event has this id."""

    def __init__(self, event_id: str) -> None:
        self.event_id = event_id
        super().__init__(f"there is no event with id {event_id}")


class LogError(EventsvcError):
    """PostgreSQL could not do what was asked."""

    @property
    def public(self) -> str:
        """The text without the driver's message: hosts, ports and users are for the service's own log."""
        return str(self).partition(": ")[0]


class LogUnavailable(LogError):
    """PostgreSQL cannot be reached, or the connection broke; nothing was stored."""


class WorkerUnavailable(LogUnavailable):
    """A worker of the log does not answer, while the coordinator does; nothing was stored."""


class LogTimeout(LogError):
    """A statement ran into its time limit."""


class CommitUnknown(LogError):
    """PostgreSQL did not confirm a COMMIT, so nobody knows whether the events are stored.

    The connection broke, or PostgreSQL did not answer in time. Or PostgreSQL has committed, but a standby or a worker
    has not confirmed that it has the events.
    """


class WriteQueueFull(LogError):
    """More events wait to be written than is allowed; try again in a moment."""


class SearchesQueued(LogError):
    """More heavy searches or large pages wait than is allowed; try again in a moment."""


class Fenced(LogError):
    """Another leader, or a change of the indexes, has drawn the next fence. All that was read before is out of date."""


class SchemaError(LogError):
    """This version needs another schema of the database."""


class IndexUnavailable(EventsvcError):
    """Elasticsearch cannot give a whole answer now: away, slow, red, or an index is missing."""

    @property
    def public(self) -> str:
        """The text without the client library's message."""
        return str(self).partition(": ")[0]


class SetupError(EventsvcError):
    """A setting is wrong, or a server cannot be found or started."""
