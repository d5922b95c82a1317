"""Many events in one request: what is read, what is refused, and what is answered."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from eventsvc import limits
from eventsvc.errors import BodyTooLarge, Fault, Forbidden, InvalidBody, InvalidEvents
from eventsvc.incoming.split import Item, split_json, split_lines

if TYPE_CHECKING:
    from collections.abc import Iterator

    from eventsvc.access.gate import Parser
    from eventsvc.event import NewEvent
    from eventsvc.incoming.unpack import Unpacked

_FAULTS_PER_EVENT = 5
_REPORTED_WHEN_PARTIAL = 10_000  # lines; the answer must not outgrow memory either


class BulkEvents:
    """The events of a body, checked one by one; iterated once, in a thread."""

    def __init__(self, body: Unpacked, parser: Parser, *, lines: bool, longest: int, most: int, partial: bool) -> None:
        self._body, self._parse = body, parser.parse
        self._items: Iterator[Item] = (split_lines if lines else split_json)(body, longest)
        self._most, self._partial = most, partial
        self._reported = _REPORTED_WHEN_PARTIAL if partial else limits.FAULTS
        self.faults: list[Fault] = []
        self.refused = 0

    def __iter__(self) -> Iterator[NewEvent]:
        """Give the good ones; once one is bad, none, unless the good ones are to be stored regardless.

        Raises:
            InvalidBody: the body cannot be read to its end.
            BodyTooLarge: too many events.
            Forbidden: the API key may not store one of them.
        """
        for count, (number, raw) in enumerate(self._items, 1):
            if count > self._most:
                raise BodyTooLarge(f"more than {self._most:,} events in one request")
            try:
                if isinstance(raw, InvalidEvents):
                    raise raw
                new = self._parse(raw)
            except InvalidEvents as exc:
                self._refuse(number, exc.faults)
            except InvalidBody as exc:
                self._refuse(number, (Fault("", str(exc)),))
            except Forbidden as exc:
                if not self._partial:
                    raise
                self._refuse(number, (Fault("", str(exc)),))
            else:
                if self._partial or not self.refused:
                    yield new

    def finish(self) -> None:
        """Refuse all if one is bad, unless the good ones are to be stored regardless."""
        if self.refused and not self._partial:
            raise InvalidEvents(tuple(self.faults), total=self.refused)

    def fingerprint(self) -> bytes:
        """Digest the body."""
        return self._body.fingerprint() + (b"partial" if self._partial else b"")

    def report(self) -> dict[str, Any]:
        """Say which lines were refused."""
        errors = [{"line": fault.line, "pointer": fault.pointer, "detail": fault.detail} for fault in self.faults]
        return {"rejected": self.refused, "errors": errors}

    def _refuse(self, number: int, faults: tuple[Fault, ...]) -> None:
        self.refused += 1
        if self.refused <= self._reported:
            self.faults += [Fault(one.pointer, one.detail, number) for one in faults[:_FAULTS_PER_EVENT]]
