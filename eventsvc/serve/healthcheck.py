"""``python -m eventsvc.serve.healthcheck [index]``: exit 0 when the process of this container does its work, else 1.

Container engines run it every few seconds, so it imports next to nothing: 40 ms instead of 400.
"""

from __future__ import annotations

import http.client
import os
import sys
from pathlib import Path

_PATIENCE = 3.5  # seconds

# Leading or standing by, an indexer asks PostgreSQL something several times a second; in the longest wait, for an
# Elasticsearch that is away, twice a minute.
_INDEXER_TURNS = (
    "SELECT count(*) > 0 FROM pg_stat_activity WHERE application_name = 'eventsvc index'"
    " AND client_addr IS NOT DISTINCT FROM inet_client_addr() AND query_start > now() - interval '60 seconds'"
)


def api_is_ready(port: int) -> bool:
    """Whether GET /readyz answers 200: events can be stored."""
    connection = _connect(port)
    try:
        connection.request("GET", "/readyz")
        return connection.getresponse().status == http.HTTPStatus.OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def _connect(port: int) -> http.client.HTTPConnection:
    if not os.environ.get("EVENTSVC_TLS_CERT"):
        return http.client.HTTPConnection("127.0.0.1", port, timeout=_PATIENCE)
    import ssl

    # The certificate names the service, not this address; nothing secret is sent, and it is our own process.
    context = ssl._create_unverified_context()  # noqa: S323, SLF001
    return http.client.HTTPSConnection("127.0.0.1", port, timeout=_PATIENCE, context=context)


def indexer_turns(dsn: str) -> bool:
    """Whether an indexer at our address has a session at the log and has just used it."""
    import psycopg2

    try:
        connection = psycopg2.connect(dsn, connect_timeout=3, application_name="eventsvc healthcheck")
    except psycopg2.Error:
        return False
    try:
        with connection.cursor() as cursor:
            cursor.execute(_INDEXER_TURNS)
            return bool(cursor.fetchall()[0][0])
    except psycopg2.Error:
        return False
    finally:
        connection.close()


def _database_url() -> str:
    """As settings.py reads it, which takes ten times as long to import as all of this takes to run."""
    if path := os.environ.get("EVENTSVC_DATABASE_URL_FILE"):
        return Path(path).read_text(encoding="utf-8").rstrip("\r\n")
    return os.environ.get("EVENTSVC_DATABASE_URL", "postgresql://localhost/eventsvc")


def main(arguments: list[str]) -> bool:
    """Look after the API, or with ``index`` after the indexer."""
    if arguments == ["index"]:
        return indexer_turns(_database_url())
    return api_is_ready(int(os.environ.get("EVENTSVC_PORT", "8000")))


if __name__ == "__main__":
    sys.exit(0 if main(sys.argv[1:]) else 1)
