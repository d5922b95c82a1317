"""The log on several servers: Citus stores each event on the worker that the hash of one column selects.

The coordinator holds the sequence, the watermark and all small tables, so there is still one seq and one horizon.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from psycopg2 import sql

from eventsvc.errors import SetupError, WorkerUnavailable
from eventsvc.log.connection import Connection, fetch, transaction

By = Literal["component", "email", "id"]

IS_DISTRIBUTED = "EXISTS (SELECT FROM distribution)"

# Every writer takes this lock before it draws a seq or reads the clock: see log/progress/horizon.py. Citus would take
# the lock on every worker too, so a worker that is away would stop the writers of all others. Without Citus, the SET
# changes nothing.
LOCK = """
SET LOCAL citus.enable_ddl_propagation TO off;
LOCK TABLE event IN ROW EXCLUSIVE MODE
"""
# Citus commits a transaction that changes one shard on the worker first, and then on the coordinator. If the
# coordinator dies in between, what the transaction has written there (an Idempotency-Key, an erasure) is lost, while
# the worker's part is not. This statement stores nothing, but makes Citus commit in two phases, as after every COPY.
TWO_PHASES = """
INSERT INTO event (id, email, environment, component, message, data)
SELECT gen_random_uuid(), '', '', '', '', 'null' FROM generate_series(1, 0)
"""
# A worker that was lost during a COMMIT keeps its part prepared until Citus commits it, within a minute of its return.
IS_PREPARED = """
SELECT EXISTS (SELECT FROM run_command_on_workers(
    'SELECT count(*) FROM pg_prepared_xacts WHERE database = current_database()'
) WHERE NOT success OR result <> '0')
"""
FIND_WORKERS = """
SELECT number, nodename || ':' || nodeport
FROM (SELECT number, CASE by_column WHEN 'email' THEN email ELSE component END AS value
      FROM distribution, unnest(%s::text[], %s::text[]) WITH ORDINALITY AS sent (email, component, number)
      WHERE by_column <> 'id' OFFSET 0) AS sent
JOIN pg_dist_shard_placement ON shardid = get_shard_id_for_distribution_column('event', value)
ORDER BY number
"""

# Citus commits a transaction on one worker by a plain COMMIT, and a transaction on several workers in two phases. If
# the coordinator loses a worker in between, the coordinator's lock is gone while the worker's part is not committed
# yet. That part, prepared or not, still holds the same lock on the worker.
_WRITERS_ON_WORKERS = r"""
    SELECT coalesce(json_agg(DISTINCT virtualtransaction), '[]') FROM pg_locks JOIN pg_class ON pg_class.oid = relation
    WHERE locktype = 'relation' AND mode = 'RowExclusiveLock' AND granted
      AND relname ~ '^event_([0-9]+_|default_)*[0-9]+$'
      AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
