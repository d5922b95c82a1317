"""An event and its neighbours: what happened just before and just after."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from eventsvc.event import Event
from eventsvc.log.read.page import PageQuestion
from eventsvc.log.read.reader import Reader
from eventsvc.paging import PAGE_BYTES, PageRequest, fit
from eventsvc.search.search import Compiled, Search


@dataclass(frozen=True, slots=True)
class Context:
    """An event between its neighbours, each side oldest first.

    Attributes:
        more_before: whether there are events older than those in ``before``.
        more_after: whether there are events newer than those in ``after``.
    """

    before: tuple[Event, ...]
    event: Event
    after: tuple[Event, ...]
    more_before: bool
    more_after: bool


class Neighbours:
    """Finds the neighbours of events, among all events that were acknowledged before the request."""

    def __init__(self, reader: Reader, search: Search) -> None:
        self._reader, self._search = reader, search

    async def of(self, event: Event, query: Compiled, *, before: int, after: int) -> Context:
        """Give an event's context.

        Args:
            event: the event in the middle.
            query: selects the events that count as neighbours.
            before: how many older events at most.
            after: how many newer events at most.

        Raises:
            LogUnavailable: PostgreSQL is away.
            LogTimeout: the index is away, and PostgreSQL alone took too long.
        """
        sides = (
            PageRequest(before + 1, event.position),
            PageRequest(after + 1, event.position, newest_first=False),
        )
        if query.node is not None:
            pages = await asyncio.gather(*(self._search.find(query, side, keep=False) for side in sides))
            older, newer = (page.events for page in pages)
        else:
            # PERF: PostgreSQL has an index on (created_at, seq), so Elasticsearch need not be asked.
            answers = await asyncio.gather(*(self._reader.whole(query.log, PageQuestion(side)) for side in sides))
            older, newer = (answer.content.events for answer in answers)
        # Take the closest events, up to the number asked for and the size of an answer.
        nearest_older = fit(older[:before], PAGE_BYTES // 2)
        nearest_newer = fit(newer[:after], PAGE_BYTES // 2)
        return Context(
            nearest_older[::-1],
            event,
            nearest_newer,
            len(older) > len(nearest_older),
            len(newer) > len(nearest_newer),
        )
