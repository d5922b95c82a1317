"""Verify that the indexes equal the log, repair them, and send refused events once more."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import date
from itertools import groupby
from typing import Any

from eventsvc.admin.compare import (
    Difference,
    IndexSide,
    Kind,
    Range,
    Sums,
    compare,
    differing,
    read_side,
)
from eventsvc.admin.stores import Stores
from eventsvc.event import Event
from eventsvc.index import bulk, indexes
from eventsvc.log import months
from eventsvc.log.connection import Connection, transaction
from eventsvc.log.months import month_of
from eventsvc.log.progress import erased, index_months, refusals, watermark
from eventsvc.log.progress.index_months import IndexMonth
from eventsvc.log.progress.refusals import Refusal
from eventsvc.log.read.batches import read_events

_REPAIR_AT_ONCE, _RETRY_AT_ONCE = 1_000, 500


@dataclass(frozen=True, slots=True)
class MonthReport:
    """The result of verifying one month.

    Attributes:
        index: the name of the month's index; "" if there is none.
        lost: whether the index is gone or was replaced, so that all events are missing.
        refused: the number of events that are not compared, because the index refused them or they are being erased.
            Searches find refused events in the log.
    """

    month: date
    index: str
    events: int
    refused: int = 0
    lost: bool = False
    differences: tuple[Difference, ...] = field(default=())

    @property
    def equal(self) -> bool:
        """Whether the index equals the log."""
        return not self.lost and not self.differences

    def count(self, kind: Kind) -> int:
        """Count the differences of a kind."""
        if self.lost:
            return self.events if kind == "missing" else 0
        return sum(difference.kind == kind for difference in self.differences)


def to_json(report: MonthReport, *, most: int = 1_000) -> dict[str, Any]:
    """Give the form of a report for scripts, with the first differences."""
    counts: dict[str, Any] = {kind: report.count(kind) for kind in ("missing", "extra", "different")}
    listed = [{"kind": d.kind, "seq": d.seq, "document": d.document} for d in report.differences[:most]]
    return {
        "month": f"{report.month:%Y-%m}",
        "index": report.index,
        "events": report.events,
        **counts,
        "refused": report.refused,
        "lost": report.lost,
        "equal": report.equal,
        "differences": listed,
    }


def list_months(connection: Connection) -> list[date]:
    """List the months that have events or an index, oldest first."""
    return sorted({*months.list_filled(connection), *index_months.list_indexes(connection)})


def verify(
    stores: Stores,
    months: Iterable[date],
    *,
    wanted: Range | None = None,
    quick: bool = False,
    advance: Callable[[int], None] = lambda _: None,
) -> Iterator[MonthReport]:
    """Compare each month, up to the watermark.

    Args:
        stores: both stores.
        months: the months to compare.
        wanted: the seqs to compare; None for all.
        quick: trust the checksums that were stored with the documents, instead of reading every document.
        advance: is called with the number of further documents read.
    """
    by_month = index_months.list_indexes(stores.connection)
    existing = indexes.uuids(stores.client, [index.name for index in by_month.values()])
    for month in months:
        index = by_month.get(month)
        if index is None or existing.get(index.name) != index.uuid:
            yield _report_lost(stores, month, index, wanted or Range())
        else:
            yield verify_index(stores, month, index.name, wanted=wanted, quick=quick, advance=advance)


def _report_lost(stores: Stores, month: date, index: IndexMonth | None, wanted: Range) -> MonthReport:
    side = read_side(stores.connection, month, wanted)
    return MonthReport(month, index.name if index else "", side.events, lost=bool(side.events or index))


def verify_index(
    stores: Stores,
    month: date,
    name: str,
    *,
    wanted: Range | None = None,
    quick: bool = False,
    advance: Callable[[int], None] = lambda _: None,
) -> MonthReport:
    """Compare a month with an index, which may be in use or about to be.

    Raises:
        IndexUnavailable: Elasticsearch gives no whole answer.
    """
    wanted = wanted or Range()
    side = read_side(stores.connection, month, wanted)
    wanted = replace(wanted, to=min(wanted.to, side.watermark))
    index = IndexSide(stores.client, name)
    sums: Sums = index.stored_sums(wanted, side.excluded) if quick else index.read_sums(wanted, side.excluded, advance)
    found: list[Difference] = []
    for bucket in differing(side.sums, sums):
        found += _compare_twice(stores, index, month, wanted.bucket(bucket), side.excluded)
    if wanted.after == 0:
        found += [Difference("extra", None, document) for document in index.strangers()]
    return MonthReport(month, name, side.events, refused=len(side.excluded), differences=tuple(found))


def _compare_twice(
    stores: Stores, index: IndexSide, month: date, wanted: Range, excluded: frozenset[int]
) -> list[Difference]:
    """Compare a range, and compare differences a second time: an event may have been erased during the first."""
    first = set(compare(stores.connection, index, month, wanted, excluded))
    if not first:
        return []
    excluded = read_side(stores.connection, month, wanted).excluded
    return [found for found in compare(stores.connection, index, month, wanted, excluded) if found in first]


def repair(stores: Stores, report: MonthReport, kinds: Sequence[Kind] = ("missing", "extra", "different")) -> int:
    """Make a month's index equal to the log; return how many documents were written or deleted."""
    if report.lost:
        return _replace_lost(stores, report)
    done = 0
    differences = [difference for difference in report.differences if difference.kind in kinds]
    for start in range(0, len(differences), _REPAIR_AT_ONCE):
        done += _repair_some(stores, report, differences[start : start + _REPAIR_AT_ONCE])
    if done:
        indexes.refresh(stores.client, [report.index])
        # Answers of the index before the repair are void, and so are the ETags of answers.
        with transaction(stores.connection) as cursor:
            watermark.draw_fence_within(cursor)
            erased.draw_epoch(cursor)
    return done


