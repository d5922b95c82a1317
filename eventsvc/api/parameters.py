"""Read the query parameters that several resources share.

Each function raises InvalidParameter if a value is impossible.
"""

from __future__ import annotations

import difflib
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING

from eventsvc.api.access import compile_text
from eventsvc.errors import InvalidParameter
from eventsvc.fields import FIELDS
from eventsvc.query.times import zone

if TYPE_CHECKING:
    from falcon.asgi import Request

    from eventsvc.search.search import Compiled

_LONGEST_SEQ = 18  # digits
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
    """Parse and compile q; none, or nothing but blanks, matches every event that the key may see.

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
    """Read one of some words; the first is the default."""
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
