"""The table ``retention_rule``: which events are removed at which age."""

from __future__ import annotations

from dataclasses import dataclass

from eventsvc.log.connection import Connection, fetch


@dataclass(frozen=True, slots=True)
class Rule:
    """A rule that removes matching events once they are older than so many seconds.

    Attributes:
        query: the canonical query; "" matches every event.
    """

    query: str
    seconds: int


def list_rules(connection: Connection) -> list[Rule]:
    """List the rules by their query."""
    return [Rule(*row) for row in fetch(connection, "SELECT query, seconds FROM retention_rule ORDER BY query")]


def put_rule(connection: Connection, rule: Rule) -> None:
    """Make a rule, or change the age in the rule with this query."""
    with connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO retention_rule (query, seconds) VALUES (%s, %s)"
            " ON CONFLICT (query) DO UPDATE SET seconds = excluded.seconds",
            (rule.query, rule.seconds),
        )


def remove_rule(connection: Connection, query: str) -> bool:
    """Remove a rule; tell whether there was one."""
    with connection.cursor() as cursor:
        cursor.execute("DELETE FROM retention_rule WHERE query = %s", (query,))
        return bool(cursor.rowcount)
