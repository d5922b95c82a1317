"""The mapping, and the conversion of events to documents and back. A change of any of them raises MAPPING_VERSION."""

from __future__ import annotations

import json
import re
import zlib
from decimal import Decimal
from functools import lru_cache
from typing import Any

import orjson

from eventsvc.event import NANOSECONDS, Event, format_nanoseconds, format_time, parse_nanoseconds, parse_time
from eventsvc.text import terms
from eventsvc.text.fold import fold

MAPPING_VERSION = 2

# A term of a flattened field is "path NUL value", and Lucene allows 32,766 bytes. Values are cut off at 8,191 UTF-16
# units (24,573 bytes), which leaves this much for the path.
_LONGEST_PATH = 8_000  # bytes
_LONGEST_VALUE = 8_191
_DEEPEST = 100  # levels, more than an event's data may have

_KEYWORD = {"type": "keyword"}
_TRIGRAMS = {"type": "text", "analyzer": "whitespace", "norms": False}
_ALIASES = {
    "@timestamp": "createdAt",
    "user.email": "email",
    "service.name": "component",
    "service.environment": "environment",
    "event.id": "id",
}


def index_body(*, shards: int = 1, replicas: int, aliases: tuple[str, ...] = ()) -> dict[str, Any]:
    """Build the request that creates a month's index."""
    return {
        "settings": {
            "index": {
                "number_of_shards": shards,
                "number_of_replicas": replicas,
                # The indexer refreshes, because it must know which watermark a refresh stands for. This interval
                # serves merges only: searches use a merged segment after the first refresh that follows the merge.
                "refresh_interval": "30s",
                # PERF: by default, Elasticsearch merges an index with a timestamp 32 segments at a time. With two
                # refreshes a second, an index then had a hundred segments, and a search took three times as long.
                "merge.policy.type": "tiered",
                # Elasticsearch knows the version of a deleted document for this time: longer than a bulk request may
                # come late (see bulk.py), but not for ever, because each version takes memory.
                "gc_deletes": "2m",
                "sort.field": ["createdAt", "seq"],
                "sort.order": ["desc", "desc"],
                "codec": "best_compression",
            }
        },
        "mappings": _mapping(),
        "aliases": {alias: {} for alias in aliases},
    }


def _mapping() -> dict[str, Any]:
    return {
        "dynamic": False,
        "_meta": {"mapping_version": MAPPING_VERSION},
        # Both fields are computed from the rest of the document, so storing them would only cost space.
        "_source": {"excludes": ["terms", "checksum"]},
        "properties": {
            "seq": {"type": "long"},
            "id": {"type": "keyword", "doc_values": False},
            "createdAt": {"type": "date"},
            "occurredAt": {"type": "date_nanos"},
            "email": _KEYWORD,
            "environment": _KEYWORD,
            "component": _KEYWORD,
            "message": {
                "type": "text",
                "norms": False,
                "fields": {"raw": {"type": "keyword", "doc_values": False}},
            },
            "data": {"type": "flattened", "depth_limit": _DEEPEST, "ignore_above": _LONGEST_VALUE},
            "data_value": {"type": "object", "enabled": False},
            "data_text": {"type": "object", "enabled": False},
            "checksum": {"type": "long", "index": False},
            "terms": {
                "properties": {
                    "email": _KEYWORD,
                    "environment": _KEYWORD,
                    "component": _KEYWORD,
                    "message": _TRIGRAMS,
                    "data": {"type": "keyword", "doc_values": False},
                    "values": _TRIGRAMS,
                }
            },
            **_alias_properties(),
        },
    }


def _alias_properties() -> dict[str, Any]:
    properties: dict[str, Any] = {}
    for name, path in _ALIASES.items():
        alias = {"type": "alias", "path": path}
        outer, dot, inner = name.partition(".")
        if dot:
            properties.setdefault(outer, {"properties": {}})["properties"][inner] = alias
        else:
            properties[name] = alias
    return properties


