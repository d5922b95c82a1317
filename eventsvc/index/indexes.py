"""One index a month: its name, its birth, its end. Which index holds which month stands in the log, not here."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import date

import elasticsearch
from elasticsearch import Elasticsearch

from eventsvc.errors import IndexUnavailable
from eventsvc.index.client import translate_errors
from eventsvc.index.mapping import MAPPING_VERSION, index_body


@dataclass(frozen=True, slots=True)
class Index:
    """One index of Elasticsearch; the uuid tells a replaced one from the one we filled."""

    name: str
    uuid: str


def index_name(prefix: str, month: date, generation: int = 1) -> str:
    """Name the index of a month."""
    name = f"{prefix}-v{MAPPING_VERSION}-{month:%Y.%m}"
    return name if generation == 1 else f"{name}-g{generation}"


def write_alias(name: str) -> str:
    """Name the alias that bulk requests go to: an index that vanished is then an error, never made by itself."""
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
    """Create the month's next generation.

    A leftover of that name is passed over, never touched: nobody knows whose documents it holds.

    Args:
        client: of the server.
        prefix: names start with it; also the alias for Kibana.
        month: first day.
        shards: primary ones; an index keeps the number that it was made with.
        replicas: of each shard.
        visible: give it the alias for Kibana at once.
        after: an index of the month that is gone: a search under way may still ask for that name, and must not
            find an empty index under it.

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
                continue  # made by somebody else meanwhile
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
    """Give the month of an index that ``list_all`` has named."""
    year, month = re.findall(r"-(\d{4})\.(\d{2})", name)[-1]
    return date(int(year), int(month), 1)


def generation_of_name(name: str) -> int:
    """Give the generation of an index of ours."""
    match = re.search(r"-g(\d+)$", name)
    return int(match[1]) if match else 1


def list_all(client: Elasticsearch, prefix: str) -> list[str]:
    """List every index whose name is one of ours, in use or not."""
    ours = re.compile(re.escape(prefix) + r"-v\d+-\d{4}\.\d{2}(?:-g\d+)?")
    with translate_errors():
        return sorted(name for name in _list_names(client, prefix) if ours.fullmatch(name))


def uuids(client: Elasticsearch, names: Iterable[str]) -> dict[str, str]:
    """Map the names of those indexes that exist to their uuids."""
    wanted = sorted(set(names))
    existing: dict[str, str] = {}
    for some in _request_lines(wanted):
        with translate_errors():
            answer = client.indices.get_settings(
                index=some, name="index.uuid", flat_settings=True, ignore_unavailable=True, allow_no_indices=True
            )
        existing |= {name: found["settings"]["index.uuid"] for name, found in answer.body.items()}
    # An alias of the same name would give other names back.
    return {name: existing[name] for name in wanted if name in existing}


def _request_lines(names: list[str]) -> Iterator[str]:
    """Join names for a URL; Elasticsearch takes 4,096 bytes of one, and a name has up to 120."""
    for start in range(0, len(names), 25):
        yield ",".join(names[start : start + 25])


def refresh(client: Elasticsearch, names: Iterable[str]) -> None:
    """Make everything written so far visible to searches.

    Raises:
        IndexUnavailable: an index is missing, or a shard could not do it.
    """
    # One by one: the answer tells only of all together, and a shard that is nowhere at the moment is not even counted
    # as failed.
    for name in sorted(names):
        with translate_errors():
            shards = client.indices.refresh(index=name)["_shards"]
            whole = shards["successful"] == shards["total"] or (
                bool(shards["successful"]) and _has_primaries(client, name)
            )
        if shards["failed"] or not whole:
            raise IndexUnavailable(f"index {name} could not be refreshed: {shards['failed']} shards failed")


def _has_primaries(client: Elasticsearch, name: str) -> bool:
    """Tell whether only replicas did not refresh. A shard that has come back meanwhile has refreshed itself."""
    return bool(client.cluster.health(index=name, timeout="0s")["status"] != "red")


def count_shards(client: Elasticsearch, prefix: str) -> dict[str, int]:
    """Map the names of all our indexes to how many primary shards each has."""
    with translate_errors():
        answer = client.indices.get_settings(index=f"{prefix}-v*", name="index.number_of_shards", flat_settings=True)
    return {name: int(found["settings"]["index.number_of_shards"]) for name, found in answer.body.items()}


def merge(client: Elasticsearch, name: str) -> bool:
    """Begin to merge each shard into one segment, in the background; False: there is nothing to merge."""
    with translate_errors():
        shards = client.indices.segments(index=name)["indices"].get(name, {}).get("shards", {})
        if all(copy["num_search_segments"] <= 1 for copies in shards.values() for copy in copies):
            return False
        client.indices.forcemerge(index=name, max_num_segments=1, wait_for_completion=False)
    return True


def swap_alias(client: Elasticsearch, prefix: str, *, remove: Iterable[str], add: Iterable[str]) -> None:
    """Move the alias for Kibana in one atomic call; names that are gone are left out."""
    with translate_errors():
        existing = set(uuids(client, [*remove, *add]))
        actions = [
            {"remove": {"index": name, "alias": prefix, "must_exist": False}} for name in remove if name in existing
        ]
        actions += [{"add": {"index": name, "alias": prefix}} for name in add if name in existing]
        if actions:
            client.indices.update_aliases(actions=actions)


def delete(client: Elasticsearch, name: str) -> None:
    """Delete an index; one that is gone already is no error."""
    with translate_errors():
        client.indices.delete(index=name, ignore_unavailable=True)
