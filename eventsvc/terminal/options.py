"""The options that all commands for people share."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from enum import StrEnum
from typing import Annotated

import typer

from eventsvc.terminal.service import Service, ServiceError, find_target

NOTHING_FOUND, SERVICE, INTERRUPTED = 1, 3, 130  # exit codes; 2 is wrong usage

Url = Annotated[
    str | None,
    typer.Option(
        help="The service.", metavar="URL", show_default="EVENTSVC_URL, the development server's, or port 8000"
    ),
]
Key = Annotated[str | None, typer.Option(help="An API key.", metavar="KEY", show_default="EVENTSVC_KEY")]
Data = Annotated[
    str | None,
    typer.Option(
        "--server-data", help="Data folder of the development server to use.", show_default="EVENTSVC_DATA, .eventsvc"
    ),
]
Tz = Annotated[str, typer.Option(help="Time zone of dates without a time in the query.")]


class Time(StrEnum):
    """The times that an event has."""

    CREATED = "createdAt"
    OCCURRED = "occurredAt"


@contextmanager
def service(url: str | None, key: str | None, data: str | None = None) -> Iterator[Service]:
    """Talk to the service; its errors end the command with exit code 3 and its own words."""
    try:
        with closing(Service(find_target(url, key, data))) as opened:
            yield opened
    except ServiceError as exc:
        print(f"eventsvc: {exc}", file=sys.stderr)
        raise typer.Exit(SERVICE) from exc
    except BrokenPipeError as exc:
        # Whoever read our output has gone; Python must not complain when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise typer.Exit(0) from exc
    except KeyboardInterrupt as exc:
        raise typer.Exit(INTERRUPTED) from exc


def restrict(query: str, since: str | None, time: str = "createdAt") -> str:
    """AND "not older than" to a query, such as 15m, 1h or 7d, or a date; ``time`` is the field that must not be."""
    if since is None:
        return query
    moment = f"now-{since}" if since[:1].isdigit() and since[-1:].isalpha() else since
    recent = f"{time} gte '{moment}'"
    return f"({query}) AND {recent}" if query.strip() else recent
