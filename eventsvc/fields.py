"""The one table of fields.

It feeds the parser's checks, the three evaluators, the index mapping, OpenAPI, the README and their tests.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Kind(StrEnum):
    """The type of a field, which decides the operators and values that make sense."""

    UUID = "uuid"
    TEXT = "text"
    TIME = "time"
    JSON = "json"
    ANY = "any"


@dataclass(frozen=True, slots=True)
class Field:
    """One field of an event.

    Attributes:
        name: the name in queries and in JSON.
        column: the column of PostgreSQL, or an expression over columns.
        exact: the index field that holds the value itself, for ``eq``, ``in`` and ranges. For a path in data, ``ct``
            and ``sw`` use this field too.
        folded: the index field for ``ct`` and ``sw``: folded text for a short field, trigrams of characters for the
            message and for all of data; "" if the field has neither operator.
        operators: the operators that a query may use with the field.
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
"""``any`` stands for every text of an event. It is not a field, so it is not in FIELDS."""

SUBJECTS: dict[str, Field] = {**FIELDS, ANY.name: ANY}
"""What a comparison may begin with."""

TEXTS = tuple(name for name, field in FIELDS.items() if field.kind is Kind.TEXT)
"""The fields that ``any`` looks into, beside data."""

SHORT = tuple(name for name in TEXTS if name != "message")
"""The short texts: keys and requests can give defaults for them, and the index counts their values."""

SENT = (*TEXTS, "data", "occurredAt")
"""The fields that a client sends."""
