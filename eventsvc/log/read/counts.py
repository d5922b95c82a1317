"""Counts: of all, by stretches of time, and by the values of a field."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from psycopg2 import sql

from eventsvc.log.read.state import Filter, Moment, Part, Row

# Part numbers are 10 plus PostgreSQL's GROUPING(bucket, value): a bit is set for what a group is not made by.
_PART_BUCKET, _PART_VALUE, _PART_TOTAL = 11, 12, 13

_GROUPS = sql.SQL(
    "SELECT part, bucket, NULL::uuid, number, value, NULL, NULL, NULL, NULL::jsonb FROM ("
    "SELECT 10 + GROUPING(bucket, value) AS part, bucket, value, count(*) AS number,"
    " row_number() OVER (PARTITION BY GROUPING(bucket, value) ORDER BY count(*) DESC, value) AS place"
    ' FROM (SELECT {bucket} AS bucket, {value} COLLATE "C" AS value FROM event WHERE {where}) AS found'
    " GROUP BY GROUPING SETS ((), (bucket), (value))) AS groups WHERE place <= %s"
)
_MILLISECONDS = "(extract(epoch FROM created_at) * 1000)::bigint"
_BY_STEP = f"floor({_MILLISECONDS} / %s::numeric)::bigint * %s"
_BY_CALENDAR = "(extract(epoch FROM date_trunc(%s, created_at, %s)) * 1000)::bigint"


@dataclass(frozen=True, slots=True)
class Step:
    """A fixed stretch of time; buckets start at its multiples since 1970, UTC."""

    milliseconds: int


@dataclass(frozen=True, slots=True)
class Calendar:
    """A unit of the calendar in a time zone; a day may have 23 or 25 hours."""

    unit: str
    zone: str


@dataclass(frozen=True, slots=True)
class Tally:
    """The counts. See ``question.Answered``.

    Attributes:
        buckets: the start of a stretch of time, ms since 1970, and its count; none with 0.
        values: a value and its count.
    """

    moment: Moment
    total: int
    buckets: dict[int, int]
    values: dict[str, int]
    settled: bool = False


@dataclass(frozen=True, slots=True)
class Grouping:
    """Which counts are wanted.

    Attributes:
        interval: how to cut time; None for no counts over time.
        column: whose values are counted; None for no such counts.
        most: at most so many values, those with the highest counts, and so many stretches of time.
    """

    interval: Step | Calendar | None
    column: str | None
    most: int

    def compose(self, matching: Filter) -> list[Part]:
        """See ``Question``."""
        bucket = self._bucket()
        statement = _GROUPS.format(
            bucket=sql.SQL(bucket.text),
            value=sql.Identifier(self.column) if self.column else sql.SQL("NULL::text"),
            where=sql.SQL(matching.text),
        )
        return [(statement, [*bucket.parameters, *matching.parameters, self.most])]

    def decode(self, rows: Sequence[Row], moment: Moment, *, settled: bool) -> Tally:
        """See ``Question``."""
        return Tally(
            moment,
            total=sum(row[3] for row in rows if row[0] == _PART_TOTAL),
            # What was not asked for is one group, of NULL.
            buckets={row[1]: row[3] for row in rows if row[0] == _PART_BUCKET and row[1] is not None},
            values={row[4]: row[3] for row in rows if row[0] == _PART_VALUE and row[4] is not None},
            settled=settled,
        )

    def _bucket(self) -> Filter:
        match self.interval:
            case None:
                return Filter("NULL::bigint")
            case Step(milliseconds):
                return Filter(_BY_STEP, (milliseconds, milliseconds))
            case Calendar(unit, zone):
                return Filter(_BY_CALENDAR, (unit, zone))
