"""Ask the index for a page of hits, for aggregations or for terms. An answer is whole, or the request fails."""

from __future__ import annotations

from collections.abc import Awaitable
from dataclasses import dataclass
from typing import Any

from elasticsearch import AsyncElasticsearch

from eventsvc.errors import EventsvcError, IndexUnavailable
from eventsvc.event import NANOSECONDS, Event, format_nanoseconds
from eventsvc.fields import FIELDS
from eventsvc.index.client import check_whole, error_type, translate_errors
from eventsvc.index.mapping import from_hit
from eventsvc.paging import PageRequest, Position, Positions
from eventsvc.turns import Turns

_OK, _REFUSED, _NOT_ALLOWED = 200, 400, 405
_INDEXES_AT_ONCE = 50  # so many names fit into a request line
_END_OF_TIME = 253_402_300_799_999  # ms since 1970
MOST_EXCLUDED = 10_000  # single seqs: a longer list is no longer a cheap condition


@dataclass(frozen=True, slots=True)
class Scope:
    """The documents that a request is about.

    Attributes:
        indexes: the names of the indexes, so that a missing index is an error and never a gap.
        watermark: only documents up to this seq; None for all documents.
        excluded: the seqs of documents that do not count.
    """

    indexes: tuple[str, ...]
    watermark: int | None
    excluded: tuple[int, ...] = ()

    def narrow(self, query: dict[str, Any]) -> dict[str, Any]:
        """Restrict a query to this scope; everything is in filter context."""
        clauses: dict[str, Any] = {"filter": [query]}
        if self.watermark is not None:
            clauses["filter"].append({"range": {"seq": {"lte": self.watermark}}})
        if self.excluded:
            clauses["must_not"] = [{"terms": {"seq": list(self.excluded)}}]
        return {"bool": clauses}


_MOST_WILDCARDS = 16  # in a request; with more, the request is heavy
_MOST_HEAVY_WAITING = 8  # heavy requests that may wait in one process


# PERF: not even the id. Elasticsearch would decompress a block of stored documents for each hit: 16 of 20 ms.
_NOTHING_STORED = {"_source": False, "stored_fields": "_none_"}


class Inexact(EventsvcError):
    """Elasticsearch is well, but cannot answer this request exactly. Other requests are not affected."""


class Unsteady(Inexact):
    """The state of the log changed each time before the answer of Elasticsearch could be joined with the log."""


@dataclass(frozen=True, slots=True)
class Aggregated:
    """The number of matching documents, and aggregations over these documents."""

    total: int
    found: dict[str, Any]

    def buckets(self, name: str) -> list[dict[str, Any]]:
        """Give the buckets of an aggregation; none if the request did not contain the aggregation."""
        buckets: list[dict[str, Any]] = self.found.get(name, {}).get("buckets", [])
        return buckets


