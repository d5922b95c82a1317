"""The indexer: horizon → batch → _bulk → refresh → watermark.

One process leads, because it holds an advisory lock. The others help the leader when it is far behind (sharing.py), and
one of them takes over when the leader's session ends. Any error ends the leader's term. The next term, in any process,
reads the checkpoint and continues from there. Writing a document twice does no harm, so nothing needs to be undone.
"""

from __future__ import annotations

import os
import signal
import sys
import threading

import psycopg2
import structlog
from elasticsearch import Elasticsearch
from prometheus_client import start_http_server

from eventsvc.errors import EventsvcError, Fenced, IndexUnavailable, SetupError
from eventsvc.index import bulk
from eventsvc.index import client as index_client
from eventsvc.index.bulk import IndexVanished, backoff
from eventsvc.indexer.leader import Term
from eventsvc.indexer.sharing import SILENCE, Helper
from eventsvc.indexer.upkeep import continue_erasures, keep_up
from eventsvc.log import connection as log_connection
from eventsvc.log import schema
from eventsvc.log.connection import Connection
from eventsvc.log.progress import shares, watermark
from eventsvc.settings import Settings

_logger = structlog.get_logger()

_LAST_MOMENTS = 3.0  # seconds to finish when told to stop
_STAND_BY = 0.5  # seconds between tries to take the lock
_HEARTBEAT = 1.0  # seconds between a leader's statements, at most


class Indexer:
    """Stands by and leads. Recovers by itself when a server was away."""

    def __init__(self, settings: Settings, stop: threading.Event) -> None:
        self._settings, self._stop = settings, stop
        self._failures = 0

    def run(self) -> None:
        """Work until ``stop`` is set."""
        while not self._stop.is_set():
            try:
                self._run_session()
            except EventsvcError as exc:
                self._failures += 1
                _logger.warning("interrupted", error=str(exc))
                self._stop.wait(backoff(self._failures))

    def _run_session(self) -> None:
        """Run one session of PostgreSQL, which holds the leader's lock as long as the session lasts."""
        dsn = self._settings.database_url.get_secret_value()
        connection = log_connection.connect(dsn, application_name=shares.INDEXER)
        client = index_client.connect(self._settings)
        over = threading.Event()
        try:
            with log_connection.translate_errors():
                schema.check(connection)
                _notice_dead_peers(connection)
                self._stand_by(connection, client)
                if not self._stop.is_set():
                    _logger.info("leading")
                threading.Thread(target=_beat, args=(connection, over), name="heartbeat", daemon=True).start()
                while not self._stop.is_set():
                    self._run_term(connection, client)
        finally:
            over.set()
            client.close()
            connection.close()

    def _stand_by(self, connection: Connection, client: Elasticsearch) -> None:
        helper = Helper(self._settings, connection, client)
        try:
            while not self._stop.is_set() and not watermark.try_lead(connection):
                watermark.depose_hung_leader(connection, SILENCE)
                helper.work(_STAND_BY, self._stop)
        finally:
            helper.close()

    def _run_term(self, connection: Connection, client: Elasticsearch) -> None:
        term = Term(self._settings, connection, client, self._stop)
        try:
            term.begin()
            self._lead(term)
        except Fenced as exc:
            _logger.info("term ended", reason=str(exc))
        except bulk.Stopped:
            return
        except IndexUnavailable as exc:
            self._failures += 1
            _logger.warning("the index is away", error=str(exc))
            self._stop.wait(backoff(self._failures))
        finally:
            term.close()

    def _lead(self, term: Term) -> None:
        try:
            while not self._stop.is_set():
                term.step()
                if term.moved:
                    self._failures = 0
        except IndexVanished as exc:
            term.lose(exc.name)


def _serve_metrics(settings: Settings) -> None:
    try:
        start_http_server(settings.index_metrics_port, addr=settings.host)
    except OSError as exc:
        where = f"{settings.host} port {settings.index_metrics_port}"
        raise SetupError(f"metrics cannot be served on {where}: {exc.strerror or exc}") from exc


def _notice_dead_peers(connection: Connection) -> None:
    """Make PostgreSQL notice within 5 s that our machine is gone, so that the next indexer gets the lock."""
    with connection.cursor() as cursor:
        for setting, value in (("idle", 2), ("interval", 1), ("count", 3)):
            cursor.execute(f"SET tcp_keepalives_{setting} = {value}")


def _beat(connection: Connection, over: threading.Event) -> None:
    """Send PostgreSQL a statement every second, even while the leader waits for Elasticsearch."""
    while not over.wait(_HEARTBEAT):
        try:
            with connection.cursor() as cursor:
                cursor.execute("SELECT")
        except psycopg2.Error:
            if connection.closed:
                return


def run(settings: Settings) -> None:
    """Index until SIGTERM or SIGINT. Without Elasticsearch, only do the upkeep of the log.

    Raises:
        SetupError: the metrics cannot be served, or a thread ended by a fault of its own.
    """
    stop = threading.Event()
    signals = (signal.SIGTERM, signal.SIGINT)
    previous = {number: signal.signal(number, lambda *_: stop.set()) for number in signals}
    work = [
        threading.Thread(target=target, args=(settings, stop), name=target.__name__, daemon=True)
        for target in (keep_up, continue_erasures)
    ]
    if settings.elasticsearch_url:
        work.append(threading.Thread(target=Indexer(settings, stop).run, name="indexer", daemon=True))
    else:
        _logger.info("no Elasticsearch is configured: searches are answered by PostgreSQL")
    if settings.index_metrics_port:
        _serve_metrics(settings)
    for thread in work:
        thread.start()
    while not stop.is_set() and all(thread.is_alive() for thread in work):
        stop.wait(1.0)
    failed = not stop.is_set()
    stop.set()
    for thread in work:
        thread.join(_LAST_MOMENTS)
    for number, handler in previous.items():
        signal.signal(number, handler)
    if failed:
        raise SetupError("the indexer stopped by a fault of its own: see the log above")
    if any(thread.name.startswith(("bulk", "errand")) for thread in threading.enumerate()):
        # Python would wait for a request under way. This is not needed: the next term writes the same documents again.
        sys.stderr.flush()
        os._exit(0)
