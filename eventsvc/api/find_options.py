"""Read the parameters of a request for events, and write Link headers and entity tags."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urlencode

from eventsvc.api.access import visible_part
from eventsvc.api.cursor import read_cursor, read_order, write_cursor
from eventsvc.api.parameters import choice, plain_parameters, read_fields, read_query, whole_number, yes_or_no
from eventsvc.errors import InvalidParameter
from eventsvc.paging import PageRequest

if TYPE_CHECKING:
    from falcon.asgi import Request

    from eventsvc.log.read.state import LogState
    from eventsvc.paging import Position
    from eventsvc.search.search import Compiled

LIMIT, MOST = 100, 1000

_LONGEST_IN_URL = 1_000  # characters


@dataclass(frozen=True, slots=True)
class FindOptions:
    """A request for events, read from its parameters.

    Attributes:
        given: the parameters as sent, with q. A cursor is bound to them.
        visible_part: the part of the log that the key sees. A cursor is bound to it, too.
        now: the time in ms that "now" in q means. Later pages keep the time of the first page.
        fields: the fields of the answer, in this order; None for all fields.
        strong: whether the answer includes every event that was acknowledged before the request.
        trailer: whether a stream ends with a line that holds the count.
        root: the prefix of a proxy before the service.
        download: the form of the file as which a browser saves the answer, or "true"; "" for no file.
    """

    given: Mapping[str, str]
    visible_part: str
    query: Compiled
    request: PageRequest
    now: int
    fields: tuple[str, ...] | None
    strong: bool
    trailer: bool
    download: str
    root: str

    def next_cursor(self, last: Position, state: LogState | None) -> str:
        """Give the cursor of the page after this position."""
        return write_cursor((self.now, state.epoch if state is not None else 0, *last), self.given, self.visible_part)

    def etag(self, state: LogState, *marks: str) -> str:
        """Give the entity tag of an answer about a state in which no event was under way."""
        asked = (self.query.text, self.visible_part, self.request, self.fields, marks)
        content = (asked, state.drawn, state.epoch, state.layout)
        return f'"{hashlib.blake2b(repr(content).encode(), digest_size=15).hexdigest()}"'


PARAMETERS = (
    "q", "tz", "asOf", "limit", "order", "orderBy", "cursor", "fields", "count", "consistency", "trailer", "download",
)  # fmt: skip


async def read_find_options(req: Request, body: str | None = None) -> FindOptions:
    """Check all parameters of a read.

    Args:
        req: the request.
        body: the query of a QUERY request, which is its body.

    Raises:
        InvalidParameter: a parameter is unknown, is repeated, or has an impossible value.
        QueryError: q cannot be understood.
    """
    given = plain_parameters(req, PARAMETERS)
    if body is not None:
        if "q" in given:
            raise InvalidParameter("q", "the query is the body already; leave out the parameter")
        given = {**given, "q": body}
    newest_first = choice(given, "order", ("desc", "asc")) == "desc"
    seen = visible_part(req)
    cursor = read_cursor(given, seen)
    now = cursor[0] if cursor else round(time.time() * 1000)
    return FindOptions(
        given=given,
        visible_part=seen,
        query=await read_query(req, given, now),
        request=PageRequest(
            limit=whole_number(given, "limit", LIMIT, 1, MOST),
            after=cursor[1] if cursor else None,
            newest_first=newest_first,
            count=yes_or_no(given, "count"),
            time=read_order(given),
        ),
        now=now,
        fields=read_fields(given),
        strong=choice(given, "consistency", ("strong", "eventual")) == "strong",
        trailer=yes_or_no(given, "trailer"),
        download=choice(given, "download", ("", "true", "false", "json", "ndjson", "csv")).replace("false", ""),
        root=req.scope.get("root_path", ""),
    )


def links(req: Request, next_cursor: str | None) -> str:
    """Give the value of the Link header: the first page, and the next if there is one."""
    given = {name: str(value) for name, value in req.params.items() if name != "cursor"}
    found = [link(req.path, given, "first")]
    if next_cursor is not None:
        found.append(link(req.path, {**given, "cursor": next_cursor}, "next"))
    return ", ".join(found)


def help_link(req: Request, given: Mapping[str, str]) -> str:
    """Link an empty page to the explanation of its query, if the query names paths in data; "" if it names none."""
    query = given.get("q", "")
    if "data." not in query or "cursor" in given or len(query) > _LONGEST_IN_URL:
        return ""
    asked = {name: given[name] for name in ("q", "tz") if name in given}
    return link(f"{req.path.rpartition('/event')[0]}/query", {**asked, "paths": "true"}, "help")


def link(path: str, parameters: Mapping[str, str], relation: str) -> str:
    """Give one link of a Link header."""
    target = f"{path}?{urlencode(parameters)}" if parameters else path
    return f'<{target}>; rel="{relation}"'
