"""Make clients of Elasticsearch, and translate their errors into ours."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import elastic_transport
import elasticsearch
import msgspec
import orjson
from elasticsearch import AsyncElasticsearch, Elasticsearch

from eventsvc.errors import IndexUnavailable, SetupError
from eventsvc.settings import Settings


class _JsonSerializer(elastic_transport.JsonSerializer):
    """Reads JSON with msgspec, which keeps integers of any size. Writes with orjson, and with msgspec if need be."""

    mimetype = "application/json"

    def json_dumps(self, data: Any) -> bytes:
        """Write JSON; an ``orjson.Fragment`` holds text that is JSON already."""
        try:
            return orjson.dumps(data)
        except TypeError:
            return msgspec.json.encode(data)

    def json_loads(self, data: bytes) -> Any:
        """Read JSON."""
        return msgspec.json.decode(data)


def connect(settings: Settings, *, timeout: float = 60.0) -> Elasticsearch:
    """Make a client for threads (the indexer, admin); it sends nothing yet.

    The client repeats no request after a time-out or an error status, because the callers know what may be sent twice
    and how long to wait. If a node cannot be reached, the client sends the request to another node.

    Raises:
        SetupError: the URL or the certificate cannot be used.
    """
    with _setup_errors():
        return Elasticsearch(**_options(settings), request_timeout=timeout)


def connect_async(settings: Settings) -> AsyncElasticsearch:
    """Make a client for searches, in the running event loop; it sends nothing yet.

    Raises:
        SetupError: the URL or the certificate cannot be used.
    """
    with _setup_errors():
        return AsyncElasticsearch(**_options(settings), request_timeout=settings.elasticsearch_timeout)


def _options(settings: Settings) -> dict[str, Any]:
    urls = [url.strip() for url in settings.elasticsearch_url.split(",") if url.strip()]
    if not urls:
        raise SetupError("EVENTSVC_ELASTICSEARCH_URL is not set")
    options: dict[str, Any] = {
        # The client refuses a URL without a port.
        "hosts": [
            elastic_transport.client_utils.url_to_node_config(u, use_default_ports_for_scheme=True) for u in urls
        ],
        "serializers": {"application/json": _JsonSerializer()},
        # If a node cannot be reached, the client sends the request to the next node, once to each node.
        "max_retries": len(urls) - 1,
        "retry_on_timeout": False,
        "retry_on_status": (),
        "connections_per_node": 20,
    }
    if settings.elasticsearch_ca is not None:
        # The client by itself would complain only at the first request.
        settings.elasticsearch_ca.open("rb").close()
        options["ca_certs"] = str(settings.elasticsearch_ca)
    api_key, password = settings.elasticsearch_api_key, settings.elasticsearch_password
    if api_key.get_secret_value():
        options["api_key"] = api_key.get_secret_value()
    elif settings.elasticsearch_user:
        options["basic_auth"] = (settings.elasticsearch_user, password.get_secret_value())
    return options


@contextmanager
def _setup_errors() -> Iterator[None]:
    try:
        yield
    except (ValueError, OSError) as exc:
        raise SetupError(f"the client of Elasticsearch cannot be set up: {exc}") from exc


@contextmanager
def translate_errors() -> Iterator[None]:
    """Translate every error of the client into IndexUnavailable.

    A refused request (400) is included: PostgreSQL then answers the search, which is slower but right.
    """
    try:
        yield
    except elasticsearch.ApiError as exc:
        raise IndexUnavailable(f"Elasticsearch answered {exc.status_code}: {error_type(exc.body)}") from exc
    except (elasticsearch.SerializationError, elasticsearch.UnsupportedProductError) as exc:
        raise IndexUnavailable(f"Elasticsearch's answer cannot be read: {type(exc).__name__}") from exc
    except elasticsearch.TransportError as exc:
        raise IndexUnavailable(f"Elasticsearch cannot be reached: {exc.message}") from exc


def check_whole(answer: Any) -> None:
    """Check that every shard has answered a search.

    Raises:
        IndexUnavailable: the search timed out, or a shard failed.
    """
    if answer.get("timed_out"):
        raise IndexUnavailable("Elasticsearch answered in part: the search timed out")
    if failed := answer.get("_shards", {}).get("failed", 0):
        raise IndexUnavailable(f"Elasticsearch answered in part: {failed} shards failed")


def error_type(body: Any) -> str:
    """Give the type of the error in an answer's body. Its reason quotes query values, which our log must not hold."""
    error = body.get("error") if isinstance(body, dict) else None
    if isinstance(error, dict):
        root = error.get("root_cause") or [error]
        return str(root[0].get("type", "unknown"))
    return "no reason given"
