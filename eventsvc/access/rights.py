"""What a key allows: rights, the events that count for it, what its events get by default, and how many requests."""

from __future__ import annotations

import re
import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum

from eventsvc.errors import InvalidParameter
from eventsvc.query import ast
from eventsvc.query.parse import parse
from eventsvc.query.to_predicate import Predicate, to_predicate

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


_UNITS = {"m": timedelta(minutes=1), "h": timedelta(hours=1), "d": timedelta(days=1), "w": timedelta(weeks=1)}


def read_age(name: str, text: str) -> timedelta:
    """Read ``30m``, ``12h``, ``90d`` or ``2w``, the value of an option or parameter of this name.

    Raises:
        InvalidParameter: it is none of these.
    """
    match = re.fullmatch(r"([0-9]{1,5})([mhdw])", text)
    if match is None:
        raise InvalidParameter(name, f"{text!r} is not an age such as 90d, 12h or 30m")
    return int(match[1]) * _UNITS[match[2]]


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


_DAY = 86_400_000  # ms
_NOT_AUDIT = ast.negation(ast.Equal(ast.Name("component"), ast.Text(AUDIT_COMPONENT)))


class Restriction:
    """What a key may see: ``where``, and for most keys nothing of the audit; prepared once where no time is in it."""

    def __init__(self, where: str, rights: Collection[str]) -> None:
        """Read ``where``.

        Raises:
            QueryError: it cannot be understood.
        """
        self._where, self.hides_audit = where, Right.AUDIT not in rights
        now = round(time.time() * 1000)
        self._moves = bool(where) and parse(where, now=now) != parse(where, now=now + _DAY)
        self._node, self._test = self._make_node(now), self._make_test(now)

    def node(self, now: int) -> ast.Node | None:
        """Give the tree at a moment in ms; None for everything."""
        return self._make_node(now) if self._moves else self._node

    def test(self, now: int) -> Predicate | None:
        """Give a test for ``where`` alone; None for everything."""
        return self._make_test(now) if self._moves else self._test

    def _make_node(self, now: int) -> ast.Node | None:
        parts = [parse(self._where, now=now)] if self._where else []
        parts += [_NOT_AUDIT] if self.hides_audit else []
        return ast.conjunction(parts) if parts else None

    def _make_test(self, now: int) -> Predicate | None:
        return to_predicate(parse(self._where, now=now)) if self._where else None


@dataclass(frozen=True, slots=True)
class Grant:
    """What one key allows.

    Attributes:
        id: the readable beginning of the key; "" for somebody without a key.
        name: the same for a key and what replaces it.
        digest: SHA-256 of the key.
        where: a query; only events that match it exist for this key. "" for all.
        defaults: the values of fields that an event was sent without.
    """

    id: str
    name: str
    digest: bytes
    rights: frozenset[Right]
    where: str
    defaults: Mapping[str, str]
    rate: Rate | None
    restriction: Restriction

    def allows(self, right: Right) -> bool:
        """Tell whether this right is among those of the key."""
        return right in self.rights or (right is Right.METRICS and Right.ADMIN in self.rights)

    @property
    def touches_events(self) -> bool:
        """Whether an event that is sent with this key may be changed, or refused."""
        return bool(self.where or self.defaults) or self.restriction.hides_audit

    @property
    def scope(self) -> str:
        """Name the part of the log that this key sees; equal scopes see the same."""
        return f"{self.where}\0{self.restriction.hides_audit}"


# What everybody may do where no key is needed.
EVERYTHING = Grant("", "", b"", frozenset(Right), "", {}, None, Restriction("", frozenset(Right)))
