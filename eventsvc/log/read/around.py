"""The events before and after a position, in one statement."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from eventsvc.log.filter import Filter
from eventsvc.log.read.page import Position, Rows, Slice
from eventsvc.log.read.state import Moment, Part, Row


@dataclass(frozen=True, slots=True)
class Around:
    """Which neighbours of an event are wanted.

    Attributes:
        position: of the event, which is not among its neighbours.
        before: at most so many that are older.
        after: at most so many that are newer.
    """

    position: Position
    before: int
    after: int

    @property
    def slices(self) -> tuple[Slice, Slice]:
        """What lies before, newest first, and what lies after, oldest first."""
        return Slice(self.before, self.position), Slice(self.after, self.position, newest_first=False)

    def compose(self, matching: Filter) -> list[Part]:
        """See ``Question``."""
        return [part for wanted in self.slices for part in wanted.compose(matching)]

    def decode(self, rows: Sequence[Row], moment: Moment, *, settled: bool) -> Rows:
        """See ``Question``; all neighbours together, oldest first."""
        return Slice(0, newest_first=False).decode(rows, moment, settled=settled)
