"""The doctor's checks of Elasticsearch."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from eventsvc.admin.prune import list_unused
from eventsvc.admin.stores import Stores
from eventsvc.index import indexes
from eventsvc.index.client import translate_errors
from eventsvc.index.mapping import MAPPING_VERSION
from eventsvc.log.progress import index_months

Line = tuple[Literal["ok", "warning", "error"], str, str, str]  # the attributes of ``doctor.Finding``, in their order

# Elasticsearch's own defaults: at 85 % it puts no more shards on a disk, at 95 % it stops writing.
_DISK_HIGH, _DISK_FLOOD = 85.0, 95.0  # per cent
# Elastic's advice on the size of a shard ("Size your shards"); Lucene itself ends at 2,147,483,519 documents.
SHARD_DOCUMENTS, SHARD_BYTES = 200_000_000, 50 * 1024**3


def examine(stores: Stores, *, fix: bool) -> Iterator[Line]:
    """Check the cluster, its disks and our indexes.

    Raises:
        IndexUnavailable: Elasticsearch does not answer.
    """
    yield from _cluster(stores)
    yield from _disks(stores)
    yield from _indexes(stores)
    yield from _unused(stores, fix=fix)


def _cluster(stores: Stores) -> Iterator[Line]:
    with translate_errors():
        client = stores.client.options(request_timeout=5)
        status = client.cluster.health()["status"]
        nodes = client.nodes.info(filter_path="nodes.*.version").body.get("nodes", {})
    versions = ", ".join(sorted({node["version"] for node in nodes.values()}))
    found = f"version {versions}, {len(nodes)} node(s), status {status}"
    if status == "red":
        yield "error", "Elasticsearch", found, "a shard is missing: searches go to PostgreSQL until it is back"
    elif status == "yellow":
        advice = "replicas have no place: add a node, or set EVENTSVC_INDEX_REPLICAS=0 and reindex"
        yield "warning", "Elasticsearch", found, advice
    else:
        yield "ok", "Elasticsearch", found, ""


def _disks(stores: Stores) -> Iterator[Line]:
    with translate_errors():
        stats = stores.client.nodes.stats(metric="fs", filter_path="nodes.*.name,nodes.*.fs.total")
    for name, node in stats.body.get("nodes", {}).items():
        total = node["fs"]["total"]
        used = 100.0 * (1 - total["available_in_bytes"] / total["total_in_bytes"])
        found = f"{used:.0f} % used"
        if used >= _DISK_FLOOD:
            yield "error", f"disk of {node.get('name', name)}", found, "Elasticsearch refuses to write: make room"
        elif used >= _DISK_HIGH:
            yield "warning", f"disk of {node.get('name', name)}", found, "make room before it stops writing at 95 %"
        else:
            yield "ok", f"disk of {node.get('name', name)}", found, ""


def _indexes(stores: Stores) -> Iterator[Line]:
    known = index_months.list_indexes(stores.connection)
    found = indexes.uuids(stores.client, [index.name for index in known.values()])
    lost = [index.name for index in known.values() if found.get(index.name) != index.uuid]
    old = [index.name for index in known.values() if f"-v{MAPPING_VERSION}-" not in index.name]
    if lost:
        yield "error", "indexes", f"gone or replaced: {', '.join(lost)}", "the indexer fills them again: is it running?"
    if old:
        yield "warning", "indexes", f"{len(old)} with an older mapping", "run `eventsvc admin reindex`"
    if not lost and not old:
        yield "ok", "indexes", f"{len(known)}, all there", ""
    yield from _layout(stores, {index.name for index in known.values()})
    yield from _blocked(stores, list(found))


def _layout(stores: Stores, used: set[str]) -> Iterator[Line]:
    """Compare the shards of our indexes with the setting, and with the advised size of a shard."""
    wanted = stores.settings.index_shards
    shards = indexes.count_shards(stores.client, stores.settings.index_prefix)
    other = sorted(name for name in used & shards.keys() if shards[name] != wanted)
    full = _full_shards(stores, used & shards.keys())
    if full:
        advice = "raise EVENTSVC_INDEX_SHARDS, then `eventsvc admin reindex --month …` (docs/scaling.md)"
        yield "warning", "full shards", ", ".join(full), advice
    if other:
        advice = "new months get the new number; `eventsvc admin reindex --month …` gives it to these"
        yield "ok", "shards a month", f"{wanted}, but other numbers in {', '.join(other)}", advice
    else:
        yield "ok", "shards a month", f"{wanted}", ""


def _full_shards(stores: Stores, names: set[str]) -> list[str]:
    with translate_errors():
        answer = stores.client.indices.stats(
            index=f"{stores.settings.index_prefix}-v*",
            metric="docs,store",
            level="shards",
            filter_path="indices.*.shards.*.docs.count,indices.*.shards.*.store.size_in_bytes",
        )
    return [
        f"{name} has {copies[0]['docs']['count']:,} documents in one"
        for name, found in answer.body.get("indices", {}).items()
        for copies in found["shards"].values()
        if name in names
        and (copies[0]["docs"]["count"] > SHARD_DOCUMENTS or copies[0]["store"]["size_in_bytes"] > SHARD_BYTES)
    ]


def _blocked(stores: Stores, names: list[str]) -> Iterator[Line]:
    with translate_errors():
        answer = stores.client.indices.get_settings(
            index=f"{stores.settings.index_prefix}-v*", name="index.blocks.*", flat_settings=True
        )
    blocked = sorted(name for name, found in answer.body.items() if name in names and found["settings"])
    if blocked:
        advice = "make room on the disk, then remove the block (index.blocks.read_only_allow_delete: null)"
        yield "error", "blocked indexes", ", ".join(blocked), advice


def _unused(stores: Stores, *, fix: bool) -> Iterator[Line]:
    unused = list_unused(stores)
    if fix:
        for name in unused:
            if _is_empty(stores, name):
                indexes.delete(stores.client, name)
        unused = list_unused(stores)
    if unused:
        advice = "left by a killed reindex, or not ours: --fix removes empty ones; look before you delete others"
        yield "warning", "unused indexes", ", ".join(unused), advice


def _is_empty(stores: Stores, name: str) -> bool:
    indexes.refresh(stores.client, [name])
    with translate_errors():
        return bool(stores.client.count(index=name)["count"] == 0)
