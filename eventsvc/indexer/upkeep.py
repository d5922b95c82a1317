"""What has to be done now and then, whether there is an index or not: months made ahead, old keys forgotten."""

from __future__ import annotations

import threading

import structlog

from eventsvc.errors import EventsvcError
from eventsvc.log import connection as log_connection
from eventsvc.log import months, schema
from eventsvc.log.write import idempotency
from eventsvc.settings import Settings

_EVERY = 3600.0  # seconds
_AFTER_FAILURE = 15.0

_logger = structlog.get_logger()


def keep_up(settings: Settings, stop: threading.Event) -> None:
    """Do it once an hour until told to stop; several processes may."""
    while not stop.is_set():
        try:
            do_once(settings)
            stop.wait(_EVERY)
        except EventsvcError as exc:
            _logger.warning("upkeep failed, will be tried again", error=str(exc))
            stop.wait(_AFTER_FAILURE)


def do_once(settings: Settings) -> None:
    """Do all of it now.

    Raises:
        LogError: PostgreSQL is away, or did not let us.
    """
    connection = log_connection.connect(settings.database_url.get_secret_value(), application_name="eventsvc upkeep")
    try:
        with log_connection.translate_errors():
            schema.check(connection)
            if made := months.ensure_months_ahead(connection):
                _logger.info("months made", months=[f"{month:%Y-%m}" for month in made])
            if count := months.count_default(connection):
                _logger.error("events in the default partition: run `eventsvc admin doctor --fix`", events=count)
            idempotency.prune(connection)
    finally:
        connection.close()
