"""One search: watermark and tail from the log, hits from the index, merged; the log alone if the index is away.

The order is the proof: one statement gives the watermark W, the matching rows past it, and what to leave out;
only then the index is asked, for seqs up to W. Whatever the indexer does meanwhile, each event is on one side.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

import structlog

from eventsvc.breaker import Breaker
from eventsvc.errors import IndexUnavailable
from eventsvc.event import Event
from eventsvc.index.hits import MOST_EXCLUDED, Hits, Page, PageRequest, Scope
from eventsvc.log.reader import Filter, Moment, Reader, Rows, Slice
from eventsvc.query import ast
from eventsvc.query.render import render
from eventsvc.query.to_elasticsearch import to_elasticsearch
from eventsvc.query.to_sql import to_sql
from eventsvc.search_cache import Cache, Kept, Key
from eventsvc.telemetry import SEARCHES

_log = structlog.get_logger(__name__)

# A kept answer is no longer worth it when so many seqs have come since.
_LONGEST_CACHED_TAIL = 20_000


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
    """

    text: str
    log: Filter
    index: dict[str, Any] | None


EVERYTHING = Compiled("", Filter(), {"match_all": {}})


def compile_query(node: ast.Node | None) -> Compiled:
    """Make a query out of its tree; None is the query that matches every event."""
    if node is None:
        return EVERYTHING
    text, parameters = to_sql(node)
    return Compiled(render(node), Filter(text, tuple(parameters)), to_elasticsearch(node))


@dataclass(frozen=True, slots=True)
class Answer:
    """A page of events.

    Attributes:
        more: whether there are more past the last one.
        reason: why it was not answered from the index; "" if it was.
        moment: the state of the log it is an answer about; None when the log was not asked.
        settled: see ``Rows.settled``.
    """

    events: tuple[Event, ...]
    more: bool
    source: Source
    total: int | None = None
    reason: str = ""
    moment: Moment | None = None
    settled: bool = False


class Search:
    """Finds events; strong answers hold every event that was acknowledged before the question."""

    def __init__(self, reader: Reader, hits: Hits | None, *, alias: str, cache_size: int = 32 * 1024 * 1024) -> None:
        self._reader, self._hits, self._alias = reader, hits, alias
        self._cache = Cache(cache_size)
        self._breaker = Breaker(self._probe)
        self._erased: tuple[int, ...] = ()

    async def by_id(self, event_id: str) -> Event:
        """Give one event, from the log.

        Raises:
            EventNotFound: there is none of that id.
        """
        return await self._reader.by_id(event_id)

    async def find(self, query: Compiled, wanted: Slice, *, strong: bool = True) -> Answer:
        """Give a page of events.

        Raises:
            LogUnavailable: PostgreSQL is away, and it was needed.
            LogTimeout: the index is away, and PostgreSQL alone took too long.
        """
        answer = await self._find(query, replace(wanted, limit=wanted.limit + 1), strong=strong)
        SEARCHES.labels(answer.source).inc()
        return replace(answer, events=answer.events[: wanted.limit], more=len(answer.events) > wanted.limit)

    async def _find(self, query: Compiled, wanted: Slice, *, strong: bool) -> Answer:
        if self._hits is None:
            return await self._whole(query, wanted, "no index")
        if query.index is None:
            return await self._whole(query, wanted, "not expressible")
        if not self._breaker.closed:
            return await self._whole(query, wanted, "index away")
        try:
            return await (self._merged if strong else self._eventual)(self._hits, query, query.index, wanted)
        except IndexUnavailable as exc:
            _log.warning("a search goes to PostgreSQL", reason=str(exc))
            return await self._whole(query, wanted, "index away")

    async def _whole(self, query: Compiled, wanted: Slice, reason: str) -> Answer:
        rows = await self._reader.whole(query.log, wanted)
        return _answer(rows.events, Source.SQL, rows, rows.total, reason=reason)

    async def _eventual(self, hits: Hits, _query: Compiled, body: dict[str, Any], wanted: Slice) -> Answer:
        scope = Scope((self._alias,), None, self._erased)
        page = await self._ask(hits, scope, body, wanted)
        return Answer(page.events, more=False, source=Source.INDEX, total=page.total)

    async def _merged(self, hits: Hits, query: Compiled, body: dict[str, Any], wanted: Slice) -> Answer:
        key: Key = (query.text, wanted)
        kept = self._cache.get(key)
        rows = await self._reader.tail(query.log, wanted, floor=kept.scope.watermark if kept else None)
        if kept is not None and not _still_good(kept, rows.moment):
            self._cache.drop(key)
            kept, rows = None, await self._reader.tail(query.log, wanted)
        self._erased = rows.moment.erased
        if kept is not None:
            return _merge(kept.page, rows, wanted, Source.CACHE_AND_TAIL)
        scope = _scope(rows.moment)
        page = await self._ask(hits, scope, body, wanted)
        self._cache.put(key, Kept(scope, rows.moment.epoch, _failed(rows.moment, scope.watermark), page))
        return _merge(page, rows, wanted, Source.INDEX_AND_TAIL)

    async def _ask(self, hits: Hits, scope: Scope, body: dict[str, Any], wanted: Slice) -> Page:
        began = time.monotonic()
        request = PageRequest(wanted.limit, wanted.after, wanted.newest_first, wanted.count, wanted.upto)
        try:
            return await hits.page(scope, body, request)
        except IndexUnavailable:
            self._breaker.failed(began)
            raise

    async def _probe(self) -> None:
        if self._hits is not None:
            await self._hits.probe(self._alias)

    async def close(self) -> None:
        """Stop what runs in the background."""
        await self._breaker.close()


def _scope(moment: Moment) -> Scope:
    excluded = (*moment.erased, *moment.failed)
    if len(excluded) > MOST_EXCLUDED:
        raise IndexUnavailable(f"{len(excluded)} single events would have to be left out of the hits")
    return Scope(moment.indexes, moment.watermark, excluded)


def _failed(moment: Moment, watermark: int | None) -> frozenset[int]:
    return frozenset(seq for seq in moment.failed if watermark is None or seq <= watermark)


def _still_good(kept: Kept, moment: Moment) -> bool:
    """Tell whether a kept answer and the tail past its watermark are together what the log holds at this moment."""
    floor = kept.scope.watermark or 0
    return (
        kept.epoch == moment.epoch
        and 0 <= moment.watermark - floor <= _LONGEST_CACHED_TAIL
        and set(kept.scope.indexes) <= set(moment.indexes)
        and kept.failed == _failed(moment, floor)
    )


def _merge(page: Page, rows: Rows, wanted: Slice, source: Source) -> Answer:
    # By seq: an event that the index refused and took later may be on both sides for a moment.
    both = {event.seq: event for event in (*page.events, *rows.events)}
    events = sorted(both.values(), key=lambda event: event.position, reverse=wanted.newest_first)
    total = None if page.total is None or rows.total is None else page.total + rows.total
    return _answer(events[: wanted.limit], source, rows, total)


def _answer(events: Iterable[Event], source: Source, rows: Rows, total: int | None, *, reason: str = "") -> Answer:
    return Answer(
        tuple(events), more=False, source=source, total=total, reason=reason, moment=rows.moment, settled=rows.settled
    )
