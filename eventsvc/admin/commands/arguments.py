"""The options that several commands share, and the values of options: months, bounds and ages."""

from __future__ import annotations

import re
from collections.abc import Collection
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING, Annotated

import typer

from eventsvc.errors import InvalidParameter

if TYPE_CHECKING:
    from eventsvc.log.connection import Connection

DatabaseUrl = Annotated[
    str | None,
    typer.Option(help="Connection string of PostgreSQL.", show_default="EVENTSVC_DATABASE_URL", metavar="URL"),
]
ElasticsearchUrl = Annotated[
    str | None,
    typer.Option(help="URL of Elasticsearch.", show_default="EVENTSVC_ELASTICSEARCH_URL", metavar="URL"),
]
Json = Annotated[bool, typer.Option("--json", help="Write JSON, for scripts.")]


def chosen_months(wanted: Collection[str] | None, known: Collection[date]) -> list[date]:
    """Select the months that were named, or all months.

    Raises:
        InvalidParameter: a text is not a month, or the month is unknown.
    """
    if not wanted:
        return sorted(known)
    chosen = []
    for text in wanted:
        if not re.fullmatch(r"\d{4}-(0[1-9]|1[0-2])", text):
            raise InvalidParameter("--month", f"{text!r} is not a month such as 2026-11")
        month = date(int(text[:4]), int(text[5:]), 1)
        if month not in known:
            raise InvalidParameter("--month", f"nothing of {text} is indexed")
        chosen.append(month)
    return sorted(set(chosen))


def bound(connection: Connection, name: str, text: str, *, at_end: bool) -> int:
    """Read a bound of a range of seqs: a seq or a time; "" means no bound. See ``batches.seq_at`` for a time.

    Raises:
        InvalidParameter: the text is neither a seq nor a time.
    """
    from eventsvc.log.progress.horizon import BEYOND_ALL
    from eventsvc.log.read.batches import seq_at

    if not text:
        return BEYOND_ALL
    if text.isdigit():
        return int(text)
    return seq_at(connection, _time(name, text, usual="a seq"), at_end=at_end)


def cutoff(text: str) -> datetime:
    """Read an age, such as 90d, or a time; give the time."""
    from eventsvc.access.rights import read_age

    try:
        return datetime.now(UTC) - read_age("--older-than", text)
    except InvalidParameter:
        return _time("--older-than", text, usual="an age such as 90d, 12w or 36h")


def _time(name: str, text: str, *, usual: str) -> datetime:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        detail = f"{text!r} is neither {usual} nor a time such as 2026-11-01 or 2026-11-01T12:00:00Z"
        raise InvalidParameter(name, detail) from None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
