"""Upkeep of the log, in two threads of the indexer.

``keep_up`` makes months ahead, deletes old idempotency keys, and ends the sessions of frozen writers.
``continue_erasures`` continues large erasures, and applies the retention rules once an hour. Several processes may do
this at the same time.
"""

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
from eventsvc.log import months, schema
from eventsvc.log.connection import Connection
from eventsvc.log.progress.horizon import FrozenCopies
from eventsvc.log.write import idempotency
from eventsvc.settings import Settings

_EVERY = 3600.0  # seconds between rounds of the hourly work
_AFTER_FAILURE = 15.0  # seconds
_LOOK_EVERY = 10.0  # seconds; a COPY that makes no progress for so long is frozen
_CONTINUE_EVERY = 1.0  # seconds between looks for unfinished erasures

_logger = structlog.get_logger()


def keep_up(settings: Settings, stop: threading.Event, *, look_every: float = _LOOK_EVERY) -> None:
    """Make months, delete keys and end frozen sessions until told to stop."""
    while not stop.is_set():
        try:
            _keep_up(settings, stop, look_every)
        except EventsvcError as exc:
            _logger.warning("upkeep failed, will be tried again", error=str(exc))
            stop.wait(_AFTER_FAILURE)


def _keep_up(settings: Settings, stop: threading.Event, look_every: float) -> None:
    """Work in one session of PostgreSQL until told to stop."""
    due = time.monotonic()
    with schema.session(settings.database_url.get_secret_value(), application_name="eventsvc upkeep") as connection:
        copies = FrozenCopies(connection)
        while not stop.is_set():
            if time.monotonic() >= due:
                do_once(connection)
                due = time.monotonic() + _EVERY
            if ended := copies.end():
                _logger.warning("ended the sessions of processes that froze within a COPY", processes=ended)
            stop.wait(look_every)


def do_once(connection: Connection) -> None:
    """Make months ahead, and delete old idempotency keys.

    Raises:
        LogError: the log stayed locked, so a month was not made.
    """
    if made := months.ensure_months_ahead(connection):
        _logger.info("months made", months=[f"{month:%Y-%m}" for month in made])
    if count := months.count_default(connection):
        _logger.error("events in the default partition: run `eventsvc admin doctor --fix`", events=count)
    idempotency.prune(connection)


def continue_erasures(settings: Settings, stop: threading.Event) -> None:
    """Continue erasures, and apply the retention rules, until told to stop."""
    applied_at = float("-inf")
    while not stop.is_set():
        due = time.monotonic() - applied_at >= _EVERY
        try:
            _erase_once(settings, stop, rules=due)
            applied_at = time.monotonic() if due else applied_at
            stop.wait(_CONTINUE_EVERY)
        except EventsvcError as exc:
            _logger.warning("erasing was interrupted, and goes on later", error=str(exc))
            stop.wait(_AFTER_FAILURE)


def _erase_once(settings: Settings, stop: threading.Event, *, rules: bool) -> None:
    with schema.session(settings.database_url.get_secret_value(), application_name="eventsvc erasing") as connection:
        by_rules = retention.apply(connection, partial(_delete_index, settings)) if rules else ()
        for _ in chain(run_all(connection), by_rules):
            if stop.is_set():
                return


def _delete_index(settings: Settings, name: str) -> None:
    if settings.elasticsearch_url:
        with index_client.connect(settings) as client:
            indexes.delete(client, name)
