"""Upkeep of the log: make months ahead, delete old idempotency keys, and end the sessions of frozen writers."""

from __future__ import annotations

import threading
import time

import structlog

from eventsvc.errors import EventsvcError
from eventsvc.log import connection as log_connection
from eventsvc.log import months, schema
from eventsvc.log.connection import Connection
from eventsvc.log.progress.horizon import FrozenCopies
from eventsvc.log.write import idempotency
from eventsvc.settings import Settings

_EVERY = 3600.0  # seconds
_AFTER_FAILURE = 15.0
_LOOK_EVERY = 10.0  # seconds; a COPY that makes no progress for so long is frozen

_logger = structlog.get_logger()


def keep_up(settings: Settings, stop: threading.Event, *, look_every: float = _LOOK_EVERY) -> None:
    """Do the upkeep until told to stop. Several processes may do this at the same time."""
    while not stop.is_set():
        try:
            _keep_up(settings, stop, look_every)
        except EventsvcError as exc:
            _logger.warning("upkeep failed, will be tried again", error=str(exc))
            stop.wait(_AFTER_FAILURE)


def _keep_up(settings: Settings, stop: threading.Event, look_every: float) -> None:
    """Work in one session of PostgreSQL until told to stop."""
    due = time.monotonic()
    connection = log_connection.connect(settings.database_url.get_secret_value(), application_name="eventsvc upkeep")
    try:
        with log_connection.translate_errors():
            schema.check(connection)
            copies = FrozenCopies(connection)
            while not stop.is_set():
                if time.monotonic() >= due:
                    do_once(connection)
                    due = time.monotonic() + _EVERY
                if ended := copies.end():
                    _logger.warning("ended the sessions of processes that froze within a COPY", processes=ended)
                stop.wait(look_every)
    finally:
        connection.close()


def do_once(connection: Connection) -> None:
    """Do the hourly work.

    Raises:
        LogError: the log stayed locked, so a month was not made.
    """
    if made := months.ensure_months_ahead(connection):
        _logger.info("months made", months=[f"{month:%Y-%m}" for month in made])
    if count := months.count_default(connection):
        _logger.error("events in the default partition: run `eventsvc admin doctor --fix`", events=count)
    idempotency.prune(connection)
