"""Connections to PostgreSQL, a pool of them for threads, and the translation of psycopg2's errors into ours."""

from __future__ import annotations

import asyncio
import queue
import select
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, TypeVar

import psycopg2
import psycopg2.extensions
from psycopg2 import sql
from psycopg2.errors import LockNotAvailable

from eventsvc.errors import LogError, LogTimeout, LogUnavailable, WorkerUnavailable
from eventsvc.log.job import Job

Connection = psycopg2.extensions.connection
T = TypeVar("T")

# A network may swallow all packets. Keepalives notice this on an idle connection. When sent data is not acknowledged,
# only the user timeout notices; otherwise TCP tries for a quarter of an hour. The server gets the same values, so that
# it soon ends our session and releases our locks.
PATIENCE: dict[str, Any] = {
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 10_000,  # milliseconds
}
_SERVER_PATIENCE = (
    "-c tcp_keepalives_idle=10 -c tcp_keepalives_interval=5 -c tcp_keepalives_count=3 -c tcp_user_timeout=10000"
)

# If a process of ours hangs inside a transaction (stopped, swapped out, machine paused), the transaction keeps its
# locks, and the lock of a writer stops the horizon for everybody. PostgreSQL ends such a session after this time.
IDLE_IN_TRANSACTION = 10.0  # seconds

# On Citus, the coordinator waits as long for a connection to a worker (30 s by default). Without Citus, this changes
# nothing.
_CITUS_PATIENCE = "-c citus.node_connection_timeout=5000"  # milliseconds

# A server that hangs, or a coordinator that waits for a worker that hangs, does not keep its own statement_timeout.
_OVERTIME = 5.0  # seconds that a caller of a pool waits after its statement_timeout

LOCK_TIMEOUT = "2s"  # of changes of the event table; see ``patiently``

# SECURITY: PostgreSQL logs the whole text of a statement that fails, with the values of queries and events. Only a
# superuser or a role with GRANT SET ON PARAMETER may switch this off; for other roles it stays on.
KEEP_VALUES_OUT = (
    "SELECT set_config('log_min_error_statement', 'panic', false)"
    " WHERE has_parameter_privilege('log_min_error_statement', 'SET')"
)

# jsonb goes through as text: see Event.data.
psycopg2.extensions.register_type(psycopg2.extensions.new_type((3802,), "JSONB_TEXT", psycopg2.STRING))


def session_options(*, statement_timeout: float, idle_in_transaction: float = IDLE_IN_TRANSACTION) -> str:
    """Write libpq's ``options`` for a session; both times are in seconds, 0 for no limit."""
    return (
        f"-c timezone=UTC -c statement_timeout={round(statement_timeout * 1000)}"
        f" -c idle_in_transaction_session_timeout={round(idle_in_transaction * 1000)}"
        f" {_SERVER_PATIENCE} {_CITUS_PATIENCE}"
    )


def connect(
    dsn: str,
    *,
    statement_timeout: float = 0.0,
    idle_in_transaction: float = IDLE_IN_TRANSACTION,
    application_name: str = "eventsvc",
) -> Connection:
    """Open a connection in autocommit mode and UTC. It notices a dead server or network within 30 s.

    Args:
        dsn: a libpq connection string or URI.
        statement_timeout: seconds; 0 for none.
        idle_in_transaction: seconds that a transaction may wait for its next statement; 0 for no limit.
        application_name: the name in pg_stat_activity.

    Raises:
        LogUnavailable: the server does not answer or does not let us in.
    """
    with translate_errors():
        connection: Connection = psycopg2.connect(
            dsn,
            application_name=application_name,
            connect_timeout=5,
            **PATIENCE,
            options=session_options(statement_timeout=statement_timeout, idle_in_transaction=idle_in_transaction),
        )
        connection.autocommit = True
        with connection.cursor() as cursor:
            cursor.execute(KEEP_VALUES_OUT)
        return connection


@contextmanager
def translate_errors() -> Iterator[None]:
    """Translate psycopg2's errors into ours. An error in our own SQL passes unchanged.

    Raises:
        LogTimeout: a statement ran into its time limit.
        LogUnavailable: the server cannot be reached, or cannot serve this statement.
        LogError: the transaction must be repeated, or PostgreSQL has an internal problem.
    """
    try:
        yield
    except psycopg2.errors.QueryCanceled as exc:
        raise LogTimeout("PostgreSQL did not answer within the statement time limit") from exc
    # These two classes are OperationalErrors, so they come before the next clause.
    except (psycopg2.errors.SerializationFailure, psycopg2.errors.DeadlockDetected) as exc:
        raise LogError(f"PostgreSQL asks to try again: {first_line(exc)}") from exc
    # On Citus, a worker may be lost in the middle of a COPY.
    except psycopg2.InternalError as exc:
        raise LogError(f"PostgreSQL has an internal problem: {first_line(exc)}") from exc
    except (psycopg2.OperationalError, psycopg2.InterfaceError) as exc:
        if is_worker_lost(exc):
            raise WorkerUnavailable(f"a worker of the log does not answer: {first_line(exc)}") from exc
        # An error with a code is an answer of the server: its disk is full, it shuts down, or it ended this session.
        problem = "cannot serve this" if exc.pgcode else "cannot be reached"
        raise LogUnavailable(f"PostgreSQL {problem}: {first_line(exc)}") from exc


