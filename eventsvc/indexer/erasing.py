"""Continue large erasures, and apply the retention rules once an hour."""

from __future__ import annotations

import threading
import time
from functools import partial
from itertools import chain

import structlog

from eventsvc.erasure import retention
from eventsvc.erasure.erase import run_all
from eventsvc.errors import EventsvcError
from eventsvc.index import client as index_client
from eventsvc.index import indexes
from eventsvc.log import connection as log_connection
from eventsvc.log import schema
from eventsvc.settings import Settings

_LOOK_EVERY = 1.0  # seconds
_RULES_EVERY = 3600.0
_AFTER_FAILURE = 15.0

_logger = structlog.get_logger()


def erase(settings: Settings, stop: threading.Event) -> None:
    """Work until told to stop. Several processes may do this at the same time."""
    applied_at = float("-inf")
    while not stop.is_set():
        due = time.monotonic() - applied_at >= _RULES_EVERY
        try:
            _erase_once(settings, stop, rules=due)
            applied_at = time.monotonic() if due else applied_at
            stop.wait(_LOOK_EVERY)
        except EventsvcError as exc:
            _logger.warning("erasing was interrupted, and goes on later", error=str(exc))
            stop.wait(_AFTER_FAILURE)


def _erase_once(settings: Settings, stop: threading.Event, *, rules: bool) -> None:
    connection = log_connection.connect(settings.database_url.get_secret_value(), application_name="eventsvc erasing")
    try:
        with log_connection.translate_errors():
            schema.check(connection)
            by_rules = retention.apply(connection, partial(_delete_index, settings)) if rules else ()
            for _ in chain(run_all(connection), by_rules):
                if stop.is_set():
                    return
    finally:
        connection.close()


def _delete_index(settings: Settings, name: str) -> None:
    if settings.elasticsearch_url:
        with index_client.connect(settings) as client:
            indexes.delete(client, name)
