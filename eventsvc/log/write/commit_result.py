"""Interpret the end of a COMMIT. An unclear end is never taken for a success."""

from __future__ import annotations

from collections.abc import Sequence

import psycopg2

from eventsvc.errors import CommitUnknown, LogError


def commit_error(exc: psycopg2.Error, *, broken: bool) -> LogError:
    """Translate an error during COMMIT. Only an answer of the server tells whether the events are stored."""
    # On Citus the coordinator may lose a worker during the COMMIT: a connection's failure, or a server's shutdown.
    if exc.pgcode and not broken and not exc.pgcode.startswith(("08", "57P")):
        return LogError(f"PostgreSQL refused the COMMIT (SQLSTATE {exc.pgcode}); nothing was stored")
    return CommitUnknown("the connection to PostgreSQL broke during the COMMIT")


def check_committed(status: str | None, notices: Sequence[str] = ()) -> None:
    """Make sure that the server answered COMMIT with COMMIT. A server answers ROLLBACK if the transaction has failed.

    Args:
        status: the server's answer.
        notices: the server's notices. A COMMIT that waits for a synchronous standby and runs into statement_timeout
            succeeds, with a warning that only this server has the transaction: a failover would lose it.

    Raises:
        LogError: the server rolled the transaction back.
        CommitUnknown: the server has committed, but a failover may lose the transaction.
    """
    check_confirmed(notices)
    if status != "COMMIT":
        raise LogError("PostgreSQL rolled the transaction back; nothing was stored")


def check_confirmed(notices: Sequence[str]) -> None:
    """Make sure that the server did not warn about the transaction it committed; see ``check_committed``.

    Raises:
        CommitUnknown: a failover may lose the transaction.
    """
    if notices:
        raise CommitUnknown("PostgreSQL committed, but a standby or a worker has not confirmed that it has the events")
