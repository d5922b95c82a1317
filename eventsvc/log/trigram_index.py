"""Optional trigram indexes (pg_trgm), which make ``ct`` and ``sw`` fast in a service without Elasticsearch.

An operator switches these indexes on and off; nothing else depends on them. They index exactly the expression that
queries compile to, so the planner uses them for needles of three characters and more.
"""

from __future__ import annotations

from psycopg2 import sql

from eventsvc.log.connection import LOCK_TIMEOUT, Connection, fetch, patiently, transaction
from eventsvc.log.months import list_months, partition_name

COLUMNS = ("message", "email")  # the other columns have few distinct values, where trigrams gain nothing

_ON_PARENT = "CREATE INDEX IF NOT EXISTS {index} ON ONLY event USING gin (event_fold({column}) gin_trgm_ops)"
_ON_MONTH = "CREATE INDEX CONCURRENTLY IF NOT EXISTS {index} ON {month} USING gin (event_fold({column}) gin_trgm_ops)"
_VALID = "SELECT indisvalid FROM pg_index WHERE indexrelid = to_regclass(%s)"
_COVERED = (
    "SELECT 1 FROM pg_inherits JOIN pg_index ON indexrelid = inhrelid"
    " WHERE inhparent = to_regclass(%s) AND indrelid = to_regclass(%s)"
)


def enabled(connection: Connection) -> bool:
    """Tell whether all months have trigram indexes. New months then get theirs by themselves."""
    return all(_is_valid(connection, _parent_name(column)) for column in COLUMNS)


def enable(connection: Connection) -> list[str]:
    """Build the missing indexes, month by month, and return the names of the indexes made.

    Writers continue meanwhile. An interrupted run can be repeated. PostgreSQL builds the indexes of a later month when
    the month is attached to the table.

    Args:
        connection: in autocommit mode; ``statement_timeout`` must leave time for an index.

    Raises:
        LogError: the event table stayed locked for a minute.
    """
    with connection.cursor() as cursor:
        cursor.execute("CREATE EXTENSION IF NOT EXISTS pg_trgm")
    made = []
    for column in COLUMNS:
        _execute_patiently(connection, sql.SQL(_ON_PARENT).format(**_names(_parent_name(column), column)))
        for month in [*map(partition_name, list_months(connection)), "event_default"]:
            made += _cover(connection, column, month)
    return made


def disable(connection: Connection) -> None:
    """Remove the indexes of all months.

    Raises:
        LogError: the event table stayed locked for a minute.
    """
    for column in COLUMNS:
        drop = sql.SQL("DROP INDEX IF EXISTS {}").format(sql.Identifier(_parent_name(column)))
        _execute_patiently(connection, drop)


def _parent_name(column: str) -> str:
    return f"event_{column}_trigrams"


def _names(index: str, column: str, month: str = "event") -> dict[str, sql.Identifier]:
    return {"index": sql.Identifier(index), "column": sql.Identifier(column), "month": sql.Identifier(month)}


def _cover(connection: Connection, column: str, month: str) -> list[str]:
    """Build and attach one month's index, unless it has one."""
    parent, index = _parent_name(column), f"{month}_{column}_trigrams"
    if fetch(connection, _COVERED, (parent, month)):
        return []
    with connection.cursor() as cursor:
        if not _is_valid(connection, index):
            # An interrupted CREATE INDEX CONCURRENTLY leaves an invalid index behind.
            cursor.execute(sql.SQL("DROP INDEX CONCURRENTLY IF EXISTS {}").format(sql.Identifier(index)))
        cursor.execute(sql.SQL(_ON_MONTH).format(**_names(index, column, month)))
    attach = sql.SQL("ALTER INDEX {} ATTACH PARTITION {}")
    _execute_patiently(connection, attach.format(sql.Identifier(parent), sql.Identifier(index)))
    return [index]


def _is_valid(connection: Connection, index: str) -> bool:
    return fetch(connection, _VALID, (index,)) == [(True,)]


def _execute_patiently(connection: Connection, statement: sql.Composed) -> None:
    """Run DDL that locks the event table."""

    def execute() -> None:
        with transaction(connection, lock_timeout=LOCK_TIMEOUT) as cursor:
            cursor.execute(statement)

    patiently(execute, "the event table stayed locked by others for a minute; try again")
