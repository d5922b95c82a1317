"""The stores that admin commands work on: a session of PostgreSQL and a client of Elasticsearch."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager, nullcontext
from dataclasses import dataclass, field

from elasticsearch import Elasticsearch

from eventsvc.errors import LogError, SetupError
from eventsvc.index import client as index_client
from eventsvc.log import schema
from eventsvc.log.connection import Connection, connect
from eventsvc.settings import Settings

# The number of an advisory lock, the same in all admin commands that change indexes.
_CHANGE_LOCK = 0x61646D696E

# A rebuild's swap waits for Elasticsearch inside its transaction.
_IDLE_IN_TRANSACTION = 60.0  # seconds
_NAME = "eventsvc admin"


@dataclass(frozen=True, slots=True)
class Stores:
    """Both stores of one service.

    Attributes:
        stop: set this event to make a running operation stop at the next safe point.
    """

    settings: Settings
    connection: Connection
    elasticsearch: Elasticsearch | None
    stop: threading.Event = field(default_factory=threading.Event)

    @property
    def client(self) -> Elasticsearch:
        """The client of Elasticsearch.

        Raises:
            SetupError: no Elasticsearch is configured.
        """
        if self.elasticsearch is None:
            raise SetupError("there is no index: EVENTSVC_ELASTICSEARCH_URL is not set")
        return self.elasticsearch

    def connect(self) -> Connection:
        """Open one more session of PostgreSQL; the caller closes it."""
        dsn = self.settings.database_url.get_secret_value()
        return connect(dsn, application_name=_NAME, idle_in_transaction=_IDLE_IN_TRANSACTION)

    @contextmanager
    def exclusive(self) -> Iterator[None]:
        """Let no other admin command change the indexes meanwhile. A killed command holds no lock.

        Raises:
            LogError: another admin command is changing the indexes.
        """
        with self.connection.cursor() as cursor:
            cursor.execute("SELECT pg_try_advisory_lock(%s)", (_CHANGE_LOCK,))
            if not cursor.fetchall()[0][0]:
                raise LogError("another admin command is changing the indexes: wait until it has finished")
            try:
                yield
            finally:
                if not self.connection.closed:
                    cursor.execute("SELECT pg_advisory_unlock(%s)", (_CHANGE_LOCK,))


@contextmanager
def open_stores(settings: Settings) -> Iterator[Stores]:
    """Connect to both stores.

    Raises:
        LogUnavailable: PostgreSQL is away.
        SchemaError: a migration is missing.
    """
    dsn = settings.database_url.get_secret_value()
    with (
        schema.session(dsn, application_name=_NAME, idle_in_transaction=_IDLE_IN_TRANSACTION) as connection,
        closing(index_client.connect(settings)) if settings.elasticsearch_url else nullcontext() as client,
    ):
        yield Stores(settings, connection, client)
