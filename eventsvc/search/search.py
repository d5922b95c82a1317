"""One search: hits from the index and the tail from the log, merged; the log alone if the index is away."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

import structlog

from eventsvc.errors import IndexUnavailable
from eventsvc.event import Event
from eventsvc.index.hits import Hits, Inexact, Page, PageRequest, Scope
from eventsvc.log.read.page import Rows, Slice
from eventsvc.log.read.reader import Reader
from eventsvc.log.read.state import Filter, Moment
from eventsvc.query import ast
from eventsvc.query.render import render
from eventsvc.query.to_elasticsearch import to_elasticsearch
from eventsvc.query.to_sql import to_sql
from eventsvc.search.joined import Both, Joined
from eventsvc.telemetry import SEARCHES

_log = structlog.get_logger(__name__)


class Source(StrEnum):
    """What an answer was made from."""

    INDEX_AND_TAIL = "index+tail"
    CACHE_AND_TAIL = "cache+tail"
    INDEX = "index"
    SQL = "sql"


@dataclass(frozen=True, slots=True)
class Compiled:
    """A query, ready for both stores.

    Attributes:
        text: canonical, with every relative time resolved; equal texts mean equal answers.
        index: the query for the index; None when it cannot say it exactly.
        node: what it was made from; None matches every event.
    """

    text: str
    log: Filter
    index: dict[str, Any] | None
    node: ast.Node | None


EVERYTHING = Compiled("", Filter(), {"match_all": {}}, None)


def compile_query(node: ast.Node | None) -> Compiled:
    """Make a query out of its tree; None is the query that matches every event."""
    if node is None:
        return EVERYTHING
    text, parameters = to_sql(node)
    return Compiled(render(node), Filter(text, tuple(parameters)), to_elasticsearch(node), node)


@dataclass(frozen=True, slots=True)
class Provenance:
    """Where an answer comes from.

    Attributes:
        reason: why it is not from the index; "" if it is.
        moment: the state of the log it is an answer about; None when the log was not asked.
        settled: see ``Rows.settled``.
    """

    source: Source
    reason: str = ""
    moment: Moment | None = None
    settled: bool = False


@dataclass(frozen=True, slots=True)
class Answer:
    """A page of events.

    Attributes:
        more: whether there are more past the last one.
        total: how many there are in all, if that was asked for.
    """

    events: tuple[Event, ...]
    more: bool
    total: int | None
    provenance: Provenance


class Search:
    """Finds events; strong answers hold every event that was acknowledged before the question."""

    def __init__(self, reader: Reader, joined: Joined) -> None:
        self._reader, self._joined = reader, joined

    async def by_id(self, event_id: str, query: Compiled) -> Event:
        """Give one event, from the log.

        Raises:
            EventNotFound: there is none of that id that matches.
        """
        return await self._reader.by_id(event_id, query.log)

    async def state(self) -> Moment:
        """Give the state of the log, at the price of one small statement."""
        return await self._reader.moment()

    async def find(self, query: Compiled, wanted: Slice, *, strong: bool = True, keep: bool = True) -> Answer:
        """Give a page of events.

        Args:
            query: which events.
            wanted: which of those.
            strong: with everything acknowledged by now; needs PostgreSQL.
            keep: whether the page may be kept for later; a stream's pages would only push others out.

        Raises:
            LogUnavailable: PostgreSQL is away, and it was needed.
            LogTimeout: the index is away, and PostgreSQL alone took too long.
        """
        answer = await self._find(query, replace(wanted, limit=wanted.limit + 1), strong=strong, keep=keep)
        SEARCHES.labels(answer.provenance.source).inc()
        return replace(answer, events=answer.events[: wanted.limit], more=len(answer.events) > wanted.limit)

    async def _find(self, query: Compiled, wanted: Slice, *, strong: bool, keep: bool) -> Answer:
        reason = self._joined.obstacle or ("" if query.index is not None else "not expressible")
        if not reason:
            try:
                return await (self._merged(query, wanted, keep=keep) if strong else self._eventual(query, wanted))
            except IndexUnavailable as exc:
                _log.warning("a search goes to PostgreSQL", reason=str(exc))
                reason = "index away"
            except Inexact as exc:
                _log.warning("a search goes to PostgreSQL", reason=str(exc))
                reason = "not expressible"
        rows = await self._reader.whole(query.log, wanted, strong=strong)
        return _answer(rows.events, rows.total, Provenance(Source.SQL, reason, rows.moment, rows.settled))

    async def _eventual(self, query: Compiled, wanted: Slice) -> Answer:
        page = await self._joined.index_only(lambda hits, scope: _ask(hits, scope, query, wanted))
        return _answer(page.events, page.total, Provenance(Source.INDEX))

    async def _merged(self, query: Compiled, wanted: Slice, *, keep: bool) -> Answer:
        both: Both[Page, Rows] = await self._joined.both(
            ("page", query.text, wanted) if keep else None,
            lambda floor: self._reader.tail(query.log, wanted, floor=floor),
            lambda hits, scope: _ask(hits, scope, query, wanted),
        )
        return _merge(both, wanted)


async def _ask(hits: Hits, scope: Scope, query: Compiled, wanted: Slice) -> Page:
    request = PageRequest(wanted.limit, wanted.after, wanted.newest_first, wanted.count, wanted.upto)
    return await hits.page(scope, query.index or {}, request)


def _merge(both: Both[Page, Rows], wanted: Slice) -> Answer:
    page, rows = both.index, both.tail
    # By seq: an event that the index refused and took later may be on both sides for a moment.
    found = {event.seq: event for event in (*page.events, *rows.events)}
    events = sorted(found.values(), key=lambda event: event.position, reverse=wanted.newest_first)
    total = None if page.total is None or rows.total is None else page.total + rows.total
    source = Source.CACHE_AND_TAIL if both.cached else Source.INDEX_AND_TAIL
    return _answer(events[: wanted.limit], total, Provenance(source, "", rows.moment, rows.settled))


def _answer(events: Iterable[Event], total: int | None, provenance: Provenance) -> Answer:
    return Answer(tuple(events), more=False, total=total, provenance=provenance)
