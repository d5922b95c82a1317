"""Complete a query in the shell: offer the fields, operators and values that may come next.

The service is asked for values and for paths in data. If the service does not answer within a second, the shell offers
none of these.
"""

from __future__ import annotations

import io
import json
import re
from collections.abc import Iterable
from contextlib import closing, redirect_stderr
from dataclasses import dataclass
from typing import Any

import typer

from eventsvc.fields import ANY, FIELDS, SHORT, SUBJECTS, Kind
from eventsvc.terminal.service import Service, ServiceError, find_target

_PATIENCE = 1.0  # seconds
_EXAMINED = "2000"  # how many of the newest events are searched for paths in data
_MOST = "50"  # how many values are offered
_TIMES = ("now-15m", "now-1h", "now-1d", "now-7d")
# SECURITY: clients write the values, and a shell may execute parts of its command line, such as $(…).
_HARMLESS = re.compile(r"[\w .,:@/+=#%-]+")
_TOKEN = re.compile(
    r"""\s*(?:(?P<string>'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*")|[(),]|(?P<word>(?:[^\s()'",]|(?<=\.)'[^']*')+))""",
    re.DOTALL,
)


def query(ctx: typer.Context, incomplete: str) -> list[str]:
    """Offer the next word of a query. Each offer repeats the text before the word, because the shell replaces all."""
    place = _find_place(incomplete)
    return [place.head + one for one in _offers(ctx, place) if one.startswith(place.begun)]


def fields(ctx: typer.Context, incomplete: str) -> list[str]:
    """Offer the next field of a list that commas separate."""
    return _next_name(ctx, incomplete, FIELDS)


def groups(ctx: typer.Context, incomplete: str) -> list[str]:
    """Offer the next field of a list of the fields that events are counted by."""
    return _next_name(ctx, incomplete, sorted(SHORT))


def _next_name(ctx: typer.Context, incomplete: str, names: Iterable[str]) -> list[str]:
    head, comma, begun = incomplete.rpartition(",")
    return [head + comma + one for one in [*names, *_paths(ctx, begun)] if one.startswith(begun)]


@dataclass(frozen=True, slots=True)
class _Place:
    """The place at the end of an unfinished query.

    Attributes:
        expects: the kind of word that may come next: a subject, an operator, a value, a comma, or a link (AND, OR).
        subject: the subject of the last comparison.
        head: the text before the unfinished word.
        begun: the unfinished word; "" for none.
    """

    expects: str
    subject: str
    head: str
    begun: str


def _find_place(text: str) -> _Place:
    expects, subject, listed, end = "subject", "", False, 0
    while (found := _TOKEN.match(text, end)) and not (found["word"] and found.end() == len(text)):
        end, part = found.end(), found[0].strip()
        if expects == "subject" and found["word"] and part != "NOT":
            subject = part
        if expects == "operator":
            listed = part == "in"
        expects = _after(expects, part, is_string=bool(found["string"]), listed=listed)
    begun = text[end:].lstrip()
    head = text[: len(text) - len(begun)]
    # The language needs no space between a string and the next word, but people write a space there.
    return _Place(expects, subject, f"{head} " if expects == "link" and head.endswith(("'", '"')) else head, begun)


def _after(expects: str, part: str, *, is_string: bool, listed: bool) -> str:
    """Tell which kind of word may come after a part of a query."""
    if expects == "subject":
        return "subject" if part in {"NOT", "("} else "link" if is_string else "operator"
    if expects == "operator":
        return "link" if part == "exists" else "value"
    if expects == "value" and part in {"(", ","}:
        return "value"
    if expects in {"value", "comma"}:
        return "value" if part == "," else "comma" if listed and part != ")" else "link"
    return "subject" if part in {"AND", "OR"} else "link"


def _offers(ctx: typer.Context, place: _Place) -> Iterable[str]:
    field = SUBJECTS.get(re.split(r"[.\[]", place.subject)[0])
    if place.expects == "subject":
        return [*SUBJECTS, "NOT", *_paths(ctx, place.begun)]
    if place.expects == "operator":
        return sorted(field.operators) if field else ()
    if place.expects == "comma":
        return (",", ")")
    if place.expects == "link":
        return ("AND", "OR")
    if field is None or field is ANY:
        return ()
    return _TIMES if field.kind is Kind.TIME else _values(ctx, place)


def _paths(ctx: typer.Context, begun: str) -> list[str]:
    """List the paths in data, if the unfinished word begins with ``data``."""
    if not begun.startswith("data"):
        return []
    return [one["path"] for one in _ask(ctx, "/event/fields", {"newest": _EXAMINED}) if _is_harmless(one["path"])]


def _values(ctx: typer.Context, place: _Place) -> list[str]:
    """List the most frequent values of a field that begin with the unfinished word."""
    quote = place.begun[:1] if place.begun[:1] in {"'", '"'} else "'"
    parameters = {"by": place.subject, "top": _MOST}
    if (typed := place.begun[1:]) and _is_harmless(typed):
        parameters["q"] = f"{place.subject} sw '{typed}'"
    values = [one["value"] for one in _ask(ctx, "/event/stats", parameters, "top")]
    return [
        f"{quote}{value}{quote}" if isinstance(value, str) else json.dumps(value)
        for value in values
        if _is_harmless(str(value))
    ]


def _is_harmless(text: str) -> bool:
    return _HARMLESS.fullmatch(text) is not None


def _ask(ctx: typer.Context, path: str, parameters: dict[str, str], member: str = "") -> list[Any]:
    """Ask the service that the command line names. Give an empty list if the service is away, is slow, or refuses."""
    given = ctx.params
    try:
        with redirect_stderr(io.StringIO()):
            target = find_target(given.get("url"), given.get("key"), given.get("data"))
        with closing(Service(target, patience=_PATIENCE)) as service:
            answer = service.get(path, parameters)
    except (ServiceError, ValueError):
        return []
    found: list[Any] = answer.get(member, []) if member else answer
    return found
