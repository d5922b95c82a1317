"""Read the query parameters that several resources share.

Each function raises InvalidParameter if a value is impossible.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING

from eventsvc.api.access import compile_text
from eventsvc.errors import InvalidParameter, QueryError
from eventsvc.fields import FIELDS, TEXTS
from eventsvc.query import ast
from eventsvc.query.parse import parse
from eventsvc.query.times import zone

if TYPE_CHECKING:
    from falcon.asgi import Request

    from eventsvc.search.search import Compiled

_LONGEST_SEQ = 18  # digits
# Names of fields and paths, separated by commas: email,data.level,data.'user id'
_NAMES = re.compile(r"""(?:[^,'"]|'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*")+""", re.DOTALL)
_WORDS = {
    **dict.fromkeys(("true", "1", "yes", "on"), True),
    **dict.fromkeys(("false", "0", "no", "off"), False),
}


def plain_parameters(req: Request, known: Collection[str]) -> dict[str, str]:
    """Give the query parameters. Each must be known, and be sent once."""
    given: dict[str, str] = {}
    for name, value in req.params.items():
        if name not in known:
            raise InvalidParameter(name, f"there is no such parameter{_nearest(name, known)}")
        if isinstance(value, list):
            raise InvalidParameter(name, "it is given more than once")
        given[name] = value
    return given


async def read_query(req: Request, given: Mapping[str, str], now: int) -> Compiled:
    """Parse and compile q. Without q, or with a blank q, the query matches every event that the key may see.

    With the parameter asOf, the query matches only events up to this seq.

    Raises:
        QueryError: q cannot be understood.
        QueriesQueued: too many long queries wait already.
    """
    tz = given.get("tz", "UTC")
    zone(tz)
    query = await compile_text(req, given.get("q", ""), now=now, tz=tz)
    return query.frozen(_read_seq(given)) if "asOf" in given else query


def _read_seq(given: Mapping[str, str]) -> int:
    """Read asOf."""
    text = given["asOf"]
    if not (text.isascii() and text.isdigit() and len(text) <= _LONGEST_SEQ):
        raise InvalidParameter("asOf", "it must be a seq: a whole number from 0")
    if given.get("consistency") == "eventual":
        raise InvalidParameter("asOf", "it needs consistency=strong: the index alone may lack events up to this seq")
    return int(text)


def _nearest(name: str, known: Collection[str]) -> str:
    """Suggest the nearest name, as the end of a sentence."""
    close = difflib.get_close_matches(name.lower(), known, n=1)
    return f"; did you mean {close[0]}?" if close else f"; there are {', '.join(known)}"


def whole_number(given: Mapping[str, str], name: str, default: int, least: int, most: int) -> int:
    """Read a whole number between two bounds."""
    text = given.get(name, str(default))
    if not (text.isascii() and text.isdigit() and len(text) < 10 and least <= int(text) <= most):  # noqa: PLR2004
        raise InvalidParameter(name, f"it must be a whole number from {least} to {most:,}")
    return int(text)


def choice(given: Mapping[str, str], name: str, options: tuple[str, ...]) -> str:
    """Read a parameter whose value is one of ``options``; the first option is the default."""
    value = given.get(name, options[0])
    if value not in options:
        raise InvalidParameter(name, f"it must be {' or '.join(option for option in options if option)}")
    return value


def yes_or_no(given: Mapping[str, str], name: str) -> bool:
    """Read true or false; false by default."""
    value = _WORDS.get(given.get(name, "false").strip().lower())
    if value is None:
        raise InvalidParameter(name, "it must be true or false")
    return value


def read_fields(given: Mapping[str, str]) -> tuple[str, ...] | None:
    """Read the names of fields, in the order given; None for all."""
    if "fields" not in given:
        return None
    names = tuple(dict.fromkeys(name.strip() for name in given["fields"].split(",")))
    for name in names:
        if name not in FIELDS:
            raise InvalidParameter("fields", f"there is no field {name!r}{_nearest(name, FIELDS)}")
    return names


def read_subjects(given: Mapping[str, str], parameter: str, *, most: int) -> dict[str, ast.Subject]:
    """Read the fields and paths that a parameter names, by their names.

    Raises:
        InvalidParameter: a name is neither a text field nor a path in data, or there are too many names.
    """
    names = [name.strip() for name in _NAMES.findall(given.get(parameter, ""))]
    found = {name: _read_subject(name, parameter) for name in names if name}
    if len(found) > most:
        raise InvalidParameter(parameter, f"at most {most} can be given")
    return found


def read_paths(given: Mapping[str, str], parameter: str, *, most: int) -> dict[str, ast.Path]:
    """Read the paths in data that a parameter names.

    Raises:
        InvalidParameter: a name is not a path in data, or there are too many names.
    """
    paths: dict[str, ast.Path] = {}
    for name, subject in read_subjects(given, parameter, most=most).items():
        if not isinstance(subject, ast.Path):
            raise InvalidParameter(parameter, f"{name} is text; numbers are in data, for example data.amount")
        paths[name] = subject
    return paths


def _read_subject(name: str, parameter: str) -> ast.Subject:
    try:
        node = parse(f"{name} exists", now=0)
    except QueryError as exc:
        raise InvalidParameter(parameter, f"{name!r}: {exc.reason}{exc.hint and f'; {exc.hint}'}") from exc
    if not isinstance(node, ast.Exists):
        raise InvalidParameter(parameter, f"{name!r} is not a field")
    subject = node.subject
    if isinstance(subject, ast.Path) and not subject.keys:
        raise InvalidParameter(parameter, "data needs a path, for example data.level")
    if isinstance(subject, ast.Name) and subject.name not in TEXTS:
        raise InvalidParameter(parameter, f"{name} is not among them; there are {', '.join(TEXTS)} and data.path")
    return subject