def _repair_some(stores: Stores, report: MonthReport, differences: Sequence[Difference]) -> int:
    name = report.index
    removals = [bulk.delete_item(name, difference.document) for difference in differences if difference.kind == "extra"]
    bulk.send(stores.client, removals, stores.stop)
    seqs = [difference.seq for difference in differences if difference.kind != "extra" and difference.seq is not None]
    # A deleted document may have had the id of another event: write the document of this event again.
    seqs += [int(d.document) for d in differences if d.kind == "extra" and d.document.isdigit()]
    events = [event for event in read_events(stores.connection, seqs) if month_of(event.created_at) == report.month]
    _write_events(stores, name, events)
    return len(differences)


def _write_events(stores: Stores, name: str, events: Sequence[Event]) -> list[Refusal]:
    """Write documents beside the indexer, and record refusals."""
    items = [bulk.write_item(event, name) for event in events]
    months = {event.seq: month_of(event.created_at) for event in events}
    refused = bulk.send(stores.client, items, stores.stop)
    recorded = [Refusal(one.item.seq, months[one.item.seq], one.reason) for one in refused]
    if recorded:
        with transaction(stores.connection) as cursor:
            refusals.insert(cursor, recorded)
    # Documents of events that were erased since they were read must not come back.
    left = {event.seq for event in read_events(stores.connection, list(months))}
    gone = [bulk.erase_item(name, seq) for seq in months if seq not in left]
    bulk.send(stores.client, gone, stores.stop)
    return recorded


def _replace_lost(stores: Stores, report: MonthReport) -> int:
    settings = stores.settings
    index = indexes.create(
        stores.client,
        settings.index_prefix,
        report.month,
        shards=settings.index_shards,
        replicas=settings.index_replicas,
        after=report.index,
    )
    index_months.replace_lost_index(stores.connection, None, report.month, index.name, index.uuid)
    return report.events


def retry_refused(stores: Stores) -> tuple[int, int]:
    """Write all refused events to the index again; return how many it took and how many it refused."""
    seqs = refusals.list_seqs(stores.connection)
    by_month = index_months.list_indexes(stores.connection)
    refused = 0
    for start in range(0, len(seqs), _RETRY_AT_ONCE):
        some = seqs[start : start + _RETRY_AT_ONCE]
        again = set()
        events = sorted(read_events(stores.connection, some), key=lambda event: month_of(event.created_at))
        for month, of_month in groupby(events, key=lambda event: month_of(event.created_at)):
            if month not in by_month:
                continue
            name = by_month[month].name
            again |= {refusal.seq for refusal in _write_events(stores, name, list(of_month))}
            # First the index shows the documents, then the list forgets them. Until then, the log answers for them.
            indexes.refresh(stores.client, [name])
        refusals.forget(stores.connection, [seq for seq in some if seq not in again])
        refused += len(again)
    return len(seqs) - refused, refused
