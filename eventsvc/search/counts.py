"""Count requests and counts. Both stores count, and their counts are added up."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from eventsvc.fields import FIELDS, SHORT
from eventsvc.log.filter import Filter
from eventsvc.log.read.counts import (
    Calendar,
    Column,
    Combination,
    Grouping,
    Inside,
    LogCounts,
    Measured,
    Most,
    Step,
    Values,
)
from eventsvc.query import ast
from eventsvc.query.to_sql import data_rows
from eventsvc.search.both_stores import Provenance

# The index must list all values, so that sums with the tail are exact. With more values, PostgreSQL counts instead.
MOST_VALUES = 10_000
MOST_BUCKETS = 10_000
MOST_INSIDE = 1_000  # values of a path in data, because each value is a filter of its own
MOST_CELLS = 50_000  # buckets of all top values together
_WEIGHT = 150  # bytes of one count in a dict

MINUTE = 60_000
STEPS = {"1m": MINUTE, "5m": 5 * MINUTE, "15m": 15 * MINUTE, "1h": 60 * MINUTE}
UNITS = {"1d": "day", "1w": "week"}


@dataclass(frozen=True, slots=True)
class CountRequest:
    """A request for counts.

    Attributes:
        interval: a key of STEPS or UNITS, or "" for no counts over time.
        zone: the time zone of days and weeks.
        by: the fields and paths whose values are counted, in all combinations that events have.
        top: how many values are listed; the other values are only summed up.
        time: the field that is cut into intervals.
        distinct: the fields and paths whose distinct values are counted.
        numbers: paths in data whose numbers are summed up.
        percentiles: the percentiles of these numbers, between 0 and 100.
    """

    interval: str = ""
    zone: str = "UTC"
    by: tuple[ast.Subject, ...] = ()
    top: int = 10
    time: str = "createdAt"
    distinct: tuple[ast.Subject, ...] = ()
    numbers: tuple[ast.Path, ...] = ()
    percentiles: tuple[float, ...] = ()

    def grouping(self, most: Most) -> Grouping:
        """Translate the request for PostgreSQL."""
        step: Step | Calendar | None = None
        if self.interval in STEPS:
            step = Step(STEPS[self.interval])
        elif self.interval:
            step = Calendar(UNITS[self.interval], self.zone)
        return Grouping(
            step,
            tuple(map(_values, self.by)),
            most,
            self.time,
            tuple(map(_values, self.distinct)),
            tuple(map(_inside, self.numbers)),
            tuple(each / 100 for each in self.percentiles),
        )

    @property
    def in_index(self) -> bool:
        """Whether the index can count this exactly, as long as there are not too many values."""
        of_by = [each for each in self.by if isinstance(each, ast.Path)]
        return not self.numbers and len(of_by) <= 1 and all(map(_is_counted, (*self.by, *self.distinct)))

    @property
    def paths(self) -> tuple[ast.Path, ...]:
        """The paths in data whose values are counted, each once."""
        return tuple(dict.fromkeys(each for each in (*self.by, *self.distinct) if isinstance(each, ast.Path)))


def _is_counted(subject: ast.Subject) -> bool:
    if isinstance(subject, ast.Name):
        return subject.name in SHORT
    return not any(map(ast.is_array_index, subject.keys))


def _values(subject: ast.Subject) -> Values:
    return Column(FIELDS[subject.name].column) if isinstance(subject, ast.Name) else _inside(subject)


def _inside(path: ast.Path) -> Inside:
    text, parameters = data_rows(path)
    return Inside(Filter(text, tuple(parameters)))


@dataclass(frozen=True, slots=True)
class Counts:
    """The answer to a count request.

    Attributes:
        provenance: which stores have counted.
        missing: how many events lack a value of one of ``CountRequest.by``.
        valued: the sum of the counts of all values, not only of the top values.
        values: coded values (see ``log.read.counts``) and their counts.
        cells: the counts of the top values over time.
        distinct: the number of distinct values of each of ``CountRequest.distinct``.
    """

    total: int
    provenance: Provenance
    missing: int = 0
    valued: int = 0
    buckets: Mapping[int, int] = field(default_factory=dict)
    values: Mapping[Combination, int] = field(default_factory=dict)
    cells: Mapping[Combination, Mapping[int, int]] = field(default_factory=dict)
    distinct: tuple[int, ...] = ()
    numbers: tuple[Measured, ...] = ()

    @classmethod
    def of_log(cls, found: LogCounts, provenance: Provenance) -> Counts:
        """Convert the counts that the log has made of all events."""
        distinct = tuple(each for each in found.distinct if isinstance(each, int))
        return cls(
            found.total,
            provenance,
            found.missing,
            found.valued,
            found.buckets,
            found.values,
            found.cells,
            distinct,
            found.numbers,
        )

    def top(self, most: int) -> list[Combination]:
        """List the values with the highest counts; values of equal count come in the order of their texts."""
        return sorted(self.values, key=lambda key: (-self.values[key], key))[:most]


@dataclass(frozen=True, slots=True)
class StoreCounts:
    """All that one store has counted, so that the counts of another store can be added.

    Attributes:
        distinct: the distinct values themselves, for each of ``CountRequest.distinct``.
    """

    total: int
    missing: int
    buckets: Mapping[int, int]
    values: Mapping[Combination, int]
    distinct: tuple[frozenset[str], ...]

    def weigh(self) -> int:
        """Estimate the bytes that the counts take."""
        sizes = (len(self.buckets), len(self.values), *map(len, self.distinct))
        texts = sum(len(text) for key in self.values for text in key) + sum(map(len, _all(self.distinct)))
        return _WEIGHT * (1 + sum(sizes)) + texts

    @classmethod
    def of_log(cls, found: LogCounts) -> StoreCounts:
        """Convert counts of the log that list the distinct values."""
        distinct = tuple(frozenset(each) for each in found.distinct if not isinstance(each, int))
        return cls(found.total, found.missing, found.buckets, found.values, distinct)

    def __add__(self, other: StoreCounts) -> StoreCounts:
        return StoreCounts(
            self.total + other.total,
            self.missing + other.missing,
            Counter(self.buckets) + Counter(other.buckets),
            Counter(self.values) + Counter(other.values),
            tuple(mine | theirs for mine, theirs in zip(self.distinct, other.distinct, strict=True)),
        )

    def summed(self, provenance: Provenance) -> Counts:
        """Reduce lists of values to counts."""
        return Counts(
            self.total,
            provenance,
            self.missing,
            sum(self.values.values()),
            self.buckets,
            self.values,
            distinct=tuple(map(len, self.distinct)),
        )


def _all(sets: Iterable[Iterable[str]]) -> Iterable[str]:
    return (each for one in sets for each in one)
