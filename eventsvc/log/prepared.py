"""Statements that PostgreSQL plans once for each connection.

To plan a statement on the partitions of ``event`` takes PostgreSQL longer than to read a page of rows.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import count
from typing import Any
from weakref import WeakKeyDictionary

from psycopg2 import sql

from eventsvc.log.citus import IS_DISTRIBUTED
from eventsvc.log.connection import Connection, fetch

_names: WeakKeyDictionary[Connection, dict[str, str]] = WeakKeyDictionary()
_numbers = count()

# Citus must know the values when it plans which workers it asks.
_SET_MODE = f"""
SELECT set_config(
    'plan_cache_mode', CASE WHEN {IS_DISTRIBUTED} THEN 'force_custom_plan' ELSE 'force_generic_plan' END, false
)
"""


@dataclass(frozen=True, slots=True)
class Prepared:
    """A statement with ``%s`` placeholders, whose text is the same for all values.

    PostgreSQL makes one plan for all values (``plan_cache_mode``), so every value must suit the same plan. Only Citus
    makes a plan for each execution.
    """

    statement: sql.Composable

    def fetch(self, connection: Connection, parameters: Any = ()) -> list[tuple[Any, ...]]:
        """Execute the statement and give its rows. The first call on a connection prepares the statement."""
        names = _names.setdefault(connection, {})
        text = self.statement.as_string(connection)
        if (name := names.get(text)) is None:
            name = _prepare(connection, text)
            names[text] = name
        values = f"({', '.join(['%s'] * len(parameters))})" if parameters else ""
        return fetch(connection, f"EXECUTE {name}{values}", parameters or None)


def _prepare(connection: Connection, text: str) -> str:
    name = f"prepared_{next(_numbers)}"
    first, *others = text.split("%s")
    numbered = first + "".join(f"${number}{part}" for number, part in enumerate(others, 1))
    with connection.cursor() as cursor:
        cursor.execute(_SET_MODE)
        cursor.execute(f"PREPARE {name} AS {numbered}")
    return name
