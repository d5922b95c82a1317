"""The schema: apply the numbered migrations, each once, and check the server."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from importlib import resources

from eventsvc.errors import SchemaError
from eventsvc.log.connection import IDLE_IN_TRANSACTION, Connection, connect, fetch, transaction, translate_errors
from eventsvc.log.months import ensure_months_ahead

_MINIMUM_SERVER = 180_000  # casefold, with Unicode 16

# The number of an advisory lock, the same in all processes.
_MIGRATION_LOCK = 0x6576656E74


def migrate(connection: Connection) -> list[str]:
    """Apply missing migrations, make the months ahead, and return the names of the applied migrations.

    Each migration is one transaction. Several processes may do this at the same time.

    Raises:
        SchemaError: the server is too old, or its encoding or its sequence does not fit.
    """
    _check_server(connection)
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_lock(%s)", (_MIGRATION_LOCK,))
    try:
        applied = _apply_missing(connection)
        _check_sequence(connection)
        ensure_months_ahead(connection)
    finally:
        if not connection.closed:
            with connection.cursor() as cursor:
                cursor.execute("SELECT pg_advisory_unlock(%s)", (_MIGRATION_LOCK,))
    return applied


def check(connection: Connection) -> None:
    """Check that the schema has all migrations of this version.

    Raises:
        SchemaError: a migration is missing, or the server does not fit.
    """
    _check_server(connection)
    missing = sorted(set(_files()) - _applied(connection))
    if missing:
        raise SchemaError(f"the database lacks migration {missing[0]}: run `eventsvc admin migrate`")
    _check_sequence(connection)


@contextmanager
def session(
    dsn: str, *, application_name: str, complete: bool = True, idle_in_transaction: float = IDLE_IN_TRANSACTION
) -> Iterator[Connection]:
    """Open a connection to a log, and close the connection at the end of the block.

    Args:
        dsn: a libpq connection string or URI.
        application_name: see ``connect``.
        complete: check first that the schema is complete.
        idle_in_transaction: see ``connect``.

    Raises:
        SchemaError: a migration is missing, or the server does not fit.
        LogError: PostgreSQL is away, or has refused a statement of the block.
    """
    connection = connect(dsn, application_name=application_name, idle_in_transaction=idle_in_transaction)
    with closing(connection), translate_errors():
        if complete:
            check(connection)
        yield connection


def _files() -> dict[str, str]:
    """Map a migration's name to its SQL."""
    folder = resources.files("eventsvc.log") / "migrations"
    return {
        entry.name.removesuffix(".sql"): entry.read_text(encoding="utf-8")
        for entry in folder.iterdir()
        if entry.name.endswith(".sql")
    }


def _applied(connection: Connection) -> set[str]:
    ((there,),) = fetch(connection, "SELECT to_regclass('schema_migration') IS NOT NULL")
    return {name for (name,) in fetch(connection, "SELECT name FROM schema_migration")} if there else set()


def _apply_missing(connection: Connection) -> list[str]:
    with connection.cursor() as cursor:
        cursor.execute(
            "CREATE TABLE IF NOT EXISTS schema_migration"
            " (name text PRIMARY KEY, applied_at timestamptz NOT NULL DEFAULT now())"
        )
    files = _files()
    missing = sorted(set(files) - _applied(connection))
    for name in missing:
        with transaction(connection) as cursor:
            cursor.execute(files[name])
            cursor.execute("INSERT INTO schema_migration (name) VALUES (%s)", (name,))
    return missing


def _check_server(connection: Connection) -> None:
    if connection.server_version < _MINIMUM_SERVER:
        raise SchemaError(
            f"PostgreSQL {connection.server_version // 10_000} is too old: {_MINIMUM_SERVER // 10_000} is the oldest"
        )
    if connection.info.parameter_status("server_encoding") != "UTF8":
        raise SchemaError("the database's encoding must be UTF8: create it with ENCODING 'UTF8' TEMPLATE template0")


def _check_sequence(connection: Connection) -> None:
    """Check that seqs are drawn one by one, because the horizon relies on the sequence's last value."""
    ((cache,),) = fetch(
        connection, "SELECT seqcache FROM pg_sequence WHERE seqrelid = pg_get_serial_sequence('event', 'seq')::regclass"
    )
    if cache != 1:
        raise SchemaError(f"the sequence of event.seq has CACHE {cache}: run ALTER SEQUENCE event_seq_seq CACHE 1")
