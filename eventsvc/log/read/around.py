"""The events before and after a position, in one statement."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from eventsvc.log.filter import Filter
from eventsvc.log.read.page import LogPage, PageQuestion
from eventsvc.log.read.state import LogState, Part, Row
from eventsvc.paging import PageRequest, Position


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
    def requests(self) -> tuple[PageRequest, PageRequest]:
        """The page before the event, newest first, and the page after the event, oldest first."""
        return PageRequest(self.before, self.position), PageRequest(self.after, self.position, newest_first=False)

    def compose(self, matching: Filter) -> list[Part]:
        """See ``Question``."""
        return [part for request in self.requests for part in PageQuestion(request).compose(matching)]

    def decode(self, rows: Sequence[Row], state: LogState, *, settled: bool) -> LogPage:
        """See ``Question``; all neighbours together, oldest first."""
        return PageQuestion(PageRequest(0, newest_first=False)).decode(rows, state, settled=settled)
