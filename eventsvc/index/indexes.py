"""Create, name, list, refresh, merge and delete the indexes of months. Table index_month names the current indexes."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

import elasticsearch
import structlog
from elasticsearch import Elasticsearch

from eventsvc.errors import IndexUnavailable
from eventsvc.index.client import translate_errors
from eventsvc.index.mapping import MAPPING_VERSION, index_body

_logger = structlog.get_logger(__name__)

_SETTLED = timedelta(days=1)  # after the end of a month, hardly any event of the month arrives


@dataclass(frozen=True, slots=True)
class Index:
    """One index of Elasticsearch. Its uuid differs from that of a later index of the same name."""

    name: str
    uuid: str


def index_name(prefix: str, month: date, generation: int = 1) -> str:
    """Name the index of a month."""
    name = f"{prefix}-v{MAPPING_VERSION}-{month:%Y.%m}"
    return name if generation == 1 else f"{name}-g{generation}"


def write_alias(name: str) -> str:
    """Name the alias that bulk requests write to. If the index is gone, a request fails and creates no index."""
    return f"{name}-write"


def create(
    client: Elasticsearch,
    prefix: str,
    month: date,
    *,
    shards: int = 1,
    replicas: int,
    visible: bool = True,
    after: str = "",
) -> Index:
    """Create the next generation of a month's index.

    An existing index is never touched, because its documents may be somebody else's: the next free name is taken.

    Args:
        client: the client of Elasticsearch.
        prefix: the prefix of all names, which is also the alias for Kibana.
        month: the month's first day.
        shards: the number of primary shards, which never changes later.
        replicas: the number of replicas of each shard.
        visible: give the index the alias for Kibana at once.
        after: the month's lost index. A search under way may still ask for the lost index by name, and must not
            find an empty index of this name.

    Raises:
        IndexUnavailable: no index could be made.
    """
    with translate_errors():
        for generation in _free_generations([*_list_names(client, prefix), after], prefix, month):
            name = index_name(prefix, month, generation)
            aliases = (write_alias(name), prefix) if visible else (write_alias(name),)
            try:
                client.indices.create(index=name, body=index_body(shards=shards, replicas=replicas, aliases=aliases))
            except elasticsearch.BadRequestError as exc:
                if exc.error != "resource_already_exists_exception":
                    raise
                continue  # another process has made this index meanwhile
            if uuid := uuids(client, [name]).get(name):
                return Index(name, uuid)
    raise IndexUnavailable(f"the index of {month:%Y-%m} could not be created")


def _free_generations(names: Iterable[str], prefix: str, month: date) -> range:
    pattern = re.compile(re.escape(index_name(prefix, month)) + r"(?:-g(\d+))?")
    taken = [match for name in names if (match := pattern.fullmatch(name))]
    highest = max((int(match[1] or 1) for match in taken), default=0)
    return range(highest + 1, highest + 10)


def _list_names(client: Elasticsearch, prefix: str) -> list[str]:
    answer = client.indices.get(index=f"{prefix}-v*", features="aliases", allow_no_indices=True)
    return list(answer.body)


def month_of_name(name: str) -> date:
    """Read the month from an index name that ``list_all`` gave."""
    year, month = re.findall(r"-(\d{4})\.(\d{2})", name)[-1]
    return date(int(year), int(month), 1)


def generation_of_name(name: str) -> int:
    """Read the generation from an index name."""
    match = re.search(r"-g(\d+)$", name)
    return int(match[1]) if match else 1


def list_all(client: Elasticsearch, prefix: str) -> list[str]:
    """List every index whose name follows our pattern, in use or not."""
    ours = re.compile(re.escape(prefix) + r"-v\d+-\d{4}\.\d{2}(?:-g\d+)?")
    with translate_errors():
        return sorted(name for name in _list_names(client, prefix) if ours.fullmatch(name))


def uuids(client: Elasticsearch, names: Iterable[str]) -> dict[str, str]:
    """Map the names of indexes to their uuids, without indexes that do not exist."""
    wanted = sorted(set(names))
    existing: dict[str, str] = {}
    for some in _request_lines(wanted):
        with translate_errors():
            answer = client.indices.get_settings(
                index=some, name="index.uuid", flat_settings=True, ignore_unavailable=True, allow_no_indices=True
            )
        existing |= {name: found["settings"]["index.uuid"] for name, found in answer.body.items()}
    # For an alias of this name, Elasticsearch would answer with the names of other indexes.
    return {name: existing[name] for name in wanted if name in existing}


def _request_lines(names: list[str]) -> Iterator[str]:
    """Join names into groups for a URL: Elasticsearch takes 4,096 bytes, and a name has up to 120."""
    for start in range(0, len(names), 25):
        yield ",".join(names[start : start + 25])


def refresh(client: Elasticsearch, names: Iterable[str]) -> None:
    """Make everything written so far visible to searches.

    Raises:
        IndexUnavailable: an index is missing, or a shard did not refresh.
    """
    # Refresh one index at a time: the answer only sums up all indexes, and does not count a shard as failed while the
    # shard is on no node.
    for name in sorted(names):
        with translate_errors():
            shards = client.indices.refresh(index=name)["_shards"]
            whole = shards["successful"] == shards["total"] or (
                bool(shards["successful"]) and _has_primaries(client, name)
            )
        if shards["failed"] or not whole:
            raise IndexUnavailable(f"index {name} could not be refreshed: {shards['failed']} shards failed")


def _has_primaries(client: Elasticsearch, name: str) -> bool:
    """Tell whether all primary shards are there. A shard that has come back meanwhile has refreshed itself."""
    return bool(client.cluster.health(index=name, timeout="0s")["status"] != "red")


def count_shards(client: Elasticsearch, prefix: str) -> dict[str, int]:
    """Map the names of all our indexes to their numbers of primary shards."""
    with translate_errors():
        answer = client.indices.get_settings(index=f"{prefix}-v*", name="index.number_of_shards", flat_settings=True)
    return {name: int(found["settings"]["index.number_of_shards"]) for name, found in answer.body.items()}


def merge(client: Elasticsearch, name: str) -> bool:
    """Start a background merge of each shard into one segment; False if there is nothing to merge."""
    with translate_errors():
        shards = client.indices.segments(index=name)["indices"].get(name, {}).get("shards", {})
        if all(copy["num_search_segments"] <= 1 for copies in shards.values() for copy in copies):
            return False
        client.indices.forcemerge(index=name, max_num_segments=1, wait_for_completion=False)
    return True


def merge_newest(client: Elasticsearch, names: Mapping[date, str]) -> None:
    """Start to merge the index of the newest past month that is not merged yet.

    An index that no longer grows is smallest and fastest with one segment a shard. Nothing is recorded: a merged index
    is known by its one segment a shard.
    """
    current = (datetime.now(UTC) - _SETTLED).date().replace(day=1)
    try:
        for month in sorted(names, reverse=True):
            if month < current and merge(client, names[month]):
                _logger.info("a month is over; its index is merged", index=names[month])
                return
    except IndexUnavailable as exc:
        _logger.warning("no index could be merged, will be tried again", error=str(exc))


def swap_alias(client: Elasticsearch, prefix: str, *, remove: Iterable[str], add: Iterable[str]) -> None:
    """Move the alias for Kibana in one atomic call; indexes that do not exist are left out."""
    with translate_errors():
        existing = set(uuids(client, [*remove, *add]))
        actions = [
            {"remove": {"index": name, "alias": prefix, "must_exist": False}} for name in remove if name in existing
        ]
        actions += [{"add": {"index": name, "alias": prefix}} for name in add if name in existing]
        if actions:
            client.indices.update_aliases(actions=actions)


def delete(client: Elasticsearch, name: str) -> None:
    """Delete an index. An index that does not exist is no error."""
    with translate_errors():
        client.indices.delete(index=name, ignore_unavailable=True)
