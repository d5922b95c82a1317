"""Asking the index: one page of hits, or one set of aggregations, whole or not at all."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from elasticsearch import AsyncElasticsearch

from eventsvc.errors import EventsvcError, IndexUnavailable
from eventsvc.event import Event
from eventsvc.fields import FIELDS
from eventsvc.index.client import check_whole, translate_errors
from eventsvc.index.mapping import from_hit
from eventsvc.turns import Turns

_OK, _REFUSED, _NOT_ALLOWED = 200, 400, 405
_INDEXES_AT_ONCE = 50  # whose names fit into a request line
_PER_POSITION = 130  # bytes of memory: a tuple and two integers
_END_OF_TIME = 253_402_300_799_999  # ms since 1970
MOST_EXCLUDED = 10_000  # beyond this a list of single seqs is no longer a cheap condition


@dataclass(frozen=True, slots=True)
class Scope:
    """Which documents count.

    Attributes:
        indexes: asked by name, so that a missing one is an error, never a gap.
        watermark: only seqs up to this one; None for all that is there.
        excluded: not these seqs.
    """

    indexes: tuple[str, ...]
    watermark: int | None
    excluded: tuple[int, ...] = ()

    def narrow(self, query: dict[str, Any]) -> dict[str, Any]:
        """Make the whole query out of what was asked for and this scope; all in filter context."""
        clauses: dict[str, Any] = {"filter": [query]}
        if self.watermark is not None:
            clauses["filter"].append({"range": {"seq": {"lte": self.watermark}}})
        if self.excluded:
            clauses["must_not"] = [{"terms": {"seq": list(self.excluded)}}]
        return {"bool": clauses}


@dataclass(frozen=True, slots=True)
class Positions:
    """Where matching events lie.

    Attributes:
        found: (time, seq), in order.
        total: how many match in all, if that was asked for.
        first: when the first of them was created, in ms.
        last: when the last of them was.
    """

    found: tuple[tuple[int, int], ...] = ()
    total: int | None = None
    first: int = 0
    last: int = 0

    def weigh(self) -> int:
        """Estimate the bytes it takes."""
        return _PER_POSITION * (1 + len(self.found))


@dataclass(frozen=True, slots=True)
class PageRequest:
    """Which of the matching documents.

    Attributes:
        after: only hits past this (time, seq).
        time: the field that hits are ordered by.
    """

    size: int
    after: tuple[int, int] | None = None
    newest_first: bool = True
    count: bool = False
    upto: int | None = None
    time: str = "createdAt"

    @property
    def by_creation(self) -> bool:
        """Whether hits are in the order in which an index is sorted."""
        return self.time == "createdAt"


MOST_WILDCARDS = 16  # in one question, before it counts as heavy
MOST_HEAVY_WAITING = 8  # in one process


class Inexact(EventsvcError):
    """Elasticsearch is well, but cannot answer this, or not exactly: no reason to stop asking it other things."""


@dataclass(frozen=True, slots=True)
class Aggregated:
    """How many documents match, and aggregations over them."""

    total: int
    found: dict[str, Any]

    def buckets(self, name: str) -> list[dict[str, Any]]:
        """Give an aggregation's buckets; none if it was not asked for."""
        buckets: list[dict[str, Any]] = self.found.get(name, {}).get("buckets", [])
        return buckets


