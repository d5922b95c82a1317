"""Check the process of this container: ``python -m eventsvc.serve.healthcheck [index]`` exits with 0 if it works.

Container engines run this every few seconds, so it imports as little as possible: 40 ms instead of 400.
"""

from __future__ import annotations

import http.client
import os
import sys
from pathlib import Path

_PATIENCE = 3.5  # seconds

# An indexer, whether it leads or stands by, sends PostgreSQL several statements a second; while Elasticsearch is away,
# it sends at least two a minute.
_INDEXER_WORKS = (
    "SELECT count(*) > 0 FROM pg_stat_activity WHERE application_name = 'eventsvc index'"
    " AND client_addr IS NOT DISTINCT FROM inet_client_addr() AND query_start > now() - interval '60 seconds'"
)


def api_is_ready(port: int) -> bool:
    """Tell whether GET /readyz answers 200, so that events can be stored."""
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

    # The certificate names the service, not this address. We connect to our own process and send no secret.
    context = ssl._create_unverified_context()  # noqa: S323, SLF001
    return http.client.HTTPSConnection("127.0.0.1", port, timeout=_PATIENCE, context=context)


def _indexer_works(dsn: str) -> bool:
    """Tell whether an indexer at our address has a session at the log and has used it within a minute."""
    import psycopg2

    try:
        connection = psycopg2.connect(dsn, connect_timeout=3, application_name="eventsvc healthcheck")
    except psycopg2.Error:
        return False
    try:
        with connection.cursor() as cursor:
            cursor.execute(_INDEXER_WORKS)
            return bool(cursor.fetchall()[0][0])
    except psycopg2.Error:
        return False
    finally:
        connection.close()


def _database_url() -> str:
    """Read the URL as settings.py does. The import of settings.py would take ten times as long as this program."""
    if path := os.environ.get("EVENTSVC_DATABASE_URL_FILE"):
        return Path(path).read_text(encoding="utf-8").rstrip("\r\n")
    return os.environ.get("EVENTSVC_DATABASE_URL", "postgresql://localhost/eventsvc")


def main(arguments: list[str]) -> bool:
    """Check the API, or with ``index`` the indexer."""
    if arguments == ["index"]:
        return _indexer_works(_database_url())
    return api_is_ready(int(os.environ.get("EVENTSVC_PORT", "8000")))


if __name__ == "__main__":
    sys.exit(0 if main(sys.argv[1:]) else 1)
