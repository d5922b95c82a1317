"""Search for events. The index finds positions, the log gives the events; without the index, the log does both.

Events are always read from the log, whichever store has found them. So an event has one form, and an erased event
cannot show. Only ``consistency=eventual`` shows the index's own documents, because it works without PostgreSQL.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import structlog

from eventsvc.errors import IndexUnavailable
from eventsvc.event import Event
from eventsvc.index.reader import Inexact, Unsteady, is_heavy
from eventsvc.log.filter import Filter
from eventsvc.log.read.page import FoundQuestion, LogPage, PageQuestion
from eventsvc.log.read.reader import Reader
from eventsvc.log.read.state import LogAnswer, LogState
from eventsvc.paging import LARGE, MOST_LARGE_WAITING, PAGE_BYTES, PageRequest, Position, Positions, fit
from eventsvc.query import ast
from eventsvc.query.render import render
from eventsvc.query.to_elasticsearch import to_elasticsearch
from eventsvc.query.to_sql import find_routing, to_sql
from eventsvc.search.both_stores import Attempt, BothStores, Provenance, Source
from eventsvc.telemetry import SEARCHES
from eventsvc.turns import Turns

_logger = structlog.get_logger(__name__)
T = TypeVar("T")

_MOST_WAITING_TO_EXAMINE = 40  # requests in one process
_LARGE_AT_ONCE = 4  # large pages that one process asks both stores for


@dataclass(frozen=True, slots=True)
class Compiled:
    """A query, compiled for both stores.

    Attributes:
        text: the canonical query, with relative times resolved; equal texts have equal answers.
        index: the query for Elasticsearch; None if no query there has exactly this meaning.
        node: the query's tree; None matches every event.
        as_of: only events with at most this seq, which both stores are asked for already; None for no such bound.
    """

    text: str
    log: Filter
    index: dict[str, Any] | None
    node: ast.Node | None
    as_of: int | None = None

    @property
    def bounds_creation_only(self) -> bool:
        """Whether the query says only when the events were created."""
        parts = self.node.operands if isinstance(self.node, ast.And) else (self.node,)
        return all(isinstance(part, ast.Created) for part in parts) and self.as_of is None

    @property
    def is_heavy(self) -> bool:
        """Whether one of the stores may take seconds for this query, and so has a queue for such queries."""
        return self.log.is_heavy or (self.index is not None and is_heavy(self.index))

    def frozen(self, seq: int) -> Compiled:
        """Leave out every event past a seq."""
        bound = {"range": {"seq": {"lte": seq}}}
        index = None if self.index is None else {"bool": {"filter": [self.index, bound]}}
        past = Filter("seq <= %s", (seq,))
        return replace(self, text=f"{self.text} asOf {seq}", log=past & self.log, index=index, as_of=seq)


def compile_query(node: ast.Node | None) -> Compiled:
    """Compile a query's tree; None is the query that matches every event."""
    if node is None:
        return Compiled("", Filter(), {"match_all": {}}, None)
    text, parameters = to_sql(node)
    return Compiled(render(node), Filter(text, tuple(parameters), find_routing(node)), to_elasticsearch(node), node)


@dataclass(frozen=True, slots=True)
class Page:
    """A page of events.

    Attributes:
        end: the position after which the next page begins; None if this is the last page.
        total: the number of all matching events, if the request asks for it.
    """

    events: tuple[Event, ...]
    end: Position | None
    total: int | None
    provenance: Provenance

    @property
    def more(self) -> bool:
        """Whether there is a next page."""
        return self.end is not None


