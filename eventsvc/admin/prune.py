"""List the sizes of months, and remove events that are too old."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, datetime

from eventsvc.admin.stores import Stores
from eventsvc.erasure.erase import Batches, except_held
from eventsvc.erasure.retention import drop_unless_held
from eventsvc.index import indexes
from eventsvc.index.client import translate_errors
from eventsvc.log import citus, months
from eventsvc.log.connection import Connection, fetch
from eventsvc.log.filter import Filter
from eventsvc.log.progress import erasures, index_months, rebuilds
from eventsvc.log.progress.index_months import IndexMonth


@dataclass(frozen=True, slots=True)
class MonthSize:
    """The size of one month in both stores.

    Attributes:
        table_bytes: the size of the partition with its indexes; 0 for a month in the default partition.
        index: the name of the month's index; "" if there is none.
        documents: the number of documents; None without an index or without Elasticsearch.
        index_bytes: the size of the primary shards; None like ``documents``.
        shards: the number of primary shards; None like ``documents``.
    """

    month: date
    events: int
    table_bytes: int
    index: str
    documents: int | None
    index_bytes: int | None
    shards: int | None

    @property
    def generation(self) -> int | None:
        """The generation of the month's index; None if there is no index."""
        return indexes.generation_of_name(self.index) if self.index else None


def list_sizes(stores: Stores) -> list[MonthSize]:
    """List the sizes of all months, oldest first.

    Raises:
        IndexUnavailable: Elasticsearch is configured, but away.
    """
    indexes = index_months.list_indexes(stores.connection)
    index_sizes = _index_sizes(stores)
    tables = {month: _table_size(stores.connection, month) for month in months.list_months(stores.connection)}
    return [
        _size(month, *tables.get(month, (0, 0)), indexes.get(month), index_sizes)
        for month in sorted(tables.keys() | indexes.keys())
    ]


def _size(
    month: date, events: int, table_bytes: int, index: IndexMonth | None, index_sizes: dict[str, tuple[int, int, int]]
) -> MonthSize:
    name = index.name if index else ""
    documents, index_bytes, shards = index_sizes.get(name, (None, None, None))
    return MonthSize(month, events, table_bytes, name, documents, index_bytes, shards)


def _table_size(connection: Connection, month: date) -> tuple[int, int]:
    return months.count_events(connection, month), citus.measure(connection, months.partition_name(month))


def _index_sizes(stores: Stores) -> dict[str, tuple[int, int, int]]:
    if stores.elasticsearch is None:
        return {}
    with translate_errors():
        answer = stores.elasticsearch.indices.stats(
            index=f"{stores.settings.index_prefix}-v*", metric="docs,store", filter_path="indices.*.primaries"
        )
    found = answer.body.get("indices", {})
    shards = indexes.count_shards(stores.client, stores.settings.index_prefix)
    return {
        name: (one["primaries"]["docs"]["count"], one["primaries"]["store"]["size_in_bytes"], shards[name])
        for name, one in found.items()
        if name in shards
    }


@dataclass(frozen=True, slots=True)
class Plan:
    """The events and indexes that pruning removes.

    Attributes:
        cutoff: events older than this are removed.
        months: the months that are dropped whole, with their numbers of events.
        partial: the months of which only a part is removed, with the number of removed events: the cutoff lies within
            the month, or a hold keeps the other events.
        unused: indexes of months before the cutoff that are not in use.
    """

    cutoff: datetime
    months: tuple[tuple[date, int], ...]
    partial: tuple[tuple[date, int], ...]
    unused: tuple[str, ...]


def plan(stores: Stores, cutoff: datetime) -> Plan:
    """Find everything that is older than a time."""
    connection = stores.connection
    known = sorted(
        {*months.list_months(connection), *index_months.list_indexes(connection), *months.list_default(connection)}
    )
    kept = except_held(Filter(), erasures.list_holds(connection))
    past = [month for month in known if months.start_of(months.next_month(month)) <= cutoff]
    counted = {month: _count(connection, kept, month, cutoff) for month in past}
    whole = {month: counted[month] for month in past if counted[month] == _count(connection, Filter(), month, cutoff)}
    boundary = cutoff.date().replace(day=1)
    partial = counted | {boundary: _count(connection, kept, boundary, cutoff)}
    return Plan(
        cutoff,
        tuple(whole.items()),
        tuple((month, count) for month, count in sorted(partial.items()) if month not in whole and count),
        tuple(name for name in list_unused(stores) if _is_before(name, cutoff)),
    )


def _count(connection: Connection, which: Filter, month: date, cutoff: datetime) -> int:
    end = min(cutoff, months.start_of(months.next_month(month)))
    ((count,),) = fetch(
        connection,
        f"SELECT count(*) FROM event WHERE ({which.text}) AND created_at >= %s AND created_at < %s",  # noqa: S608
        (*which.parameters, months.start_of(month), end),
    )
    return int(count)


def list_unused(stores: Stores) -> list[str]:
    """List the indexes with our names that no month uses: a killed process has left them, or they are not ours."""
    if stores.elasticsearch is None:
        return []
    used = {index.name for index in index_months.list_indexes(stores.connection).values()}
    for rebuild in rebuilds.list_rebuilds(stores.connection).values():
        used |= {rebuild.name, rebuild.old_name or rebuild.name}
    existing = indexes.list_all(stores.elasticsearch, stores.settings.index_prefix)
    return [name for name in existing if name not in used]


def _is_before(name: str, cutoff: datetime) -> bool:
    month = indexes.month_of_name(name)
    return months.start_of(months.next_month(month)) <= cutoff


def prune(stores: Stores, plan: Plan, advance: Callable[[int], None]) -> None:
    """Remove the events and indexes of a plan: first whole months, then parts of months in batches.

    Raises:
        LogError: the log could not be locked, or the indexer does not remove documents of erased events.
    """
    for month, events in plan.months:
        names = drop_unless_held(stores.connection, month)
        for name in names or ():
            if stores.elasticsearch is not None:
                indexes.delete(stores.elasticsearch, name)
        advance(0 if names is None else events)
    for name in plan.unused:
        indexes.delete(stores.client, name)
    if plan.partial:
        older = Filter("created_at < %s", (plan.cutoff,))
        for events in Batches(stores.connection, older, erasure_id=None).run():
            advance(events)