def to_document(event: Event) -> dict[str, Any]:
    """Convert an event to its document, for orjson, which embeds the JSON text of data as it is."""
    value = event.parsed_data()
    coded = terms.code_data(value)
    data_field = "data" if isinstance(value, dict) and _fits_flattened(event.data, value) else "data_value"
    created = format_time(event.created_at)
    same = event.occurred_at == event.created_at * NANOSECONDS
    document = {
        "seq": event.seq,
        "id": event.id,
        "createdAt": created,
        "occurredAt": created if same else format_nanoseconds(event.occurred_at),  # PERF: most are the same
        "email": event.email,
        "environment": event.environment,
        "component": event.component,
        "message": event.message,
        data_field: orjson.Fragment(event.data),
        "checksum": checksum(event),
        "terms": {
            "email": _fold(event.email),
            "environment": _fold(event.environment),
            "component": _fold(event.component),
            "message": terms.trigrams([fold(event.message)]),
            "data": coded.terms,
            "values": terms.trigrams(coded.texts),
        },
    }
    if coded.spelled:
        # Elasticsearch rewrites _source with floats, which would lose digits.
        document["data_text"] = event.data
    return document


def from_hit(source: dict[str, Any]) -> Event:
    """Convert the ``_source`` of a hit to the same event that PostgreSQL gives, equal in every character.

    Args:
        source: parsed by msgspec, so that large integers in data are exact.
    """
    return Event(
        seq=source["seq"],
        id=source["id"],
        created_at=parse_time(source["createdAt"]),
        occurred_at=parse_nanoseconds(source["occurredAt"]),
        email=source["email"],
        environment=source["environment"],
        component=source["component"],
        message=source["message"],
        data=source.get("data_text") or _jsonb_text(source["data"] if "data" in source else source["data_value"]),
    )


def checksum(event: Event) -> int:
    """Compute a 32-bit checksum of an event, equal to CHECKSUM_SQL. A double holds the sum of two million of them."""
    content = (
        f"{event.seq}\x1f{event.id}\x1f{event.created_at}\x1f{event.occurred_at}\x1f{event.email}\x1f"
        f"{event.environment}\x1f{event.component}\x1f{event.message}\x1f{event.data}"
    )
    return zlib.crc32(content.encode())


# ``checksum`` of a row of table event, in SQL.
CHECKSUM_SQL = (
    "crc32(convert_to(concat_ws(E'\\x1f', seq, id, (extract(epoch FROM created_at) * 1000)::bigint,"
    " event_occurred(occurred_at, created_at), email, environment, component, message, data), 'UTF8'))"
)


# PERF: few distinct values, many events.
_fold = lru_cache(maxsize=4096)(fold)


def _fits_flattened(text: str, value: dict[str, Any]) -> bool:
    """Tell whether every key path is short enough; no path is longer than the whole text."""
    return len(text) < _LONGEST_PATH // 4 or _longest_path(value) <= _LONGEST_PATH


def _longest_path(value: Any) -> int:
    match value:
        case dict():
            return max((len(key.encode()) + 1 + _longest_path(inner) for key, inner in value.items()), default=0)
        case list():
            return max(map(_longest_path, value), default=0)
        case _:
            return 0


_EXPONENT = re.compile(r"\de[-+]?\d")
_write = json.JSONEncoder(ensure_ascii=False).encode


def _jsonb_text(value: Any) -> str:
    """Write JSON as PostgreSQL's jsonb does: an event must look the same, whichever store it comes from."""
    text = _write(value)
    return _plain_numbers(value) if _EXPONENT.search(text) else text


def _plain_numbers(value: Any) -> str:
    match value:
        case dict():
            pairs = (f"{_write(key)}: {_plain_numbers(v)}" for key, v in value.items())
            return "{" + ", ".join(pairs) + "}"
        case list():
            return "[" + ", ".join(map(_plain_numbers, value)) + "]"
        case float():
            text = format(Decimal(repr(value)), "f")
            # Elasticsearch gives a float only for a number that was written with a decimal point.
            return text if "." in text else text + ".0"
        case _:
            return _write(value)
