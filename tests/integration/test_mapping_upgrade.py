"""The upgrade from mapping version 1, the release before: an index of that version is replaced while events arrive."""

from __future__ import annotations

import json
import threading
from datetime import date
from typing import Any

import orjson

from eventsvc.admin import rebuild
from eventsvc.admin.stores import Stores
from eventsvc.admin.verify import verify
from eventsvc.index import indexes, mapping
from eventsvc.index.indexes import write_alias
from eventsvc.log.connection import connect
from eventsvc.log.progress import index_months, watermark
from eventsvc.log.read.batches import read_batch
from eventsvc.settings import Settings

JANUARY = date(2020, 1, 1)
JANUARYS = 700  # events
_KEYWORD = {"type": "keyword"}
VERSION_1 = {
    "dynamic": False,
    "_meta": {"mapping_version": 1},
    "_source": {"excludes": ["terms", "checksum"]},
    "properties": {
        "seq": {"type": "long"},
        "id": {"type": "keyword", "doc_values": False},
        "createdAt": {"type": "date"},
        **dict.fromkeys(("email", "environment", "component"), _KEYWORD),
        "message": {
            "type": "text",
            "norms": False,
            "fields": {"raw": {"type": "keyword", "doc_values": False}},
        },
        "data": {"type": "flattened", "depth_limit": 100, "ignore_above": 8_191},
        "data_value": {"type": "object", "enabled": False},
        "checksum": {"type": "long", "index": False},
        "terms": {
            "properties": {
                **dict.fromkeys(("email", "environment", "component"), _KEYWORD),
                "message": {"type": "text", "analyzer": "whitespace", "norms": False},
                "data": {"type": "keyword", "doc_values": False},
            }
        },
    },
}


def fill_version_1(log: Any, stores: Stores, prefix: str) -> str:
    """Leave what the release before left: January's index, filled, with the old mapping and the old documents."""
    name, connection = f"{prefix}-v1-2020.01", stores.connection
    committed = log.insert(JANUARYS, at="'2020-01-10'", message="old %s")
    order = {"sort.field": ["createdAt", "seq"], "sort.order": ["desc", "desc"]}
    aliases: dict[str, Any] = {write_alias(name): {}, prefix: {}}
    stores.client.indices.create(index=name, settings={"index": order}, mappings=VERSION_1, aliases=aliases)
    operations: list[dict[str, Any]] = []
    for event in read_batch(connection, after=0, to=committed[-1]).events:
        document = json.loads(orjson.dumps(mapping.to_document(event)))
        del document["occurredAt"], document["terms"]["values"]
        operations += [{"index": {"_id": str(event.seq)}}, document]
    assert not stores.client.bulk(index=name, operations=operations, refresh=True)["errors"]
    fence = watermark.draw_fence(connection).fence
    index_months.add_index(connection, fence, JANUARY, name, indexes.uuids(stores.client, [name])[name])
    watermark.move(connection, fence, checkpoint=committed[-1], seq=committed[-1])
    return name


def test_an_index_of_mapping_version_1_becomes_one_of_version_2_beside_live_writes(
    run_indexer: Any, log: Any, stores: Stores, settings: Settings, index_prefix: str
) -> None:
    old = fill_version_1(log, stores, index_prefix)
    over = threading.Event()

    def write() -> None:
        connection = connect(settings.database_url.get_secret_value())
        while not over.wait(0.02):
            type(log)(connection).insert(3, at="'2020-01-20'", message="new %s")
        connection.close()

    writer = threading.Thread(target=write)
    with run_indexer():
        writer.start()
        try:
            rebuild.remove_old(stores, [rebuild.rebuild(stores, JANUARY, rate=2_000, advance=lambda _: None)], grace=0)
        finally:
            over.set()
            writer.join()
        log.wait_visible()
    new = index_months.list_indexes(log.connection)[JANUARY].name
    assert (old, new) == (f"{index_prefix}-v1-2020.01", f"{index_prefix}-v2-2020.01")
    assert not stores.client.indices.exists(index=old)
    assert [report.equal for report in verify(stores, [JANUARY])] == [True]
    ((events,),) = log.fetch("SELECT count(*) FROM event")
    has_new_fields = {"bool": {"filter": [{"exists": {"field": name}} for name in ("occurredAt", "terms.values")]}}
    assert stores.client.count(index=index_prefix, query=has_new_fields)["count"] == events > JANUARYS
