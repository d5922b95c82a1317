"""Remove the documents of events that the log no longer has.

After a restore or a failover, the log may lack its last events, while the index still has their documents. The
checkpoint is stored in the same database as the log, so it never passes the last event of the log. So these documents
have seqs beyond the checkpoint.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterable, Iterator

from elasticsearch import Elasticsearch

from eventsvc.index import bulk, indexes
from eventsvc.index.client import translate_errors
from eventsvc.log.connection import Connection, fetch
from eventsvc.log.months import MONTH
from eventsvc.log.progress.index_months import IndexMonth

_AT_ONCE = 1_000

_FIND = f"SELECT seq, {MONTH} FROM event WHERE seq = ANY (%s)"  # noqa: S608  (a constant)


def remove_leftovers(
    connection: Connection,
    client: Elasticsearch,
    months: Iterable[IndexMonth],
    *,
    checkpoint: int,
    fence: int,
    stop: threading.Event,
) -> Counter[str]:
    """Refresh the indexes, then remove documents beyond the checkpoint whose event is not in the log.

    Returns:
        The number of removed documents by index. These indexes need another refresh.

    Raises:
        IndexUnavailable: Elasticsearch does not answer.
        Stopped: ``stop`` was set.
    """
    removed = Counter[str]()
    for index in months:
        indexes.refresh(client, [index.name])
        for seqs in _list_beyond(client, index.name, max(checkpoint, index.filled_to)):
            known = dict(fetch(connection, _FIND, (seqs,)))
            gone = [bulk.erase_item(index.name, seq, fence) for seq in seqs if known.get(seq) != index.month]
            if gone:
                bulk.erase(client, gone, stop)
                removed[index.name] += len(gone)
    return removed


def _list_beyond(client: Elasticsearch, name: str, after: int) -> Iterator[list[int]]:
    seqs = [after]
    while True:
        with translate_errors():
            answer = client.search(
                index=name,
                query={"range": {"seq": {"gt": seqs[-1]}}},
                sort=["seq"],
                size=_AT_ONCE,
                source=False,
                track_total_hits=False,
                allow_partial_search_results=False,
            )
        seqs = [hit["sort"][0] for hit in answer["hits"]["hits"]]
        if not seqs:
            return
        yield seqs
