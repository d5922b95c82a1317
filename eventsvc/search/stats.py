"""Counts of matching events: over time, and by the values of a field; index and tail add up exactly."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import structlog

from eventsvc.errors import IndexUnavailable
from eventsvc.fields import FIELDS
from eventsvc.index.hits import Hits, Inexact, Scope
from eventsvc.log.read.counts import Calendar, Grouping, Step, Tally
from eventsvc.log.read.reader import Reader
from eventsvc.search.joined import Both, Joined
from eventsvc.search.search import Compiled, Provenance, Source

_log = structlog.get_logger(__name__)

# All values of a field are asked for, so that their counts are exact; with more than this PostgreSQL counts.
_MOST_VALUES = 10_000
MOST_BUCKETS = 10_000
_WEIGHT = 150  # bytes of one count in a dict

MINUTE = 60_000
STEPS = {"1m": MINUTE, "5m": 5 * MINUTE, "15m": 15 * MINUTE, "1h": 60 * MINUTE}
UNITS = {"1d": "day", "1w": "week"}


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which counts.

    Attributes:
        interval: a key of STEPS or UNITS, or "" for no counts over time.
        zone: of days and weeks.
        by: name of a field, or "".
        top: how many of its values.
    """

    interval: str
    zone: str
    by: str
    top: int

    def grouping(self, most: int) -> Grouping:
        """Say it to the log."""
        step: Step | Calendar | None = None
        if self.interval in STEPS:
            step = Step(STEPS[self.interval])
        elif self.interval:
            step = Calendar(UNITS[self.interval], self.zone)
        return Grouping(step, FIELDS[self.by].column if self.by else None, most)

    def aggregations(self) -> dict[str, Any]:
        """Say it to the index."""
        asked: dict[str, Any] = {}
        if self.interval:
            unit = (
                {"fixed_interval": f"{STEPS[self.interval] // MINUTE}m"}
                if self.interval in STEPS
                else {"calendar_interval": UNITS[self.interval], "time_zone": self.zone}
            )
            asked["buckets"] = {"date_histogram": {"field": "createdAt", "min_doc_count": 1, **unit}}
        if self.by:
            asked["values"] = {"terms": {"field": FIELDS[self.by].exact, "size": _MOST_VALUES}}
        return asked


@dataclass(frozen=True, slots=True)
class Counts:
    """What was counted."""

    total: int
    buckets: Mapping[int, int]
    values: Mapping[str, int]

    def weigh(self) -> int:
        """Estimate the bytes it takes."""
        return _WEIGHT * (1 + len(self.buckets) + len(self.values))

    def __add__(self, other: Counts) -> Counts:
        return Counts(
            self.total + other.total,
            Counter(self.buckets) + Counter(other.buckets),
            Counter(self.values) + Counter(other.values),
        )


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
        reason = self._joined.obstacle or ("" if query.index is not None else "not expressible")
        if not reason:
            try:
                return await (self._merged(query, wanted) if strong else self._eventual(query, wanted))
            except Inexact:
                reason = "too many values"
            except IndexUnavailable as exc:
                _log.warning("counts come from PostgreSQL", reason=str(exc))
                reason = "index away"
        most = max(wanted.top, MOST_BUCKETS + 1)
        tally = await self._reader.whole(query.log, wanted.grouping(most), strong=strong)
        return StatsAnswer(_counts(tally), Provenance(Source.SQL, reason, tally.moment, tally.settled))

    async def _eventual(self, query: Compiled, wanted: Wanted) -> StatsAnswer:
        counts = await self._joined.index_only(lambda hits, scope: _ask(hits, scope, query, wanted))
        return StatsAnswer(counts, Provenance(Source.INDEX))

    async def _merged(self, query: Compiled, wanted: Wanted) -> StatsAnswer:
        # The tail may be long when the index was away for a while: no limit, or the sums would be wrong.
        everything = wanted.grouping(2**31)
        both: Both[Counts, Tally] = await self._joined.both(
            ("stats", query.text, replace(wanted, top=0)),
            lambda floor: self._reader.tail(query.log, everything, floor=floor),
            lambda hits, scope: _ask(hits, scope, query, wanted),
        )
        source = Source.CACHE_AND_TAIL if both.cached else Source.INDEX_AND_TAIL
        provenance = Provenance(source, "", both.tail.moment, both.tail.settled)
        return StatsAnswer(both.index + _counts(both.tail), provenance)


def _counts(tally: Tally) -> Counts:
    return Counts(tally.total, tally.buckets, tally.values)


async def _ask(hits: Hits, scope: Scope, query: Compiled, wanted: Wanted) -> Counts:
    found = await hits.aggregate(scope, query.index or {}, wanted.aggregations())
    return Counts(
        found.total,
        {bucket["key"]: bucket["doc_count"] for bucket in found.buckets("buckets")},
        {bucket["key"]: bucket["doc_count"] for bucket in found.buckets("values")},
    )
