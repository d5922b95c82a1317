"""The grant of a key: its rights, the events that it may see, defaults for the events that it sends, and its rate."""

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

AUDIT_COMPONENT = "eventsvc.audit"  # the component of the events that record who did what


class Right(StrEnum):
    """Something that a key may do."""

    WRITE = "write"
    READ = "read"
    ERASE = "erase"
    ADMIN = "admin"  # includes metrics
    METRICS = "metrics"
    AUDIT = "audit"  # see the audit's events, where reading is allowed


@dataclass(frozen=True, slots=True)
class Rate:
    """A limit: so many requests in so many seconds."""

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
    """Read a rate such as ``100/s``, ``60/m`` or ``1000/h``; "" means no limit.

    Raises:
        InvalidParameter: the text is not a rate.
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
    """The events that a key may see: those that match ``where``, for most keys without the events of the audit.

    The tree is computed once, unless ``where`` depends on the time.
    """

    def __init__(self, where: str, rights: Collection[str]) -> None:
        """Parse ``where``.

        Raises:
            QueryError: ``where`` is not a valid query.
        """
        self._where, self.hides_audit = where, Right.AUDIT not in rights
        now = round(time.time() * 1000)
        self._moves = bool(where) and parse(where, now=now) != parse(where, now=now + _DAY)
        self._node, self._test = self._make_node(now), self._make_test(now)

    def node(self, now: int) -> ast.Node | None:
        """Give the tree of the restriction at a time in ms; None if the key may see everything."""
        return self._make_node(now) if self._moves else self._node

    def test(self, now: int) -> Predicate | None:
        """Give a test for ``where`` alone at a time in ms; None if ``where`` is empty."""
        return self._make_test(now) if self._moves else self._test

    def _make_node(self, now: int) -> ast.Node | None:
        parts = [parse(self._where, now=now)] if self._where else []
        parts += [_NOT_AUDIT] if self.hides_audit else []
        return ast.conjunction(parts) if parts else None

    def _make_test(self, now: int) -> Predicate | None:
        return to_predicate(parse(self._where, now=now)) if self._where else None


@dataclass(frozen=True, slots=True)
class Grant:
    """Everything that one key allows.

    Attributes:
        id: the readable beginning of the key; "" for a client without a key.
        name: the name of the key. A rotated key keeps its name.
        digest: the SHA-256 of the key.
        where: a query. For this key, only events that match it exist; "" matches all events.
        defaults: the values of fields for events that are sent without them.
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
        """Tell whether the key has a right; the right admin includes metrics."""
        return right in self.rights or (right is Right.METRICS and Right.ADMIN in self.rights)

    @property
    def touches_events(self) -> bool:
        """Whether events that are sent with this key may be changed or refused."""
        return bool(self.where or self.defaults) or self.restriction.hides_audit

    @property
    def visible_part(self) -> str:
        """A name of the part of the log that this key sees. Keys with equal names see the same events."""
        return f"{self.where}\0{self.restriction.hides_audit}"


# The grant of everybody if the service needs no key.
EVERYTHING = Grant("", "", b"", frozenset(Right), "", {}, None, Restriction("", frozenset(Right)))
