"""Apply the retention rules: remove events that are too old, except events that a hold keeps."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime

from eventsvc.erasure.erase import Batches, condition, count_by_month, except_held, holds_keep, parse_canonical
from eventsvc.log import months
from eventsvc.log.connection import Connection
from eventsvc.log.filter import Filter
from eventsvc.log.months import bounds
from eventsvc.log.progress import erasures, retention_rules
from eventsvc.log.progress.drop_month import drop
from eventsvc.log.progress.retention_rules import Rule

DeleteIndex = Callable[[str], None]


def apply(connection: Connection, delete_index: DeleteIndex) -> Iterator[int]:
    """Remove events that are too old by some rule; yields the number of events in each batch.

    A rule for all events drops whole months first; the rest is removed in batches. If another process applies the rules
    or continues an erasure, this function does nothing.

    Args:
        connection: a connection to the log.
        delete_index: deletes the index of a dropped month, given its name.
    """
    with erasures.working(connection) as alone:
        if not alone:
            return
        for rule in retention_rules.list_rules(connection):
            if not rule.query:
                _drop_months(connection, _cutoff(rule), delete_index)
            yield from Batches(connection, _too_old(rule), erasure_id=None).run()


def _drop_months(connection: Connection, cutoff: datetime, delete_index: DeleteIndex) -> None:
    for month in months.list_months(connection):
        if months.start_of(months.next_month(month)) <= cutoff:
            for name in drop_unless_held(connection, month) or ():
                delete_index(name)


def drop_unless_held(connection: Connection, month: date) -> list[str] | None:
    """Drop a month, unless a hold keeps some of its events.

    Returns:
        The names of the month's indexes, which the caller must delete; None if a hold keeps the month.

    Raises:
        LogError: long transactions keep the log locked.
    """
    of_month = Filter("created_at >= %s AND created_at < %s", bounds(month))
    return drop(connection, month, is_held=lambda cursor: holds_keep(cursor, of_month))


def preview(connection: Connection, rule: Rule) -> tuple[tuple[date, int], ...]:
    """Count the events that a rule would remove now, by month."""
    which = except_held(_too_old(rule), erasures.list_holds(connection))
    with connection.cursor() as cursor:
        return count_by_month(cursor, which)


def _too_old(rule: Rule) -> Filter:
    matching = condition(parse_canonical(rule.query))
    return Filter(f"({matching.text}) AND created_at < %s", (*matching.parameters, _cutoff(rule)))


def _cutoff(rule: Rule) -> datetime:
    return datetime.fromtimestamp(time.time() - rule.seconds, UTC)
