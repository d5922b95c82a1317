"""Remove the last traces of erased events from the files of both stores, and prove that none is left.

PostgreSQL keeps the row of a deleted event until VACUUM. Elasticsearch keeps the terms of a deleted document until its
segment is merged. A purge makes both stores do this now.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from elasticsearch import Elasticsearch
from psycopg2 import sql

from eventsvc.errors import IndexUnavailable, LogError
from eventsvc.index.client import translate_errors
from eventsvc.log import citus
from eventsvc.log.connection import Connection
from eventsvc.log.progress import erased, erasures, index_months

# Elasticsearch keeps deleted documents for replicas that come back, until its retention leases move: every 30 s.
_PATIENCE = 180.0  # seconds
_PAUSE = 1.0
_IDS = 10_000  # in one query


@dataclass(frozen=True, slots=True)
class Remains:
    """The traces of erased events in both stores.

    Attributes:
        running: the number of unfinished erasures.
        pending: the number of erased events whose documents the indexer has not removed yet.
        events: the number of erased ids that are in the log, which only an import with --include-erased brings back.
        documents: the number of documents with erased ids that are not in the log.
        deleted: for each index, the number of deleted documents whose terms are still in its segments.
        dead_rows: for each table, the number of rows that VACUUM has not removed.
    """

    running: int
    pending: int
    events: int
    documents: int
    deleted: dict[str, int]
    dead_rows: dict[str, int]

    @property
    def nothing(self) -> bool:
        """Whether no trace is left in either store."""
        counts = (self.running, self.pending, self.events, self.documents)
        return not (any(counts) or self.deleted or self.dead_rows)


def purge(connection: Connection, client: Elasticsearch | None) -> Iterator[str]:
    """Remove the traces of erased events from the files of both stores; yields a few words about each step.

    First the indexer deletes the documents of erased events. Then Elasticsearch merges segments that contain deleted
    documents, and PostgreSQL vacuums the tables. Each step may take three minutes. Erasures that are not finished are
    not awaited; ``inspect`` counts them.

    Raises:
        LogError: the indexer does not delete the documents, or a long transaction keeps dead rows.
        IndexUnavailable: Elasticsearch is away, or keeps deleted documents.
    """
    yield "waiting for the indexer"
    _until(lambda: not erased.count_erased(connection), LogError("erased events wait for the indexer: does it run?"))
    if client is not None:
        for index in index_months.list_indexes(connection).values():
            yield f"merging {index.name}"
            _merge(client, index.name)
    for table in _tables(connection):
        yield f"vacuuming {table}"
        _vacuum(connection, table)


def _until(holds: Any, failure: Exception) -> None:
    deadline = time.monotonic() + _PATIENCE
    while not holds():
        if time.monotonic() > deadline:
            raise failure
        time.sleep(_PAUSE)


def _merge(client: Elasticsearch, name: str) -> None:
    with translate_errors():
        client.indices.put_settings(index=name, settings={"index.merge.policy.expunge_deletes_allowed": 0})

    def gone() -> bool:
        if not _deleted(client, name):
            return True
        with translate_errors():
            client.indices.flush(index=name, force=True, wait_if_ongoing=True)
            client.options(request_timeout=_PATIENCE).indices.forcemerge(index=name, only_expunge_deletes=True)
            client.indices.refresh(index=name)
        return not _deleted(client, name)

    _until(gone, IndexUnavailable(f"index {name} keeps deleted documents: try again later"))


def _deleted(client: Elasticsearch, name: str) -> int:
    with translate_errors():
        answer = client.indices.stats(index=name, metric="docs", filter_path="_all.total.docs.deleted")
    return int(answer.body["_all"]["total"]["docs"]["deleted"])


def _tables(connection: Connection) -> list[str]:
    with connection.cursor() as cursor:
        cursor.execute("SELECT relid::regclass::text FROM pg_partition_tree('event') WHERE isleaf ORDER BY 1")
        return [*(name for (name,) in cursor), "erasure"]


def _vacuum(connection: Connection, table: str) -> None:
    def clean() -> bool:
        with connection.cursor() as cursor:
            cursor.execute(sql.SQL("VACUUM {}").format(sql.Identifier(table)))
        return not _dead_rows(connection, table)

    _until(clean, LogError(f"table {table} keeps dead rows: a long transaction may still see them"))


def _dead_rows(connection: Connection, table: str) -> int:
    if table != "erasure" and citus.find_distribution(connection):
        return citus.count_dead_rows(connection, table)
    with connection.cursor() as cursor:
        # The statistics show the deletions of other sessions only a moment later.
        cursor.execute("SELECT pg_stat_force_next_flush(), pg_stat_clear_snapshot()")
        cursor.execute("SELECT n_dead_tup FROM pg_stat_user_tables WHERE relid = %s::regclass", (table,))
        rows = cursor.fetchall()
    return int(rows[0][0]) if rows else 0


def inspect(connection: Connection, client: Elasticsearch | None) -> Remains:
    """Find the traces of erased events in both stores.

    Raises:
        IndexUnavailable: Elasticsearch is away.
    """
    names = [index.name for index in index_months.list_indexes(connection).values()] if client else []
    deleted = {name: count for name in names if client and (count := _deleted(client, name))}
    dead = {table: count for table in _tables(connection) if (count := _dead_rows(connection, table))}
    events, gone = _split_ids(connection)
    documents = sum(_count_documents(client, names, gone[i : i + _IDS]) for i in range(0, len(gone), _IDS))
    running = len(erasures.list_running(connection))
    return Remains(running, erased.count_erased(connection), len(events), documents, deleted, dead)


def _split_ids(connection: Connection) -> tuple[list[str], list[str]]:
    """Give the erased ids that are in the log, and the erased ids that are not."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT id::text FROM erased_id")
        ids = [name for (name,) in cursor]
        there: set[str] = set()
        for i in range(0, len(ids), _IDS):
            cursor.execute("SELECT id::text FROM event WHERE id = ANY (%s::uuid[])", (ids[i : i + _IDS],))
            there |= {name for (name,) in cursor}
    return [name for name in ids if name in there], [name for name in ids if name not in there]


def _count_documents(client: Elasticsearch | None, names: list[str], ids: list[str]) -> int:
    if client is None or not names:
        return 0
    with translate_errors():
        answer = client.count(index=",".join(names), query={"terms": {"id": ids}})
    return int(answer["count"])
