"""Count matching events over time and by values. The counts of the index and of the tail add up exactly."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import structlog

from eventsvc.errors import IndexUnavailable
from eventsvc.fields import FIELDS
from eventsvc.index.reader import Aggregated, IndexReader, Inexact, Scope, Unsteady
from eventsvc.log.read.counts import Combination, LogCounts, Most
from eventsvc.log.read.reader import Reader
from eventsvc.query import ast
from eventsvc.search.both_stores import BothStores, Provenance, Source
from eventsvc.search.counts import (
    MINUTE,
    MOST_BUCKETS,
    MOST_CELLS,
    MOST_INSIDE,
    MOST_VALUES,
    STEPS,
    UNITS,
    CountRequest,
    Counts,
    StoreCounts,
)
from eventsvc.search.search import Compiled
from eventsvc.text.terms import data_path, term_of, value_of

_logger = structlog.get_logger(__name__)

_DATA = FIELDS["data"].exact
_MOST_TERMS = 9_999  # terms listed of one path; Elasticsearch gives no more at once
_LONGEST_VALUES = 1024 * 1024  # characters of all values of one path
# The tail may be long when the index was away. Each limit is one above what can be added up: a tail that reaches it was
# cut off.
_TAIL = Most(MOST_VALUES + 1, MOST_BUCKETS + 1, MOST_CELLS + 1, which=MOST_VALUES + 1)


class Stats:
    """Counts events. A strong answer counts every event that was acknowledged before the request."""

    def __init__(self, reader: Reader, stores: BothStores) -> None:
        self._reader, self._stores = reader, stores

    async def count(self, query: Compiled, request: CountRequest, *, strong: bool = True) -> Counts:
        """Count the matching events as a request asks.

        Raises:
            SeqNotReached: the query is frozen at a seq past the end of the log.
            LogUnavailable: PostgreSQL is away, and the counts need PostgreSQL.
            LogTimeout: the index cannot count this, and PostgreSQL took too long.
        """
        if query.as_of is not None:
            await self._reader.settle(query.as_of)
        expressible = query.index is not None and request.in_index
        reason = self._stores.unavailable_because or ("" if expressible else "not expressible")
        if not reason:
            try:
                return await (self._merged(query, request) if strong else self._eventual(query, request))
            except Unsteady:
                reason = "events are erased"
            except Inexact:
                reason = "too many values"
            except IndexUnavailable as exc:
                _logger.warning("counts come from PostgreSQL", reason=str(exc))
                reason = "index away"
        most = Most(request.top, MOST_BUCKETS + 1, MOST_CELLS + 1)
        answer = await self._reader.whole(query.log, request.grouping(most), strong=strong)
        return Counts.of_log(answer.content, Provenance(Source.SQL, reason, answer.state, answer.settled))

    async def _eventual(self, query: Compiled, request: CountRequest) -> Counts:
        """Count in the index alone."""
        if request.paths:
            # Without a watermark, values that arrive while values are listed would be in some counts and not in others.
            raise Inexact("values in data are counted up to a watermark")
        scope = self._stores.scope_of_all
        with self._stores.index() as index:
            counts = (await _ask_counts(index, scope, query, request)).summed(Provenance(Source.INDEX))
            cells = await _ask_cells(index, scope, query, request, counts.top(request.top))
        # The index may have grown between the two requests: the later counts win.
        values = {**counts.values, **{key: sum(cell.values()) for key, cell in cells.items()}}
        return replace(counts, values=values, valued=sum(values.values()), cells=cells)

    async def _merged(self, query: Compiled, request: CountRequest) -> Counts:
        """Count in the index up to a watermark, and in the log past this watermark."""
        for attempt in self._stores.attempts(("stats", query.text, replace(request, top=0))):
            async with attempt:
                counted: StoreCounts | None = attempt.cached
                if counted is None:
                    with self._stores.index() as index:
                        counted = await _ask_counts(index, attempt.scope, query, request)
                answer = await self._reader.tail(query.log, request.grouping(_TAIL), attempt.base)
                if attempt.holds(counted, answer.state):
                    break
        else:
            raise Unsteady("the state of the log does not stand still")
        tail = answer.content
        _check_room(tail)
        provenance = Provenance(attempt.source, "", answer.state, answer.settled)
        counts = (counted + StoreCounts.of_log(tail)).summed(provenance)
        if request.interval and request.by:
            top = counts.top(request.top)
            known = {key: counted.values[key] for key in top if counted.values.get(key)}
            found = await self._index_cells(query, request, attempt.scope, known)
            cells = {key: Counter(found.get(key, {})) + Counter(tail.cells.get(key, {})) for key in top}
            counts = replace(counts, cells=cells)
        return counts

    async def _index_cells(
        self, query: Compiled, request: CountRequest, scope: Scope, known: Mapping[Combination, int]
    ) -> Mapping[Combination, Mapping[int, int]]:
        """Ask the index for the counts over time of the top values, whose counts are known now.

        Raises:
            Inexact: documents of erased events left the index meanwhile, so the counts no longer agree.
        """
        with self._stores.index() as index:
            found = await _ask_cells(index, scope, query, request, list(known))
        if any(sum(found[key].values()) != count for key, count in known.items()):
            raise Inexact("events were erased while they were counted")
        return found


def _check_room(tail: LogCounts) -> None:
    """Raise Inexact if a limit cut off some of the tail's values."""
    listed = [len(each) for each in tail.distinct if not isinstance(each, int)]
    if max([len(tail.values), *listed]) > MOST_VALUES or sum(map(len, tail.cells.values())) > MOST_CELLS:
        raise Inexact("more values are past the watermark than can be added up")


