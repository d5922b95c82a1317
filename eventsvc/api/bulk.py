"""The events of a bulk request: the options of the request, the events read, and the events refused."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Literal

from eventsvc import limits
from eventsvc.errors import BodyTooLarge, Fault, Forbidden, InvalidBody, InvalidEvents
from eventsvc.incoming.split import Item, split_json, split_lines

if TYPE_CHECKING:
    from collections.abc import Iterator

    from eventsvc.api.store_options import StoreOptions
    from eventsvc.event import NewEvent
    from eventsvc.incoming.parser import Parser
    from eventsvc.incoming.unpack import Unpacked
    from eventsvc.settings import Settings

_FAULTS_PER_EVENT = 5
_REPORTED_WHEN_PARTIAL = 10_000  # lines, so that the answer fits into memory


class InvalidLines:
    """The invalid events of one request, with their faults."""

    def __init__(self, *, partial: bool) -> None:
        self._reported = _REPORTED_WHEN_PARTIAL if partial else limits.FAULTS
        self.count = 0
        self.faults: list[Fault] = []

    def add(self, number: int, exc: Forbidden | InvalidBody | InvalidEvents) -> None:
        """Add the refused event with this number, from 1."""
        self.count += 1
        if self.count <= self._reported:
            faults = exc.faults if isinstance(exc, InvalidEvents) else (Fault("", str(exc)),)
            self.faults += [Fault(one.pointer, one.detail, number) for one in faults[:_FAULTS_PER_EVENT]]

    def report(self) -> dict[str, Any]:
        """Give the part of the answer that lists the refused events."""
        errors = [{"line": fault.line, "pointer": fault.pointer, "detail": fault.detail} for fault in self.faults]
        return {"rejected": self.count, "errors": errors}


BulkLayout = Literal["lines", "json", "envelope"]


def _split(body: Unpacked, longest: int, form: BulkLayout) -> Iterator[Item]:
    return split_lines(body, longest) if form == "lines" else split_json(body, longest, envelope=form == "envelope")


class BulkEvents:
    """The events of a body, checked one by one; iterated once, in a thread."""

    def __init__(
        self,
        body: Unpacked,
        parser: Parser,
        settings: Settings,
        options: StoreOptions,
        form: BulkLayout,
    ) -> None:
        self._body, self._parse, self._partial, self._variant = body, parser.parse, options.partial, options.variant
        self._items = _split(body, settings.body_bytes, form)
        self._most, self._seconds = settings.bulk_events, settings.bulk_seconds
        self.invalid = InvalidLines(partial=options.partial)

    def __iter__(self) -> Iterator[NewEvent]:
        """Give the good events. After the first bad event give none, unless the request is partial.

        Raises:
            InvalidBody: the body cannot be read to its end.
            BodyTooLarge: there are too many events, or reading them takes too long.
            Forbidden: the API key may not store one of the events.
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
                self.invalid.add(number, exc)
                if not self._partial and self.invalid.count == limits.FAULTS:
                    return
            else:
                if self._partial or not self.invalid.count:
                    yield new

    def finish(self) -> None:
        """Refuse all events if one is bad, unless the request is partial.

        Raises:
            InvalidEvents: some events are bad, and the request is not partial.
        """
        if self.invalid.count and not self._partial:
            raise InvalidEvents(tuple(self.invalid.faults), total=self.invalid.count)

    def fingerprint(self) -> bytes:
        """Hash the body and the options that decide what is stored."""
        return self._body.fingerprint() + self._variant
