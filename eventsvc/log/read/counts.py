"""Count events in total, over time and by values; count distinct values; sum up numbers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
from psycopg2 import sql

from eventsvc.fields import FIELDS
from eventsvc.log.filter import Filter
from eventsvc.log.read.state import Part, Row

_PART = 10

# A value is coded as one text: the letter of its type, a colon, and the value. Equal numbers have equal texts.
_CODE = sql.SQL(
    "CASE jsonb_typeof(value) WHEN 'string' THEN 's:' || (value #>> '{{}}')"
    " WHEN 'number' THEN 'n:' || trim_scale((value #>> '{{}}')::numeric)"
    " WHEN 'boolean' THEN 'b:' || (value #>> '{{}}') ELSE 'z:' END COLLATE \"C\""
)
# An event with several values has a row for each value; ``first`` marks one of them. An event without a value has one
# row, with NULL.
_INSIDE = sql.SQL(
    " LEFT JOIN LATERAL (SELECT code, row_number() OVER () = 1 AS first FROM (SELECT DISTINCT {code} AS code"
    " FROM {values} AS value WHERE jsonb_typeof(value) NOT IN ('object', 'array')) AS codes) AS {name} ON true"
)
_GROUPS = sql.SQL(
    "(WITH found AS (SELECT {columns} FROM event{joins} WHERE {where}), groups AS MATERIALIZED ("
    "SELECT {any_time} AS any_time, {any_value} AS any_value, {bucket} AS bucket, {value} AS value,"
    " count(*) AS number, count(*) FILTER (WHERE first) AS events FROM found GROUP BY GROUPING SETS ({sets})"
    "), valued AS MATERIALIZED (SELECT value, number FROM groups"
    " WHERE any_time = 1 AND any_value = 0 AND array_position(value, NULL) IS NULL"
    "), top AS MATERIALIZED (SELECT value, number FROM valued ORDER BY number DESC, value LIMIT %s)"
    " SELECT 10, NULL::bigint, NULL, NULL::bigint, NULL::bigint, NULL, NULL, NULL, NULL, jsonb_build_object("
    "'total', (SELECT coalesce(sum(events), 0) FROM groups WHERE any_time = 1 AND any_value = 1),"
    " 'missing', (SELECT coalesce(sum(events), 0) FROM groups"
    " WHERE any_time = 1 AND any_value = 0 AND array_position(value, NULL) IS NOT NULL),"
    " 'valued', (SELECT coalesce(sum(number), 0) FROM valued),"
    " 'buckets', (SELECT coalesce(jsonb_agg(jsonb_build_array(bucket, events)), '[]') FROM ("
    "SELECT bucket, events FROM groups WHERE any_time = 0 AND any_value = 1 LIMIT %s) AS part),"
    " 'values', (SELECT coalesce(jsonb_agg(jsonb_build_array(value, number)), '[]') FROM top),"
    " 'cells', (SELECT coalesce(jsonb_agg(jsonb_build_array(value, bucket, number)), '[]') FROM ("
    "SELECT value, bucket, groups.number FROM groups JOIN top USING (value)"
    " WHERE any_time = 0 AND any_value = 0 LIMIT %s) AS part),"
    " 'distinct', jsonb_build_array({distinct}), 'numbers', jsonb_build_array({numbers})))"
)
_HOW_MANY = sql.SQL(
    "(SELECT count(v0) FROM (SELECT DISTINCT v0 FROM (SELECT {columns} FROM event{joins} WHERE {where}) AS found)"
    " AS part)"
)
_WHICH = sql.SQL(
    "(SELECT coalesce(jsonb_agg(v0), '[]') FROM (SELECT DISTINCT v0 FROM (SELECT {columns} FROM event{joins}"
    " WHERE {where}) AS found WHERE v0 IS NOT NULL LIMIT %s) AS part)"
)
_NUMBERS = sql.SQL(
    "(SELECT jsonb_build_object('count', count(*), 'min', min(number), 'max', max(number), 'sum', sum(number),"
    " 'avg', trim_scale(avg(number)),"
    " 'percentiles', percentile_disc(%s::float8[]) WITHIN GROUP (ORDER BY number)) FROM ("
    "SELECT (value #>> '{{}}')::numeric AS number FROM event CROSS JOIN LATERAL {values} AS value"
    " WHERE ({where}) AND jsonb_typeof(value) = 'number') AS found)"
)
_MILLISECONDS = "(extract(epoch FROM {time}) * 1000)::bigint"
_BY_STEP = sql.SQL(f"floor({_MILLISECONDS} / %s::numeric)::bigint * %s")
_BY_CALENDAR = sql.SQL("(extract(epoch FROM date_trunc(%s, {time}, %s)) * 1000)::bigint")
# The time fields as timestamps of PostgreSQL, exact to the millisecond.
_TIMES = {
    "createdAt": sql.SQL("created_at"),
    "occurredAt": sql.SQL("to_timestamp({} / 1000000 / 1000.0)").format(sql.SQL(FIELDS["occurredAt"].column)),
}


@dataclass(frozen=True, slots=True)
class Step:
    """A fixed interval; buckets start at its multiples since 1970, UTC."""

    milliseconds: int


@dataclass(frozen=True, slots=True)
class Calendar:
    """A unit of the calendar in a time zone; a day may have 23 or 25 hours."""

    unit: str
    zone: str


@dataclass(frozen=True, slots=True)
class Column:
    """A text column, which has one value an event."""

    name: str


@dataclass(frozen=True, slots=True)
class Inside:
    """A path in data, which has any number of values an event.

    Attributes:
        rows: an expression for a FROM clause after table event, which gives the jsonb values.
    """

    rows: Filter


Values = Column | Inside
Combination = tuple[str, ...]  # one coded value for each of ``Grouping.by``


class Measured(msgspec.Struct, frozen=True):
    """A summary of the numbers at a path. Each number is JSON text with all its digits.

    Attributes:
        count: how many numbers there are. If there are none, all other attributes are null.
        avg: the average, with sixteen or more significant digits.
        percentiles: for each of ``Grouping.percentiles``, one of the numbers (PostgreSQL's percentile_disc). The median
            of four numbers is the second number.
    """

    count: int
    min: msgspec.Raw
    max: msgspec.Raw
    sum: msgspec.Raw
    avg: msgspec.Raw
    percentiles: list[msgspec.Raw] | None


class _Content(msgspec.Struct, frozen=True):
    total: int
    missing: int
    valued: int
    buckets: list[tuple[int, int]]
    values: list[tuple[Combination, int]]
    cells: list[tuple[Combination, int, int]]
    distinct: list[int | list[str]]
    numbers: list[Measured]


@dataclass(frozen=True, slots=True)
class LogCounts:
    """The content of an answer: the counts that PostgreSQL has made.

    Attributes:
        missing: how many events lack a value of one of ``Grouping.by``.
        valued: the sum of the counts of all values, not only of those in ``values``.
        buckets: the start of each interval in ms since 1970, and its count; intervals without events are left out.
        values: coded values and their counts.
        cells: coded values and their counts over time.
        distinct: for each of ``Grouping.distinct``, the number of distinct values, or the coded values themselves.
        numbers: a summary for each of ``Grouping.numbers``.
    """

    total: int
    missing: int
    valued: int
    buckets: dict[int, int]
    values: dict[Combination, int]
    cells: dict[Combination, dict[int, int]]
    distinct: tuple[int | list[str], ...]
    numbers: tuple[Measured, ...]


@dataclass(frozen=True, slots=True)
class Most:
    """The limits of an answer. A caller must not take a count that was cut off for 0.

    Attributes:
        values: how many values are listed; those with the highest counts come first, then in the order of their texts.
        buckets: how many buckets are listed, in any order. A caller requests one bucket more than it can use. If it
            gets this bucket, there are too many.
        cells: how many counts of a value in a bucket are listed, in any order, with one more for the same reason.
        which: how many distinct values are listed; None to count them only.
    """

    values: int
    buckets: int
    cells: int
    which: int | None = None


@dataclass(frozen=True, slots=True)
class Grouping:
    """A question for counts.

    Attributes:
        interval: the interval of counts over time; None for no counts over time.
        by: the columns and paths whose values are counted, in all combinations that events have.
        most: the limits.
        time: the field that is cut into intervals.
        distinct: the columns and paths whose distinct values are counted.
        numbers: the paths whose numbers are summed up.
        percentiles: the percentiles of these numbers, between 0 and 1.
    """

    interval: Step | Calendar | None
    by: tuple[Values, ...]
    most: Most
    time: str = "createdAt"
    distinct: tuple[Values, ...] = ()
    numbers: tuple[Inside, ...] = ()
    percentiles: tuple[float, ...] = ()

    def compose(self, matching: Filter) -> list[Part]:
        """See ``Question``."""
        bucket, columns = self._bucket(), [f"v{place}" for place in range(len(self.by))]
        found, values = _columns(self.by, matching)
        time_keys = ["bucket"] if self.interval else []
        sets = [[], *([time_keys] if time_keys else []), *([columns] if columns else [])]
        sets += [[*time_keys, *columns]] if time_keys and columns else []
        statement = _GROUPS.format(
            any_time=sql.SQL("GROUPING(bucket)" if self.interval else "1"),
            any_value=sql.SQL("GROUPING(v0)" if columns else "1"),
            bucket=sql.SQL("bucket" if self.interval else "NULL::bigint"),
            value=sql.SQL(f"ARRAY[{', '.join(columns)}]" if columns else "NULL::text[]"),
            sets=sql.SQL(", ".join(f"({', '.join(names)})" for names in sets)),
            columns=sql.SQL(", ").join([bucket[0] + sql.SQL(" AS bucket"), found["columns"]]),
            joins=found["joins"],
            where=found["where"],
            distinct=sql.SQL(", ").join([self._distinct(each, matching)[0] for each in self.distinct]),
            numbers=sql.SQL(", ").join(
                [_NUMBERS.format(values=sql.SQL(each.rows.text), where=found["where"]) for each in self.numbers]
            ),
        )
        most = self.most
        parameters = [*bucket[1], *values, most.values, most.buckets, most.cells]
        for each in self.distinct:
            parameters += self._distinct(each, matching)[1]
        for each in self.numbers:
            parameters += [list(self.percentiles), *each.rows.parameters, *matching.parameters]
        return [(statement, parameters)]

    def decode(self, rows: Sequence[Row]) -> LogCounts:
        """See ``Question``."""
        content = next(msgspec.json.decode(row[-1], type=_Content) for row in rows if row[0] == _PART)
        cells: dict[Combination, dict[int, int]] = {}
        for key, start, number in content.cells:
            cells.setdefault(key, {})[start] = number
        return LogCounts(
            content.total,
            content.missing,
            content.valued,
            dict(content.buckets),
            dict(content.values),
            cells,
            tuple(content.distinct),
            tuple(content.numbers),
        )

    def _bucket(self) -> tuple[sql.Composable, list[Any]]:
        time = _TIMES[self.time]
        match self.interval:
            case None:
                return sql.SQL("NULL::bigint"), []
            case Step(milliseconds):
                return _BY_STEP.format(time=time), [milliseconds, milliseconds]
            case Calendar(unit, zone):
                return _BY_CALENDAR.format(time=time), [unit, zone]

    def _distinct(self, values: Values, matching: Filter) -> Part:
        found, parameters = _columns((values,), matching)
        if self.most.which is None:
            return _HOW_MANY.format(**found), parameters
        return _WHICH.format(**found), [*parameters, self.most.which]


def _columns(by: Sequence[Values], matching: Filter) -> tuple[dict[str, sql.Composable], list[Any]]:
    """Build the columns v0, v1, … and first, their joins and the condition, with all parameters in order."""
    columns: list[sql.Composable] = []
    joins: list[sql.Composable] = []
    parameters: list[Any] = []
    firsts = ["true"]
    for place, values in enumerate(by):
        if isinstance(values, Column):
            value = sql.SQL("'s:' || {} COLLATE \"C\"").format(sql.Identifier("event", values.name))
        else:
            name = f"values{place}"
            value = sql.SQL("{}.code").format(sql.Identifier(name))
            rows = sql.SQL(values.rows.text)
            joins.append(_INSIDE.format(code=_CODE.format(), values=rows, name=sql.Identifier(name)))
            parameters += values.rows.parameters
            firsts.append(f"coalesce({name}.first, true)")
        columns.append(value + sql.SQL(f" AS v{place}"))
    columns.append(sql.SQL(f"{' AND '.join(firsts)} AS first"))
    found = {
        "columns": sql.SQL(", ").join(columns),
        "joins": sql.SQL("").join(joins),
        "where": sql.SQL(matching.text),
    }
    return found, [*parameters, *matching.parameters]