_Codes = Mapping[ast.Path, Sequence[str]]
"""The coded values of each path in data, perhaps with values of deleted documents."""


async def _list_values(index: IndexReader, scope: Scope, paths: Sequence[ast.Path]) -> _Codes:
    """List the values from the index's dictionary of terms; the time grows with the number of different values.

    Raises:
        Inexact: there are too many values, or a value is longer than its term.
    """
    found: dict[ast.Path, Sequence[str]] = {}
    for path in paths:
        listed = await index.terms(scope, _DATA, data_path(path.keys), _MOST_TERMS)
        try:
            found[path] = [code for code in map(value_of, listed) if code is not None]
        except ValueError as exc:
            raise Inexact(str(exc)) from exc
        if len(found[path]) > MOST_INSIDE or sum(map(len, found[path])) > _LONGEST_VALUES:
            raise Inexact("a place in data has too many values to be counted one by one")
    return found


async def _ask_counts(index: IndexReader, scope: Scope, query: Compiled, request: CountRequest) -> StoreCounts:
    codes = await _list_values(index, scope, request.paths)
    asked: dict[str, Any] = _over_time(request) if request.interval else {}
    # Paths in data come first: filters are fast as the outermost aggregation.
    order = sorted(range(len(request.by)), key=lambda place: isinstance(request.by[place], ast.Name))
    by = [request.by[place] for place in order]
    if by and all(codes.get(subject, True) for subject in by if isinstance(subject, ast.Path)):
        asked |= _by_values(by, codes) | _present(by, codes)
    for place, subject in enumerate(request.distinct):
        if isinstance(subject, ast.Name) or codes[subject]:
            asked[f"distinct{place}"] = _by_values([subject], codes)["values"]
    found = await index.aggregate(scope, query.index or {}, asked)
    read = _read_values(found.found, by, codes) if by else []
    distinct = [
        frozenset(
            code for (code,), _ in _read_values({"values": found.found.get(f"distinct{place}", {})}, [one], codes)
        )
        for place, one in enumerate(request.distinct)
    ]
    return StoreCounts(
        found.total,
        _count_missing(found, by),
        {bucket["key"]: bucket["doc_count"] for bucket in found.buckets("buckets")},
        {tuple(key[order.index(place)] for place in range(len(by))): count for key, count in read},
        tuple(distinct),
    )


def _present(by: Sequence[ast.Subject], codes: _Codes) -> dict[str, Any]:
    """Build the aggregation that counts the events with a value at the path in ``by``; {} if ``by`` has no path."""
    for subject in by:
        if isinstance(subject, ast.Path):
            terms = [data_path(subject.keys) + term_of(code) for code in codes[subject]]
            return {"present": {"filter": {"terms": {_DATA: terms}}}}
    return {}


def _count_missing(found: Aggregated, by: Sequence[ast.Subject]) -> int:
    if not any(isinstance(subject, ast.Path) for subject in by):
        return 0
    present: int = found.found.get("present", {}).get("doc_count", 0)
    return found.total - present


async def _ask_cells(
    index: IndexReader, scope: Scope, query: Compiled, request: CountRequest, keys: Sequence[Combination]
) -> dict[Combination, Mapping[int, int]]:
    if not (keys and request.interval):
        return {}
    filters = [{"bool": {"filter": list(map(_has, request.by, key))}} for key in keys]
    asked = {"cells": {"filters": {"filters": filters}, "aggs": _over_time(request)}}
    buckets = (await index.aggregate(scope, query.index or {}, asked)).buckets("cells")
    return {
        key: {each["key"]: each["doc_count"] for each in bucket["buckets"]["buckets"]}
        for key, bucket in zip(keys, buckets, strict=False)
    }


def _has(subject: ast.Subject, code: str) -> dict[str, Any]:
    if isinstance(subject, ast.Path):
        return {"term": {_DATA: data_path(subject.keys) + term_of(code)}}
    return {"term": {FIELDS[subject.name].exact: code[2:]}}


def _over_time(request: CountRequest) -> dict[str, Any]:
    unit = (
        {"fixed_interval": f"{STEPS[request.interval] // MINUTE}m"}
        if request.interval in STEPS
        else {"calendar_interval": UNITS[request.interval], "time_zone": request.zone}
    )
    return {"buckets": {"date_histogram": {"field": FIELDS[request.time].exact, "min_doc_count": 1, **unit}}}


def _by_values(by: Sequence[ast.Subject], codes: _Codes) -> dict[str, Any]:
    first, *others = by
    inner = {"aggs": _by_values(others, codes)} if others else {}
    if isinstance(first, ast.Path):
        return {"values": {"filters": {"filters": [_has(first, code) for code in codes[first]]}, **inner}}
    return {"values": {"terms": {"field": FIELDS[first.name].exact, "size": MOST_VALUES}, **inner}}


def _read_values(
    found: Mapping[str, Any], by: Sequence[ast.Subject], codes: _Codes, outer: Combination = ()
) -> list[tuple[Combination, int]]:
    first, *others = by
    pairs: list[tuple[Combination, int]] = []
    buckets = found.get("values", {}).get("buckets", [])
    names = codes[first] if isinstance(first, ast.Path) else [f"s:{bucket['key']}" for bucket in buckets]
    for name, bucket in zip(names, buckets, strict=False):
        key, count = (*outer, name), bucket["doc_count"]
        if others:
            pairs += _read_values(bucket, others, codes, key)
        elif count:
            pairs.append((key, count))
    return pairs
