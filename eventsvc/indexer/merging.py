"""Merge the indexes of past months. An index that no longer grows is smallest and fastest with one segment a shard."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, date, datetime, timedelta

import structlog
from elasticsearch import Elasticsearch

from eventsvc.errors import IndexUnavailable
from eventsvc.index import indexes
from eventsvc.log.progress.index_months import IndexMonth

_SETTLED = timedelta(days=1)  # after a month's end

_logger = structlog.get_logger()


def merge_one(client: Elasticsearch, months: Iterable[IndexMonth]) -> str | None:
    """Start to merge the newest past month that is not merged yet; return the name of its index.

    Nothing is recorded: a merged index is known by its one segment a shard.
    """
    current = (datetime.now(UTC) - _SETTLED).date().replace(day=1)
    try:
        for index in sorted(months, key=_month, reverse=True):
            if index.month < current and indexes.merge(client, index.name):
                _logger.info("a month is over; its index is merged", index=index.name)
                return index.name
    except IndexUnavailable as exc:
        _logger.warning("no index could be merged, will be tried again", error=str(exc))
    return None


def _month(index: IndexMonth) -> date:
    return index.month
