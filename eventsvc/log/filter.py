"""A condition on events, in SQL. Queries of clients compile to it, and the log adds conditions of its own."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

_MOST_TESTS = 32  # substrings and paths in data that a query may test before it counts as heavy


@dataclass(frozen=True, slots=True)
class Filter:
    """A boolean expression over the columns of table event, with %s placeholders.

    Attributes:
        routing: values by column that every matching event has. On Citus, they tell which worker stores these events.
    """

    text: str = "true"
    parameters: tuple[Any, ...] = ()
    routing: dict[str, str] = field(default_factory=dict)

    @property
    def is_heavy(self) -> bool:
        """Whether a test of one event takes so much time that other searches must not wait behind this one."""
        return self.text.count("event_fold(") + self.text.count("jsonb_path_query(") > _MOST_TESTS

    def __and__(self, other: Filter) -> Filter:
        return Filter(
            f"({self.text}) AND ({other.text})", self.parameters + other.parameters, self.routing | other.routing
        )

    def __invert__(self) -> Filter:
        return Filter(f"NOT ({self.text})", self.parameters)