class IndexReader:
    """Sends searches to Elasticsearch. A search that gets no answer in time is not repeated.

    A request with many wildcards may take Elasticsearch several seconds. So each process sends one such request at a
    time. Small requests then do not wait behind these requests.
    """

    def __init__(self, client: AsyncElasticsearch, timeout: float = 10.0) -> None:
        """Take a client, and the seconds until a request fails."""
        # PERF: a client with other options takes a tenth of a search to make.
        self._client, self._timeout = client.options(request_timeout=timeout), timeout
        self._heavy = Turns(1, _MOST_HEAVY_WAITING)

    async def positions(
        self, scope: Scope, query: dict[str, Any], request: PageRequest, ahead: Awaitable[int] | None = None
    ) -> Positions:
        """Find the positions of a page of events.

        Args:
            scope: the documents.
            query: selects the events.
            request: the page request.
            ahead: how many nanoseconds the occurredAt of an event is after its createdAt at most. If it is given, an
                answer that is ordered by occurredAt comes sooner.

        Raises:
            Inexact: Elasticsearch refuses the query, for instance because it is too large.
            IndexUnavailable: there is no whole answer.
        """
        if not scope.indexes:
            return Positions(total=0 if request.count else None)
        if ahead is None or request.by_creation or not request.newest_first or request.count:
            return await self._positions(scope, query, request)
        return await self._last_occurred(scope, query, request, ahead)

    async def _last_occurred(
        self, scope: Scope, query: dict[str, Any], request: PageRequest, ahead: Awaitable[int]
    ) -> Positions:
        """Find the events that occurred last.

        PERF: Lucene stops early only in the order of the index, which is createdAt. So a search reads the newest
        matching events by createdAt, one and a half times as many as the page holds. The other events were created
        before these, so they occurred at most ``ahead`` after the oldest of these was created. If the page's last event
        occurred even later, the page is exact. Otherwise a second search reads all events since that event.
        """
        before = query if request.after is None else {"bool": {"filter": [query, _occurred_before(request.after)]}}
        many = PageRequest(request.limit + request.limit // 2, upto=request.upto)
        body = _page_body(scope, before, many) | _NOTHING_STORED
        body["sort"].append({"occurredAt": "desc"})  # changes no order, but comes back with each hit
        answer = await self._search(scope, body)
        keys = [hit["sort"] for hit in answer["hits"]["hits"]]
        found = sorted(((time, seq, created) for created, seq, time in keys), reverse=True)[: request.limit]
        page = Positions(tuple((time, seq) for time, seq, _ in found), tuple(created for *_, created in found))
        if len(keys) < many.limit:
            return page
        last, oldest = found[-1][0], keys[-1][0]
        if last > oldest * NANOSECONDS + await ahead:
            return page
        since = _occurred(gte=format_nanoseconds(last))
        page = await self._positions(scope, {"bool": {"filter": [query, since]}}, request)
        if len(page.found) < request.limit:  # events were erased between the two searches
            page = await self._positions(scope, query, request)
        return page

    async def _positions(self, scope: Scope, query: dict[str, Any], request: PageRequest) -> Positions:
        answer = await self._search(scope, _page_body(scope, query, request) | _NOTHING_STORED)
        total = answer["hits"]["total"]["value"] if request.count else None
        keys = [hit["sort"] for hit in answer["hits"]["hits"]]
        created = tuple(key[0 if request.by_creation else 2] for key in keys)
        return Positions(tuple((key[0], key[1]) for key in keys), created, total)

    async def events(self, scope: Scope, query: dict[str, Any], request: PageRequest) -> tuple[list[Event], int | None]:
        """Give a page of the index's own documents as events, and the number of all matching documents.

        Raises:
            IndexUnavailable: there is no whole answer.
        """
        answer = await self._search(scope, _page_body(scope, query, request))
        total = answer["hits"]["total"]["value"] if request.count else None
        return [from_hit(hit["_source"]) for hit in answer["hits"]["hits"]], total

    async def aggregate(self, scope: Scope, query: dict[str, Any], aggregations: dict[str, Any]) -> Aggregated:
        """Give aggregations over all matching documents.

        Raises:
            Inexact: a terms aggregation has more values than its size, or there are too many buckets.
            IndexUnavailable: there is no whole answer.
        """
        if not scope.indexes:
            return Aggregated(0, {})
        body = {"query": scope.narrow(query), "size": 0, "track_total_hits": True, "aggs": aggregations}
        answer = await self._search(scope, body)
        found = answer.get("aggregations", {})
        if _left_out(found):
            raise Inexact("a field has too many values to be counted exactly")
        return Aggregated(answer["hits"]["total"]["value"], found)

    async def terms(self, scope: Scope, field: str, prefix: str, most: int) -> list[str]:
        """List the terms of a field that begin with a prefix, without the prefix.

        Terms of deleted documents may be among them.

        Raises:
            Inexact: there are more than ``most`` terms, or this Elasticsearch does not list terms.
            IndexUnavailable: there is no whole answer.
        """
        found: set[str] = set()
        client = self._client.options(ignore_status=(_REFUSED, _NOT_ALLOWED))
        for start in range(0, len(scope.indexes), _INDEXES_AT_ONCE):
            some = scope.indexes[start : start + _INDEXES_AT_ONCE]
            with translate_errors():
                answer = await client.terms_enum(index=some, field=field, string=prefix, size=most + 1)
            if answer.meta.status != _OK or not answer["complete"] or len(answer["terms"]) > most:
                raise Inexact("a field's terms cannot be listed, or are too many")
            check_whole(answer)
            found.update(term.removeprefix(prefix) for term in answer["terms"])
        return sorted(found)

    async def probe(self, alias: str) -> None:
        """Check that Elasticsearch answers a search within two seconds.

        Raises:
            IndexUnavailable: Elasticsearch does not answer in this time.
        """
        with translate_errors():
            client = self._client.options(request_timeout=min(self._timeout, 2.0))
            check_whole(await client.search(index=alias, size=0, terminate_after=1, ignore_unavailable=True))

    async def _search(self, scope: Scope, body: dict[str, Any]) -> dict[str, Any]:
        if not is_heavy(body["query"]):
            return await self._ask(scope, body)
        async with self._heavy:
            try:
                return await self._ask(scope, body)
            except IndexUnavailable as exc:
                # The failure of a heavy request says nothing about other requests.
                raise Inexact(f"a heavy question was not answered: {exc}") from exc

    async def _ask(self, scope: Scope, body: dict[str, Any]) -> dict[str, Any]:
        # NOTE: _msearch takes the names of indexes in the body. The names of hundreds of months do not fit into the
        # 4,096 bytes that Elasticsearch allows for a request line.
        header = {"index": list(scope.indexes), "allow_partial_search_results": False}
        with translate_errors():
            response = await self._client.msearch(searches=[header, body])
        answer: dict[str, Any] = response["responses"][0]
        if answer["status"] == _REFUSED:
            raise Inexact(f"Elasticsearch refuses this request: {error_type(answer)}")
        if answer["status"] != _OK:
            raise IndexUnavailable(f"Elasticsearch answered {answer['status']}: {error_type(answer)}")
        check_whole(answer)
        return answer


def _occurred_before(position: Position) -> dict[str, Any]:
    time, seq = format_nanoseconds(position[0]), position[1]
    same = {"bool": {"filter": [_occurred(gte=time, lte=time), {"range": {"seq": {"lt": seq}}}]}}
    return {"bool": {"should": [_occurred(lt=time), same], "minimum_should_match": 1}}


def _occurred(**bound: str) -> dict[str, Any]:
    return {"range": {"occurredAt": bound | {"format": "strict_date_optional_time_nanos"}}}


def is_heavy(query: dict[str, Any]) -> bool:
    """Tell whether a query may take Elasticsearch so much time that other requests must not wait behind it."""
    return _count_wildcards(query) > _MOST_WILDCARDS


def _count_wildcards(query: Any) -> int:
    match query:
        case {"wildcard": _}:
            return 1
        case dict():
            return sum(map(_count_wildcards, query.values()))
        case list():
            return sum(map(_count_wildcards, query))
        case _:
            return 0


def _page_body(scope: Scope, query: dict[str, Any], request: PageRequest) -> dict[str, Any]:
    order = "desc" if request.newest_first else "asc"
    watermarks = [seq for seq in (scope.watermark, request.upto) if seq is not None]
    narrowed = Scope(scope.indexes, min(watermarks, default=None), scope.excluded)
    body: dict[str, Any] = {
        "query": narrowed.narrow(query),
        "sort": [{FIELDS[request.time].exact: order}, {"seq": order}],
        "size": request.limit,
        "track_total_hits": request.count,
    }
    if request.after is not None:
        body["search_after"] = list(request.after)
    if not request.by_creation:
        # No two events have the same seq, so createdAt does not change the order. As a sort key it comes back with each
        # hit: the log needs to know the months of the events.
        # PERF: createdAt does not come first, because only the index's own sort order lets Lucene stop early.
        body["sort"].append({"createdAt": order})
        if request.after is not None:
            body["search_after"].append(0 if request.newest_first else _END_OF_TIME)
    return body


def _left_out(found: Any) -> bool:
    """Tell whether an aggregation, at any depth, has left out values."""
    match found:
        case dict():
            own = found.get("sum_other_doc_count") or found.get("doc_count_error_upper_bound")
            return bool(own) or any(map(_left_out, found.values()))
        case list():
            return any(map(_left_out, found))
        case _:
            return False