@dataclass(frozen=True, slots=True)
class Hits:
    """Asks through a client that never retries by itself.

    Questions with many wildcards, which the index may take seconds for, are asked one at a time in each process.
    """

    client: AsyncElasticsearch
    timeout: float = field(default=10.0)
    _heavy: Turns = field(default_factory=lambda: Turns(1, MOST_HEAVY_WAITING), init=False)

    async def positions(self, scope: Scope, query: dict[str, Any], wanted: PageRequest) -> Positions:
        """Find where a page of events lies; what they hold is in the log.

        Raises:
            Inexact: the query is more than the index takes.
            IndexUnavailable: there is no whole answer.
        """
        if not scope.indexes:
            return Positions(total=0 if wanted.count else None)
        answer = await self._search(scope, _page_body(scope, query, wanted) | {"_source": False})
        total = answer["hits"]["total"]["value"] if wanted.count else None
        keys = [hit["sort"] for hit in answer["hits"]["hits"]]
        created = [key[0 if wanted.by_creation else 2] for key in keys] or [0]
        return Positions(tuple((key[0], key[1]) for key in keys), total, min(created), max(created))

    async def events(self, scope: Scope, query: dict[str, Any], wanted: PageRequest) -> tuple[list[Event], int | None]:
        """Give a page of events as the index holds them, and how many match in all: for when the log is not asked.

        Raises:
            IndexUnavailable: there is no whole answer.
        """
        answer = await self._search(scope, _page_body(scope, query, wanted))
        total = answer["hits"]["total"]["value"] if wanted.count else None
        return [from_hit(hit["_source"]) for hit in answer["hits"]["hits"]], total

    async def aggregate(self, scope: Scope, query: dict[str, Any], aggregations: dict[str, Any]) -> Aggregated:
        """Give aggregations over all matching documents.

        Raises:
            Inexact: a terms aggregation has more values than it was allowed, or there would be too many buckets.
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
        """Give all terms of a field that begin so, without that beginning; perhaps some of documents that are gone.

        Raises:
            Inexact: there are more than so many, or this Elasticsearch does not list terms.
            IndexUnavailable: there is no whole answer.
        """
        found: set[str] = set()
        client = self.client.options(request_timeout=self.timeout, ignore_status=(_REFUSED, _NOT_ALLOWED))
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
        """See whether searches are answered, within two seconds.

        Raises:
            IndexUnavailable: they are not.
        """
        with translate_errors():
            client = self.client.options(request_timeout=min(self.timeout, 2.0))
            check_whole(await client.search(index=alias, size=0, terminate_after=1, ignore_unavailable=True))

    async def _search(self, scope: Scope, body: dict[str, Any]) -> dict[str, Any]:
        if _count_wildcards(body["query"]) <= MOST_WILDCARDS:
            return await self._ask(scope, body)
        async with self._heavy:
            try:
                return await self._ask(scope, body)
            except IndexUnavailable as exc:
                # One heavy question that fails says nothing about others.
                raise Inexact(f"a heavy question was not answered: {exc}") from exc

    async def _ask(self, scope: Scope, body: dict[str, Any]) -> dict[str, Any]:
        # NOTE: _msearch for the sake of its header line: the names of hundreds of months do not fit into the
        # 4,096 bytes that Elasticsearch allows for a request line.
        header = {"index": list(scope.indexes), "allow_partial_search_results": False}
        with translate_errors():
            client = self.client.options(request_timeout=self.timeout)
            response = await client.msearch(searches=[header, body])
        answer: dict[str, Any] = response["responses"][0]
        if answer["status"] == _REFUSED:
            raise Inexact(f"Elasticsearch refuses this request: {_reason(answer)}")
        if answer["status"] != _OK:
            raise IndexUnavailable(f"Elasticsearch answered {answer['status']}: {_reason(answer)}")
        check_whole(answer)
        return answer


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


def _page_body(scope: Scope, query: dict[str, Any], wanted: PageRequest) -> dict[str, Any]:
    order = "desc" if wanted.newest_first else "asc"
    watermarks = [seq for seq in (scope.watermark, wanted.upto) if seq is not None]
    narrowed = Scope(scope.indexes, min(watermarks, default=None), scope.excluded)
    body: dict[str, Any] = {
        "query": narrowed.narrow(query),
        "sort": [{FIELDS[wanted.time].exact: order}, {"seq": order}],
        "size": wanted.size,
        "track_total_hits": wanted.count,
    }
    if wanted.after is not None:
        body["search_after"] = list(wanted.after)
    if not wanted.by_creation:
        # No two events have the same seq: createdAt is only told, and tells the log in which months they lie.
        # PERF: not with createdAt first, for only the order of the index itself lets Lucene stop early.
        body["sort"].append({"createdAt": order})
        if wanted.after is not None:
            body["search_after"].append(0 if wanted.newest_first else _END_OF_TIME)
    return body


def _left_out(found: Any) -> bool:
    """Tell whether some aggregation, at any depth, has not given all its values."""
    match found:
        case dict():
            own = found.get("sum_other_doc_count") or found.get("doc_count_error_upper_bound")
            return bool(own) or any(map(_left_out, found.values()))
        case list():
            return any(map(_left_out, found))
        case _:
            return False


def _reason(answer: dict[str, Any]) -> str:
    """The type of the error only: reasons quote query values, and ours go into logs."""
    error = answer.get("error") or {}
    root = error.get("root_cause") or [error]
    return str(root[0].get("type", "unknown"))
