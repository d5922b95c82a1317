"""Compare the log with an index, for ``verify`` and ``backfill``.

A range of seqs is equal if both sides have the same number of events and the same sum of checksums. The events
themselves are compared only in ranges that are not equal.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import date
from typing import Any, Literal

import msgspec
from elasticsearch import Elasticsearch
from msgspec import structs

from eventsvc.event import Event
from eventsvc.index.client import check_whole, translate_errors
from eventsvc.index.mapping import CHECKSUM_SQL, checksum, from_hit
from eventsvc.log.connection import Connection, transaction
from eventsvc.log.months import bounds
from eventsvc.log.progress.horizon import BEYOND_ALL
from eventsvc.log.read.batches import read_batch

# Fewer than the 10,000 hits of one search, so that there is room for documents that the log does not have.
WIDTH = 5_000
_MOST_HITS = 10_000

Kind = Literal["missing", "extra", "different"]
Sums = Mapping[int, tuple[int, int]]
"""Range of WIDTH seqs → how many events, sum of their checksums."""


@dataclass(frozen=True, slots=True)
class Difference:
    """One document that differs from the log.

    Attributes:
        document: the document's id in the index, which is the seq unless the document is not ours.
    """

    kind: Kind
    seq: int | None
    document: str


@dataclass(frozen=True, slots=True)
class Side:
    """The events of one month in the log, in one snapshot.

    Attributes:
        watermark: only events up to this seq are counted.
        excluded: seqs that need not be in the index, because the index refused them or they are being erased.
        sums: the counts and checksums of all other events.
    """

    watermark: int
    excluded: frozenset[int]
    sums: Sums

    @property
    def events(self) -> int:
        """The number of events that the index should hold."""
        return sum(count for count, _ in self.sums.values())


@dataclass(frozen=True, slots=True)
class Range:
    """The seqs that are compared: after < seq ≤ to."""

    after: int = 0
    to: int = BEYOND_ALL

    def bucket(self, number: int) -> Range:
        """Give the part of this range that lies in bucket ``number`` of WIDTH seqs."""
        start = number * WIDTH
        return Range(max(self.after, start - 1), min(self.to, start + WIDTH - 1))


_SUMS = f"""
    SELECT seq / {WIDTH}, count(*), sum({CHECKSUM_SQL}) FROM event
    WHERE created_at >= %s AND created_at < %s AND seq > %s AND seq <= %s AND NOT seq = ANY (%s) GROUP BY 1
"""  # noqa: S608  (constants only)
_EXCLUDED = "SELECT seq FROM index_failure WHERE month = %s UNION SELECT seq FROM erased WHERE month = %s"


def read_side(connection: Connection, month: date, wanted: Range) -> Side:
    """Count and sum up the log's events of a month, up to the watermark."""
    with transaction(connection) as cursor:
        cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        cursor.execute("SELECT seq FROM watermark")
        ((watermark,),) = cursor.fetchall()
        cursor.execute(_EXCLUDED, (month, month))
        excluded = [seq for (seq,) in cursor]
        cursor.execute(_SUMS, (*bounds(month), wanted.after, min(wanted.to, watermark), excluded))
        sums = {bucket: (count, int(total)) for bucket, count, total in cursor}
    return Side(watermark, frozenset(excluded), sums)