def is_worker_lost(exc: psycopg2.Error) -> bool:
    """Tell whether the server reports that it cannot reach another server: on Citus, the coordinator lost a worker.

    If our own connection breaks, the error has no SQLSTATE.
    """
    return bool(exc.pgcode) and str(exc.pgcode).startswith("08")


def first_line(exc: BaseException, otherwise: str = "") -> str:
    """Give the first line of an error's text; without a text, something else, or the name of the error's class."""
    return (str(exc).strip().splitlines() or [otherwise or type(exc).__name__])[0]


class Pool:
    """A fixed number of connections, opened when first needed, each used by one thread at a time.

    A broken connection is closed, and the next caller opens a new one, so the pool heals by itself.
    """

    def __init__(self, dsn: str, *, size: int, statement_timeout: float = 0.0) -> None:
        self.size = size
        self._dsn, self._statement_timeout = dsn, statement_timeout
        self._idle: queue.LifoQueue[Connection | None] = queue.LifoQueue()
        for _ in range(size):
            self._idle.put(None)
        self._threads = ThreadPoolExecutor(max_workers=size, thread_name_prefix="log")

    @contextmanager
    def connection(self) -> Iterator[Connection]:
        """Lend a connection in autocommit mode; ``with transaction(connection)`` starts a transaction.

        Raises:
            LogUnavailable: no connection can be opened, or the connection broke.
        """
        connection = self._idle.get()
        try:
            if connection is not None and _is_stale(connection):
                connection.close()
            if connection is None or connection.closed:
                connection = connect(self._dsn, statement_timeout=self._statement_timeout)
            with translate_errors():
                yield connection
        except BaseException:
            # After an error the state of this connection is unknown, so the next caller gets a fresh one.
            if connection is not None:
                connection.close()
            connection = None
            raise
        finally:
            self._idle.put(connection)

    async def run(self, work: Callable[[Connection], T]) -> T:
        """Run ``work(connection)`` in a thread of the pool. If the caller is cancelled, its statement is cancelled too.

        Raises:
            LogUnavailable: no connection can be opened, or the connection broke.
            LogTimeout: a statement ran into its time limit.
            LogError: PostgreSQL could not do the work.
        """
        job = Job(work)
        loop = asyncio.get_running_loop()
        if self._statement_timeout:
            job.watch(loop, self._statement_timeout + _OVERTIME)
        try:
            return await loop.run_in_executor(self._threads, self._do, job)
        except asyncio.CancelledError:
            await asyncio.to_thread(job.cancel)  # the server may not answer this either, so the watch goes on
            raise
        finally:
            job.stop_watching()

    def _do(self, job: Job[T]) -> T:
        try:
            with self.connection() as connection:
                return job.do(connection)
        except LogUnavailable as exc:
            if job.is_cut:
                raise LogTimeout("PostgreSQL did not answer within the statement time limit") from exc
            raise

    def close(self) -> None:
        """Wait for work under way and close every connection."""
        self._threads.shutdown(wait=True)
        while True:
            try:
                connection = self._idle.get_nowait()
            except queue.Empty:
                return
            if connection is not None:
                connection.close()


def _is_stale(connection: Connection) -> bool:
    """Tell whether the server has hung up: an idle connection then has something to read.

    Thanks to this check, which is one system call, no request fails after a restart of PostgreSQL.
    """
    return bool(connection.closed) or is_readable(connection)


def is_readable(connection: Connection) -> bool:
    """Tell whether bytes, or the end of the connection, wait to be read."""
    looking = select.poll()
    looking.register(connection.fileno(), select.POLLIN)
    return bool(looking.poll(0))


def fetch(connection: Connection, statement: str | sql.Composable, parameters: Any = None) -> list[tuple[Any, ...]]:
    """Execute a statement and give its rows."""
    with connection.cursor() as cursor:
        cursor.execute(statement, parameters)
        rows: list[tuple[Any, ...]] = cursor.fetchall()
        return rows


@contextmanager
def transaction(connection: Connection, *, lock_timeout: str = "") -> Iterator[Any]:
    """Run one transaction on an autocommit connection; yields a cursor.

    Args:
        connection: in autocommit mode.
        lock_timeout: how long a statement may wait for a lock, such as 2s; "" for no limit. See ``patiently``.
    """
    with connection.cursor() as cursor:
        cursor.execute("BEGIN")
        try:
            if lock_timeout:
                cursor.execute("SET LOCAL lock_timeout = %s", (lock_timeout,))
            yield cursor
        except BaseException:
            if not connection.closed:
                cursor.execute("ROLLBACK")
            raise
        cursor.execute("COMMIT")


def patiently(
    attempt: Callable[[], T],
    failure: str,
    *,
    attempts: int = 30,
    pause: float = 0.0,
    again: type[Exception] = LockNotAvailable,
) -> T:
    """Change a table that everybody uses, in a transaction with a short lock_timeout, which is tried again and again.

    While a session waits in PostgreSQL's lock queue, every later session waits behind it. So it never waits long.

    Args:
        attempt: the transaction.
        failure: the text of the error if the table stays locked.
        attempts: how often to try.
        pause: seconds between two attempts.
        again: a further error after which to try again.

    Raises:
        LogError: other sessions kept the table locked.
    """
    for _ in range(attempts):
        try:
            return attempt()
        except (LockNotAvailable, again):
            time.sleep(pause)
    raise LogError(failure)
