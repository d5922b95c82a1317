"""Remove what the rules of retention say, save what a hold keeps."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import date

from eventsvc.erasure.erase import Batches, condition, except_held, parse_canonical
from eventsvc.log.connection import Connection
from eventsvc.log.progress import erasures, retention_rules
from eventsvc.log.progress.erased import Condition
from eventsvc.log.progress.retention_rules import Rule


def apply(connection: Connection) -> Iterator[int]:
    """Remove by batches what is too old by any rule; yields how many events each batch took.

    Another process that is at it already is left to it.
    """
    with erasures.working(connection) as alone:
        if not alone:
            return
        for rule in retention_rules.list_rules(connection):
            yield from Batches(connection, _too_old(rule), erasure_id=None).run()


def preview(connection: Connection, rule: Rule) -> tuple[tuple[date, int], ...]:
    """Count by month what a rule would remove now."""
    which = except_held(_too_old(rule), erasures.list_holds(connection))
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT date_trunc('month', created_at AT TIME ZONE 'UTC')::date, count(*) FROM event"  # noqa: S608
            f" WHERE {which.text} GROUP BY 1 ORDER BY 1",
            which.values,
        )
        return tuple((month, int(count)) for month, count in cursor.fetchall())


def _too_old(rule: Rule) -> Condition:
    matching = condition(parse_canonical(rule.query))
    cutoff = time.time() - rule.seconds
    return Condition(f"({matching.text}) AND created_at < to_timestamp(%s)", (*matching.values, cutoff))
