"""What a key allows: rights, the events that count for it, what its events get by default, and how many requests."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from eventsvc.errors import InvalidParameter
from eventsvc.query import ast
from eventsvc.query.parse import parse

AUDIT_COMPONENT = "eventsvc.audit"  # the service's own notes on who did what
DEFAULTS = ("email", "environment", "component")  # what a key can fill in


class Right(StrEnum):
    """One thing that a key may do."""

    WRITE = "write"
    READ = "read"
    ERASE = "erase"
    ADMIN = "admin"  # includes metrics
    METRICS = "metrics"
    AUDIT = "audit"  # see the audit's events, where reading is allowed


@dataclass(frozen=True, slots=True)
class Rate:
    """So many requests in so many seconds."""

    requests: int
    seconds: int


_SECONDS = {"s": 1, "m": 60, "h": 3600}


def read_rate(text: str) -> Rate | None:
    """Read ``100/s``, ``60/m`` or ``1000/h``; "" is no limit.

    Raises:
        InvalidParameter: it is none of these.
    """
    if not text:
        return None
    match = re.fullmatch(r"([1-9][0-9]{0,8})/([smh])", text)
    if match is None:
        raise InvalidParameter("--rate", f"{text!r} is not a rate such as 100/s, 60/m or 1000/h")
    return Rate(int(match[1]), _SECONDS[match[2]])


@dataclass(frozen=True, slots=True)
class Grant:
    """What one key allows.

    Attributes:
        id: the readable beginning of the key; "" for somebody without a key.
        name: the same for a key and what replaces it.
        digest: SHA-256 of the key.
        where: a query; only events that match it exist for this key. "" for all.
        defaults: the values of fields that an event was sent without.
        restriction: the tree of ``where``, at a moment in ms; see ``restrict``.
    """

    id: str
    name: str
    digest: bytes
    rights: frozenset[Right]
    where: str = ""
    defaults: Mapping[str, str] = field(default_factory=dict)
    rate: Rate | None = None
    restriction: Callable[[int], ast.Node | None] = lambda _now: None

    def allows(self, right: Right) -> bool:
        """Tell whether this right is among those of the key."""
        return right in self.rights or (right is Right.METRICS and Right.ADMIN in self.rights)

    @property
    def touches_events(self) -> bool:
        """Whether an event that is sent with this key may be changed, or refused."""
        return bool(self.where or self.defaults) or Right.AUDIT not in self.rights

    @property
    def scope(self) -> str:
        """Name the part of the log that this key sees; equal scopes see the same."""
        return f"{self.where}\0{Right.AUDIT in self.rights}"


# What everybody may do where no key is needed.
EVERYTHING = Grant("", "", b"", frozenset(Right))


def restrict(where: str, rights: Iterable[Right]) -> Callable[[int], ast.Node | None]:
    """Prepare a key's restriction: ``where``, and for most keys nothing of the audit.

    Raises:
        QueryError: ``where`` cannot be understood.
    """
    parts = [] if Right.AUDIT in rights else [_NOT_AUDIT]
    if not where:
        node = ast.conjunction(parts) if parts else None
        return lambda _now: node
    now = round(time.time() * 1000)
    early, late = (ast.conjunction([parse(where, now=moment), *parts]) for moment in (now, now + _DAY))
    if early == late:
        return lambda _now: early
    return lambda moment: ast.conjunction([parse(where, now=moment), *parts])  # it speaks of "now"


_DAY = 86_400_000  # ms
_NOT_AUDIT = ast.negation(ast.Equal(ast.Name("component"), ast.Text(AUDIT_COMPONENT)))