@dataclass(frozen=True, slots=True)
class IndexSide:
    """The documents of one index."""

    client: Elasticsearch
    name: str

    def search(self, body: dict[str, Any]) -> dict[str, Any]:
        """Search the index.

        Raises:
            IndexUnavailable: there is no whole answer.
        """
        with translate_errors():
            answer = self.client.search(index=self.name, body=body, allow_partial_search_results=False)
        check_whole(answer)
        return answer.body  # type: ignore[no-any-return]

    def stored_sums(self, wanted: Range, excluded: frozenset[int]) -> Sums:
        """Sum up the checksums that were stored with the documents: fast, but blind to later changes of documents."""
        # Elasticsearch sums in float64, in which WIDTH checksums of 32 bits stay exact. It allows 65,536 buckets.
        sums: dict[int, tuple[int, int]] = {}
        after: dict[str, Any] | None = None
        while True:
            composite: dict[str, Any] = {
                "size": 1_000,
                "sources": [{"bucket": {"histogram": {"field": "seq", "interval": WIDTH}}}],
                **({"after": after} if after else {}),
            }
            aggregations = {"ranges": {"composite": composite, "aggs": {"sum": {"sum": {"field": "checksum"}}}}}
            answer = self.search({"size": 0, "query": _within(wanted, excluded), "aggs": aggregations})
            found = answer["aggregations"]["ranges"]
            for bucket in found["buckets"]:
                sums[round(bucket["key"]["bucket"]) // WIDTH] = (bucket["doc_count"], round(bucket["sum"]["value"]))
            after = found.get("after_key")
            if after is None:
                return sums

    def read_sums(self, wanted: Range, excluded: frozenset[int], advance: Callable[[int], None]) -> Sums:
        """Read every document and sum up checksums computed from its content."""
        counted = self.stored_sums(wanted, excluded)

        def read(bucket: int) -> tuple[int, tuple[int, int]]:
            hits = self.hits(wanted.bucket(bucket), excluded)
            advance(len(hits))
            return bucket, (len(hits), sum(_hit_checksum(hit) for hit in hits))

        with ThreadPoolExecutor(max_workers=3) as threads:
            return dict(threads.map(read, sorted(counted)))

    def hits(self, wanted: Range, excluded: frozenset[int]) -> list[dict[str, Any]]:
        """Read the documents of a narrow range."""
        body = {"size": _MOST_HITS, "sort": ["_doc"], "query": _within(wanted, excluded)}
        found: list[dict[str, Any]] = self.search(body)["hits"]["hits"]
        return found

    def strangers(self) -> list[str]:
        """List the ids of documents without a seq, the first 10,000 of them."""
        body = {"size": _MOST_HITS, "query": {"bool": {"must_not": {"exists": {"field": "seq"}}}}, "_source": False}
        return [hit["_id"] for hit in self.search(body)["hits"]["hits"]]


def _within(wanted: Range, excluded: frozenset[int]) -> dict[str, Any]:
    query: dict[str, Any] = {"filter": [{"range": {"seq": {"gt": wanted.after, "lte": wanted.to}}}]}
    if excluded:
        query["must_not"] = [{"terms": {"seq": sorted(excluded)}}]
    return {"bool": query}


def _read_hit(hit: dict[str, Any]) -> Event | None:
    try:
        return from_hit(hit["_source"])
    except (KeyError, TypeError, ValueError):
        return None  # not a document of ours


def _same(event: Event, other: Event) -> bool:
    """Tell whether two events are equal, even if another program has written 1.5 for 1.50."""
    return event == other or (
        structs.replace(event, data="") == structs.replace(other, data="")
        and msgspec.json.decode(event.data) == msgspec.json.decode(other.data)
    )


def _hit_checksum(hit: dict[str, Any]) -> int:
    event = _read_hit(hit)
    return -1 if event is None else checksum(event)


def differing(log: Sums, index: Sums) -> list[int]:
    """List the buckets that are not equal."""
    return sorted(bucket for bucket in log.keys() | index.keys() if log.get(bucket) != index.get(bucket))


def compare(
    connection: Connection, index: IndexSide, month: date, wanted: Range, excluded: frozenset[int]
) -> Iterator[Difference]:
    """Compare the events of a narrow range one by one."""
    hits = index.hits(wanted, excluded)
    # The log is read after the index. An event that was erased in between is gone from the log; the second comparison
    # (see verify) finds its document excluded or gone.
    batch = read_batch(connection, after=wanted.after, to=wanted.to, month=month, most_characters=2**40)
    events = {event.seq: event for event in batch.events if event.seq not in excluded}
    seen = set()
    for hit in hits:
        event = _read_hit(hit)
        seq = hit["_source"].get("seq")
        if hit["_id"] != str(seq) or seq not in events:
            yield Difference("extra", seq, hit["_id"])
            continue
        seen.add(seq)
        if event is None or not _same(event, events[seq]):
            yield Difference("different", seq, hit["_id"])
    yield from (Difference("missing", seq, str(seq)) for seq in sorted(events.keys() - seen))