"""


def list_writers_on_workers(connection: Connection) -> frozenset[str]:
    """List the transactions that write events on any worker.

    Raises:
        WorkerUnavailable: a worker does not answer, so its transactions are unknown.
    """
    rows = fetch(
        connection,
        "SELECT nodename, nodeport, success, result FROM run_command_on_workers(%s)",
        (_WRITERS_ON_WORKERS,),
    )
    for host, port, success, result in rows:
        if not success:
            said = (str(result).splitlines() or ["no answer"])[0]
            raise WorkerUnavailable(f"a worker of the log does not answer: {host}:{port}: {said}")
    return frozenset(f"{host}:{port} {name}" for host, port, _, result in rows for name in json.loads(result))


@dataclass(frozen=True, slots=True)
class Distribution:
    """How events are distributed over workers."""

    by: By
    shards: int


def find_distribution(connection: Connection) -> Distribution | None:
    """Read the distribution of the log; None if the log is on one server."""
    return next((Distribution(*row) for row in fetch(connection, "SELECT by_column, shards FROM distribution")), None)


@dataclass(frozen=True, slots=True)
class Worker:
    """A worker, as the coordinator sees it.

    Attributes:
        name: "host:port".
        forgotten: the number of prepared transactions that have waited longer than two minutes for their COMMIT; None
            if the worker does not answer.
    """

    name: str
    forgotten: int | None


_FORGOTTEN = """
SELECT nodename || ':' || nodeport, CASE WHEN success THEN result::integer END
FROM run_command_on_workers($$
    SELECT count(*) FROM pg_prepared_xacts
    WHERE database = current_database() AND prepared < now() - interval '2 minutes'
$$) ORDER BY 1
"""


def list_workers(connection: Connection) -> list[Worker]:
    """List the workers; empty if the log is on one server."""
    if find_distribution(connection) is None:
        return []
    return [Worker(*row) for row in fetch(connection, _FORGOTTEN)]


def measure(connection: Connection, partition: str) -> int:
    """Give the bytes of a partition of the log with its indexes, on all servers."""
    function = "pg_total_relation_size" if find_distribution(connection) is None else "citus_total_relation_size"
    ((size,),) = fetch(connection, f"SELECT {function}(%s::regclass)", (partition,))
    return int(size)


# The shard's name takes the place of %s.
_DEAD_ROWS = """
SELECT coalesce(sum(result::bigint), 0) FROM run_command_on_shards({}, $$
    SELECT coalesce(sum(n_dead_tup), 0) FROM pg_stat_user_tables WHERE relid = '%s'::regclass
$$)
"""


def count_dead_rows(connection: Connection, partition: str) -> int:
    """Count the rows of a distributed partition that VACUUM has not removed."""
    ((count,),) = fetch(connection, sql.SQL(_DEAD_ROWS).format(sql.Literal(partition)))
    return int(count)


def distribute(connection: Connection, wanted: Distribution) -> Iterator[str]:
    """Distribute the log over the workers; yield a line for each step.

    Writers and readers wait while events are copied. Each step is atomic, so the next run finishes a killed run.

    Raises:
        SetupError: there is no Citus or no worker, or the log has another distribution already.
    """
    _check_cluster(connection)
    found = find_distribution(connection)
    if found is not None and found != wanted:
        raise SetupError(f"the log is spread by {found.by} over {found.shards} shards already")
    yield f"functions on every worker: {_spread_functions(connection)}"
    if found is None:
        _spread_events(connection, wanted)
        yield f"events by {wanted.by} over {wanted.shards} shards"
    with connection.cursor() as cursor:
        # Remove the copy on the coordinator, which is no longer read.
        cursor.execute("SELECT truncate_local_data_after_distributing_table('event')")
    yield "the coordinator's own copy removed"


def _check_cluster(connection: Connection) -> None:
    if not fetch(connection, "SELECT 1 FROM pg_extension WHERE extname = 'citus'"):
        raise SetupError("this database has no Citus: CREATE EXTENSION citus, on every server")
    if not fetch(connection, "SELECT 1 FROM citus_get_active_worker_nodes()"):
        raise SetupError("the coordinator knows no worker: SELECT citus_add_node(host, port)")


def _spread_functions(connection: Connection) -> int:
    """Create our SQL functions on the workers, which evaluate queries; return how many."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT create_distributed_function(oid::regprocedure::text::regprocedure) FROM pg_proc"
            r" WHERE pronamespace = 'public'::regnamespace AND proname LIKE 'event\_%'"
        )
        return int(cursor.rowcount)


def _spread_events(connection: Connection, wanted: Distribution) -> None:
    with transaction(connection) as cursor:
        cursor.execute("LOCK TABLE event IN ACCESS EXCLUSIVE MODE")
        cursor.execute("INSERT INTO distribution (by_column, shards) VALUES (%s, %s)", (wanted.by, wanted.shards))
        if wanted.by != "id":
            # Citus enforces a key only within a shard, so the column must be part of the key.
            key = sql.SQL("ALTER TABLE event DROP CONSTRAINT event_pkey, ADD PRIMARY KEY (id, created_at, {})")
            cursor.execute(key.format(sql.Identifier(wanted.by)))
        cursor.execute(
            "SELECT create_distributed_table('event', %s, shard_count => %s, colocate_with => 'none')",
            (wanted.by, wanted.shards),
        )
