"""Counts of matching events: over time, and by values; index and tail add up exactly."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import structlog

from eventsvc.errors import IndexUnavailable
from eventsvc.fields import FIELDS
from eventsvc.index.hits import Hits, Inexact, Scope
from eventsvc.log.read.counts import Key, Most, Tally
from eventsvc.log.read.reader import Reader
from eventsvc.query import ast
from eventsvc.search.counts import (
    MINUTE,
    MOST_BUCKETS,
    MOST_CELLS,
    MOST_VALUES,
    STEPS,
    UNITS,
    Counts,
    Gathered,
    Wanted,
    counted,
    gathered,
)
from eventsvc.search.joined import Both, Joined
from eventsvc.search.search import Compiled, Provenance, Source

_log = structlog.get_logger(__name__)

# The tail may be long when the index was away for a while. Whatever there is one more of than this was cut off.
_TAIL = Most(MOST_VALUES + 1, MOST_BUCKETS + 1, MOST_CELLS + 1, which=MOST_VALUES + 1)


@dataclass(frozen=True, slots=True)
class StatsAnswer:
    """Counts, and where they come from."""

    counts: Counts
    provenance: Provenance


class Stats:
    """Counts events; strong answers count every event that was acknowledged before the question."""

    def __init__(self, reader: Reader, joined: Joined) -> None:
        self._reader, self._joined = reader, joined

    async def count(self, query: Compiled, wanted: Wanted, *, strong: bool = True) -> StatsAnswer:
        """Count.

        Raises:
            LogUnavailable: PostgreSQL is away, and it was needed.
            LogTimeout: the index cannot do it, and PostgreSQL took too long.
        """
        expressible = query.index is not None and wanted.in_index
        reason = self._joined.obstacle or ("" if expressible else "not expressible")
        if not reason:
            try:
                return await (self._merged(query, wanted) if strong else self._eventual(query, wanted))
            except Inexact:
                reason = "too many values"
            except IndexUnavailable as exc:
                _log.warning("counts come from PostgreSQL", reason=str(exc))
                reason = "index away"
        most = Most(wanted.top, MOST_BUCKETS + 1, MOST_CELLS + 1)
        tally = await self._reader.whole(query.log, wanted.grouping(most), strong=strong)
        return StatsAnswer(counted(tally), Provenance(Source.SQL, reason, tally.moment, tally.settled))

    async def _eventual(self, query: Compiled, wanted: Wanted) -> StatsAnswer:
        async def ask(hits: Hits, scope: Scope) -> Counts:
            counts = (await _gather(hits, scope, query, wanted)).found.summed()
            cells = await _ask_cells(hits, scope, query, wanted, counts.top(wanted.top))
            # The index may have grown between the two: its later word counts.
            values = {**counts.values, **{key: sum(cell.values()) for key, cell in cells.items()}}
            return replace(counts, values=values, valued=sum(values.values()), cells=cells)

        return StatsAnswer(await self._joined.index_only(ask), Provenance(Source.INDEX))

    async def _merged(self, query: Compiled, wanted: Wanted) -> StatsAnswer:
        grouping = wanted.grouping(_TAIL)
        both: Both[_Indexed, Tally] = await self._joined.both(
            ("stats", query.text, replace(wanted, top=0)),
            lambda base, _: self._reader.tail(query.log, grouping, base),
            lambda hits, scope: _gather(hits, scope, query, wanted),
        )
        index, tail = both.index, both.tail
        _check_room(tail)
        counts = (index.found + gathered(tail)).summed()
        if wanted.interval and wanted.by:
            counts = replace(counts, cells=await self._cells(query, wanted, index, tail, counts.top(wanted.top)))
        source = Source.CACHE_AND_TAIL if both.cached else Source.INDEX_AND_TAIL
        return StatsAnswer(counts, Provenance(source, "", tail.moment, tail.settled))

    async def _cells(
        self, query: Compiled, wanted: Wanted, index: _Indexed, tail: Tally, top: Sequence[Key]
    ) -> Mapping[Key, Mapping[int, int]]:
        """Give the top values' counts over time, which are asked for once it is known which values these are.

        Raises:
            Inexact: the index let go of events meanwhile, so that it no longer tells of the same ones.
        """
        known = [key for key in top if index.found.values.get(key)]
        found = await self._joined.ask_again(
            index.scope, lambda hits, scope: _ask_cells(hits, scope, query, wanted, known)
        )
        if any(sum(found[key].values()) != index.found.values[key] for key in known):
            raise Inexact("events were erased while they were counted")
        return {key: Counter(found.get(key, {})) + Counter(tail.cells.get(key, {})) for key in top}


@dataclass(frozen=True, slots=True)
class _Indexed:
    """What the index has counted, and in which scope."""

    found: Gathered
    scope: Scope

    def weigh(self) -> int:
        """Estimate the bytes it takes."""
        return self.found.weigh()


def _check_room(tail: Tally) -> None:
    """Raise Inexact if something of the tail was cut off."""
    listed = [len(each) for each in tail.distinct if not isinstance(each, int)]
    if max([len(tail.values), *listed]) > MOST_VALUES or sum(map(len, tail.cells.values())) > MOST_CELLS:
        raise Inexact("more values are past the watermark than can be added up")


async def _gather(hits: Hits, scope: Scope, query: Compiled, wanted: Wanted) -> _Indexed:
    asked: dict[str, Any] = _over_time(wanted) if wanted.interval else {}
    if wanted.by:
        asked |= _by_values([subject.name for subject in wanted.by if isinstance(subject, ast.Name)])
    for place, subject in enumerate(wanted.distinct):
        if isinstance(subject, ast.Name):
            asked[f"distinct{place}"] = {"terms": {"field": FIELDS[subject.name].exact, "size": MOST_VALUES}}
    found = await hits.aggregate(scope, query.index or {}, asked)
    distinct = [found.buckets(f"distinct{place}") for place in range(len(wanted.distinct))]
    counts = Gathered(
        found.total,
        0,
        {bucket["key"]: bucket["doc_count"] for bucket in found.buckets("buckets")},
        dict(_read_values(found.found)) if wanted.by else {},
        tuple(frozenset(f"s:{bucket['key']}" for bucket in buckets) for buckets in distinct),
    )
    return _Indexed(counts, scope)


async def _ask_cells(
    hits: Hits, scope: Scope, query: Compiled, wanted: Wanted, keys: Sequence[Key]
) -> dict[Key, Mapping[int, int]]:
    if not (keys and wanted.interval):
        return {}
    filters = [{"bool": {"filter": list(map(_has, wanted.by, key))}} for key in keys]
    asked = {"cells": {"filters": {"filters": filters}, "aggs": _over_time(wanted)}}
    buckets = (await hits.aggregate(scope, query.index or {}, asked)).buckets("cells")
    return {
        key: {each["key"]: each["doc_count"] for each in bucket["buckets"]["buckets"]}
        for key, bucket in zip(keys, buckets, strict=False)
    }


def _has(subject: ast.Subject, code: str) -> dict[str, Any]:
    if not isinstance(subject, ast.Name):
        raise Inexact("data is counted by the log")
    return {"term": {FIELDS[subject.name].exact: code[2:]}}


def _over_time(wanted: Wanted) -> dict[str, Any]:
    unit = (
        {"fixed_interval": f"{STEPS[wanted.interval] // MINUTE}m"}
        if wanted.interval in STEPS
        else {"calendar_interval": UNITS[wanted.interval], "time_zone": wanted.zone}
    )
    return {"buckets": {"date_histogram": {"field": FIELDS[wanted.time].exact, "min_doc_count": 1, **unit}}}


def _by_values(names: Sequence[str]) -> dict[str, Any]:
    first, *others = names
    inner = {"aggs": _by_values(others)} if others else {}
    return {"values": {"terms": {"field": FIELDS[first].exact, "size": MOST_VALUES}, **inner}}


def _read_values(found: Mapping[str, Any], outer: Key = ()) -> list[tuple[Key, int]]:
    pairs: list[tuple[Key, int]] = []
    for bucket in found.get("values", {}).get("buckets", []):
        key = (*outer, f"s:{bucket['key']}")
        pairs += _read_values(bucket, key) if "values" in bucket else [(key, bucket["doc_count"])]
    return pairs