class Search:
    """Finds events. A strong answer includes every event that was acknowledged before the request.

    Attributes:
        examining: the turns of those who examine the data of many events, which takes memory and threads.
    """

    def __init__(self, reader: Reader, stores: BothStores, *, page_bytes: int = PAGE_BYTES) -> None:
        self._reader, self._stores, self._page_bytes = reader, stores, page_bytes
        self.examining = Turns(2, _MOST_WAITING_TO_EXAMINE)
        self._large = Turns(_LARGE_AT_ONCE, MOST_LARGE_WAITING)

    async def by_id(self, event_id: str, query: Compiled) -> Event:
        """Read one event from the log.

        Raises:
            EventNotFound: no matching event has this id.
        """
        return await self._reader.by_id(event_id, query.log)

    async def state(self) -> LogState:
        """Read the state of the log, by one small statement."""
        return await self._reader.state()

    async def find(self, query: Compiled, request: PageRequest, *, strong: bool = True, keep: bool = True) -> Page:
        """Give a page of events: at most ``request.limit``, and no more than fit into a page's bytes.

        Args:
            query: selects the events.
            request: the page request.
            strong: include every event acknowledged by now, which needs PostgreSQL.
            keep: cache the index's answer. The pages of a stream would only push other answers out.

        Raises:
            SeqNotReached: the query is frozen at a seq past the end of the log.
            SearchesQueued: too many large pages, or too many searches of PostgreSQL, wait already.
            LogUnavailable: PostgreSQL is away, and the search needs PostgreSQL.
            LogTimeout: the index is away, and PostgreSQL alone took too long.
        """
        if query.as_of is not None:
            await self._reader.settle(query.as_of)
        # Ask for one event more, which tells whether there is a next page.
        more = replace(request, limit=request.limit + 1, size=min(request.size, self._page_bytes))
        answer = await self._find(query, more, strong=strong, keep=keep)
        SEARCHES.labels(answer.provenance.source).inc()
        return answer

    async def _find(self, query: Compiled, request: PageRequest, *, strong: bool, keep: bool) -> Page:
        if strong and query.bounds_creation_only and request.is_first_by_creation:
            # PERF: PostgreSQL reads these events along its index on (created_at, seq), in less time than Elasticsearch.
            answer = await self._reader.along_index(query.log, PageQuestion(request), large=request.limit > LARGE)
            return _page_of_log(answer, request, Source.LOG)
        reason = self._stores.unavailable_because or ("" if query.index is not None else "not expressible")
        if not reason:
            try:
                if strong:
                    return await self._merged(query, request, keep=keep)
                async with self._turn(query, request):
                    return await self._eventual(query, request)
            except IndexUnavailable as exc:
                _logger.warning("a search goes to PostgreSQL", reason=str(exc))
                reason = "index away"
            except Inexact as exc:
                _logger.warning("a search goes to PostgreSQL", reason=str(exc))
                reason = "events are erased" if isinstance(exc, Unsteady) else "not expressible"
        answer = await self._reader.whole(query.log, PageQuestion(request), strong=strong)
        return _page_of_log(answer, request, Source.SQL, reason)

    async def _merged(self, query: Compiled, request: PageRequest, *, keep: bool) -> Page:
        """Find the page in the index up to a watermark, and in the log past this watermark."""
        key = ("page", query.text, request) if keep else None
        for attempt in self._stores.attempts(key, despite_erasures=True):
            async with attempt:
                page = await self._join(attempt, query, request)
                if page is not None:
                    return page
        raise Unsteady("the state of the log does not stand still")

    async def _join(self, attempt: Attempt, query: Compiled, request: PageRequest) -> Page | None:
        """Ask both stores for a page; None if their answers do not make one exact page."""
        async with self._turn(query, request):
            found, tail = await self._ask_both(attempt, query, request)
        past = {request.position(event): event for event in tail.content.events}
        positions = sorted((*found.found, *past), reverse=request.newest_first)[: request.limit]
        # PERF: often the newest events are all in the tail.
        missing = {*positions} - {*past}
        question = FoundQuestion(request, found.only(missing), query.log.routing)
        rows = await self._reader.found(question)
        # Events may have been erased after the index was asked. The page is exact if the index has found all matching
        # events, or if the log still has every event of the page. If a page has too many bytes, the log gives only its
        # first events, and the other events count as erased.
        complete = len(found.found) < request.limit or len(rows.content) == len(missing)
        read = tail.state if past or tail.content.total else None  # an empty tail loses no event
        if not attempt.holds(found, rows.state, read, despite_erasures=complete and not request.count):
            return None
        events = past | {request.position(event): event for event in rows.content}
        total = None if found.total is None or tail.content.total is None else found.total + tail.content.total
        provenance = Provenance(attempt.source, "", tail.state, tail.settled)
        there = [events[position] for position in positions if position in events]
        return _page(there, request, total, provenance, positions)

    async def _ask_both(
        self, attempt: Attempt, query: Compiled, request: PageRequest
    ) -> tuple[Positions, LogAnswer[LogPage]]:
        """Ask the index for positions and the log for the tail. PERF: both work at the same time."""
        large = request.limit > LARGE
        # ``found`` reads the state anew.
        reading = self._reader.tail(query.log, PageQuestion(request), attempt.base, large=large, anew=False)
        # An order by createdAt needs no bound.
        bounding = nullcontext() if request.by_creation else _meanwhile(self._reader.ahead())
        async with _meanwhile(reading) as tail, bounding as ahead:
            found: Positions | None = attempt.cached
            if found is None:
                with self._stores.index() as index:
                    found = await index.positions(attempt.scope, query.index or {}, request, ahead)
            return found, await tail

    def _turn(self, query: Compiled, request: PageRequest) -> AbstractAsyncContextManager[None]:
        # Each large page may hold megabytes of the tail while it waits for the index. A heavy query waits among others
        # of its kind, and must not take a turn meanwhile.
        return self._large if request.limit > LARGE and not query.is_heavy else nullcontext()

    async def _eventual(self, query: Compiled, request: PageRequest) -> Page:
        """Find the page in the index alone."""
        part = replace(request, limit=min(request.limit, _AT_ONCE))
        scope = self._stores.scope_of_all
        with self._stores.index() as index:
            found, total = await index.events(scope, query.index or {}, part)
            events = [*found]
            # The size of documents is unknown before they arrive, so a large page is fetched in several requests.
            while len(found) == part.limit and len(events) < request.limit and fit(events, request.size) == (*events,):
                following = replace(part, after=request.position(events[-1]), count=False)
                found, _ = await index.events(scope, query.index or {}, following)
                events += found
        return _page(events[: request.limit], request, total, Provenance(Source.INDEX))


