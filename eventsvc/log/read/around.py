"""The events before and after a position, in one statement."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from eventsvc.log.filter import Filter
from eventsvc.log.read.page import Position, Rows, Slice
from eventsvc.log.read.state import Moment, Part, Row


@dataclass(frozen=True, slots=True)
class Around:
    """A question for the neighbours of an event.

    Attributes:
        position: the position of the event, which is not among its neighbours.
        before: how many older events at most.
        after: how many newer events at most.
    """

    position: Position
    before: int
    after: int

    @property
    def slices(self) -> tuple[Slice, Slice]:
        """The page before the event, newest first, and the page after the event, oldest first."""
        return Slice(self.before, self.position), Slice(self.after, self.position, newest_first=False)

    def compose(self, matching: Filter) -> list[Part]:
        """See ``Question``."""
        return [part for wanted in self.slices for part in wanted.compose(matching)]

    def decode(self, rows: Sequence[Row], moment: Moment, *, settled: bool) -> Rows:
        """See ``Question``; all neighbours together, oldest first."""
        return Slice(0, newest_first=False).decode(rows, moment, settled=settled)
