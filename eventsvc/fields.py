"""The one table of fields.

It feeds the parser's checks, the three evaluators, the index mapping, OpenAPI, the README and their tests.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Kind(StrEnum):
    """What a field holds; decides which operators and values make sense for it."""

    UUID = "uuid"
    TEXT = "text"
    TIME = "time"
    JSON = "json"
    ANY = "any"


@dataclass(frozen=True, slots=True)
class Field:
    """One field of an event.

    Attributes:
        name: as in queries and in JSON.
        column: in PostgreSQL; an expression over columns where it is computed.
        exact: the index field that holds the value itself (eq, in, ranges).
        folded: the index field that holds what ``ct`` and ``sw`` look at: folded text for short fields,
            triples of characters for the message and for all of data, typed terms for a path in data; "" where
            neither operator exists.
        operators: what a query may do with it.
    """

    name: str
    kind: Kind
    column: str
    exact: str
    folded: str
    operators: frozenset[str]


_EQUALITY = frozenset({"eq", "ne", "in", "exists"})
_ORDER = frozenset({"gt", "gte", "lt", "lte"})
_TEXT = _EQUALITY | {"ct", "sw"}

FIELDS: dict[str, Field] = {
    field.name: field
    for field in (
        Field("id", Kind.UUID, "id", "id", "", _EQUALITY),
        Field("email", Kind.TEXT, "email", "email", "terms.email", _TEXT),
        Field("environment", Kind.TEXT, "environment", "environment", "terms.environment", _TEXT),
        Field("component", Kind.TEXT, "component", "component", "terms.component", _TEXT),
        Field("message", Kind.TEXT, "message", "message.raw", "terms.message", _TEXT),
        Field("createdAt", Kind.TIME, "created_at", "createdAt", "", _EQUALITY | _ORDER),
        Field("occurredAt", Kind.TIME, "event_occurred(occurred_at, created_at)", "occurredAt", "", _EQUALITY | _ORDER),
        Field("data", Kind.JSON, "data", "terms.data", "terms.values", _TEXT | _ORDER),
    )
}

ANY = Field("any", Kind.ANY, "", "", "", _TEXT - {"exists"})
"""Every text of an event; no field of its own, so it stands apart."""

SUBJECTS: dict[str, Field] = {**FIELDS, ANY.name: ANY}
"""What a comparison may begin with."""

TEXTS = tuple(name for name, field in FIELDS.items() if field.kind is Kind.TEXT)
"""The fields that ``any`` looks into, beside data."""