_AT_ONCE = 128  # documents


@asynccontextmanager
async def _meanwhile(work: Coroutine[Any, Any, T]) -> AsyncIterator[asyncio.Task[T]]:
    """Let work run while the block runs. The block awaits the result; if it does not, the work is cancelled."""
    task = asyncio.create_task(work)
    try:
        yield task
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def _page_of_log(answer: LogAnswer[LogPage], request: PageRequest, source: Source, reason: str = "") -> Page:
    provenance = Provenance(source, reason, answer.state, answer.settled)
    return _page(answer.content.events, request, answer.content.total, provenance)


def _page(
    events: Sequence[Event],
    request: PageRequest,
    total: int | None,
    provenance: Provenance,
    positions: Sequence[Position] = (),
) -> Page:
    """Cut the found events to a page.

    Args:
        events: the events found, in order.
        request: a page request for one event more than the page may have.
        total: see ``Page``.
        provenance: see ``Page``.
        positions: the positions that the page should have, if the index was asked. The log may lack some of these
            events, for instance after a restore. If there are as many positions as requested, the index may have more
            events past the last position, so the page ends there.
    """
    cut = positions[-1] if len(positions) == request.limit else None
    page = fit(events[: request.limit - 1], request.size)
    end = request.position(page[-1]) if len(page) < len(events) else cut
    return Page(page, end, total, provenance)
