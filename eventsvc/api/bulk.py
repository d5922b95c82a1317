"""The events of a request: how they are to be taken, which are read, and which are refused."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from eventsvc import limits
from eventsvc.errors import BodyTooLarge, Fault, Forbidden, InvalidBody, InvalidEvents
from eventsvc.incoming.split import Item, split_json, split_lines

if TYPE_CHECKING:
    from collections.abc import Iterator

    from eventsvc.access.gate import Gate
    from eventsvc.event import NewEvent
    from eventsvc.incoming.parser import Parser
    from eventsvc.incoming.unpack import Unpacked
    from eventsvc.settings import Settings

_FAULTS_PER_EVENT = 5
_REPORTED_WHEN_PARTIAL = 10_000  # lines; the answer must not outgrow memory either


@dataclass(frozen=True, slots=True)
class Wishes:
    """What the request asks for beside storing.

    Attributes:
        partial: store the good events though others are bad, and answer 200.
        sanitize: change what would be refused for its characters or length.
        dry_run: check, store nothing.
        prefer: what to answer: "representation", "minimal", or "" for what is usual.
        key: hash of the Idempotency-Key, and of who sent it.
        gate: what the API key does to each event, if anything.
    """

    partial: bool = False
    sanitize: bool = False
    dry_run: bool = False
    prefer: str = ""
    key: bytes | None = None
    gate: Gate | None = None

    @property
    def variant(self) -> bytes:
        """What decides, beside the body, what is stored: another one is another request under an Idempotency-Key."""
        sanitize = b"" if self.sanitize == self.partial else b"sanitize" if self.sanitize else b"exactly"
        return (b"partial" if self.partial else b"") + sanitize


class Refusals:
    """The events of one request that were refused, and why."""

    def __init__(self, *, partial: bool) -> None:
        self._reported = _REPORTED_WHEN_PARTIAL if partial else limits.FAULTS
        self.count = 0
        self.faults: list[Fault] = []

    def add(self, number: int, exc: Forbidden | InvalidBody | InvalidEvents) -> None:
        """Note the event with this number, from 1."""
        self.count += 1
        if self.count <= self._reported:
            faults = exc.faults if isinstance(exc, InvalidEvents) else (Fault("", str(exc)),)
            self.faults += [Fault(one.pointer, one.detail, number) for one in faults[:_FAULTS_PER_EVENT]]

    def report(self) -> dict[str, Any]:
        """Say which events were refused."""
        errors = [{"line": fault.line, "pointer": fault.pointer, "detail": fault.detail} for fault in self.faults]
        return {"rejected": self.count, "errors": errors}


class BulkEvents:
    """The events of a body, checked one by one; iterated once, in a thread."""

    def __init__(
        self,
        body: Unpacked,
        parser: Parser,
        settings: Settings,
        wishes: Wishes,
        *,
        lines: bool,
    ) -> None:
        self._body, self._parse, self._partial, self._variant = body, parser.parse, wishes.partial, wishes.variant
        self._items: Iterator[Item] = (split_lines if lines else split_json)(body, settings.body_bytes)
        self._most, self._seconds = settings.bulk_events, settings.bulk_seconds
        self.refusals = Refusals(partial=wishes.partial)

    def __iter__(self) -> Iterator[NewEvent]:
        """Give the good ones; once one is bad, none, unless the good ones are to be stored regardless.

        Raises:
            InvalidBody: the body cannot be read to its end.
            BodyTooLarge: too many events, or reading them takes too long.
            Forbidden: the API key may not store one of them.
        """
        deadline = time.monotonic() + self._seconds
        for count, (number, raw) in enumerate(self._items, 1):
            if count > self._most:
                raise BodyTooLarge(f"more than {self._most:,} events in one request")
            if time.monotonic() > deadline:
                raise BodyTooLarge(f"reading took longer than {self._seconds:g} s, up to event {count:,}: send fewer")
            try:
                if isinstance(raw, InvalidEvents):
                    raise raw
                new = self._parse(raw)
            except (Forbidden, InvalidBody, InvalidEvents) as exc:
                if isinstance(exc, Forbidden) and not self._partial:
                    raise
                self.refusals.add(number, exc)
                if not self._partial and self.refusals.count == limits.FAULTS:
                    return
            else:
                if self._partial or not self.refusals.count:
                    yield new

    def finish(self) -> None:
        """Refuse all if one is bad, unless the good ones are to be stored regardless."""
        if self.refusals.count and not self._partial:
            raise InvalidEvents(tuple(self.refusals.faults), total=self.refusals.count)

    def fingerprint(self) -> bytes:
        """Digest the body and what else decides what is stored."""
        return self._body.fingerprint() + self._variant
