"""The options that the commands for people share."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from enum import StrEnum
from typing import Annotated

import typer

from eventsvc.terminal.service import Service, ServiceError, find_target

NOTHING_FOUND, SERVICE, INTERRUPTED = 1, 3, 130  # exit codes; typer uses 2 for wrong usage

Url = Annotated[
    str | None,
    typer.Option(
        help="Address of the service.",
        metavar="URL",
        show_default="EVENTSVC_URL, the development server's, or port 8000",
    ),
]
Key = Annotated[str | None, typer.Option(help="An API key.", metavar="KEY", show_default="EVENTSVC_KEY")]
Data = Annotated[
    str | None,
    typer.Option(
        "--server-data",
        help="Data folder of a development server, which is used.",
        show_default="EVENTSVC_DATA, .eventsvc",
    ),
]
Tz = Annotated[str, typer.Option(help="Time zone of dates without a time in the query.")]


class Time(StrEnum):
    """The two times of an event."""

    CREATED = "createdAt"
    OCCURRED = "occurredAt"


@contextmanager
def service(url: str | None, key: str | None, data: str | None = None) -> Iterator[Service]:
    """Connect to the service. An error of the service ends the command with exit code 3 and the text of the error."""
    try:
        with closing(Service(find_target(url, key, data))) as opened:
            yield opened
    except ServiceError as exc:
        print(f"eventsvc: {exc}", file=sys.stderr)
        raise typer.Exit(SERVICE) from exc
    except BrokenPipeError as exc:
        # The reader of our output is gone. The next line keeps Python from failing when it flushes stdout at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise typer.Exit(0) from exc
    except KeyboardInterrupt as exc:
        raise typer.Exit(INTERRUPTED) from exc


def restrict(query: str, since: str | None, time: str = "createdAt") -> str:
    """Restrict a query to events that are not older than an age, such as 15m, 1h or 7d, or than a date."""
    if since is None:
        return query
    moment = f"now-{since}" if since[:1].isdigit() and since[-1:].isalpha() else since
    recent = f"{time} gte '{moment}'"
    return f"({query}) AND {recent}" if query.strip() else recent
