"""Send events that the index has refused once more."""

from __future__ import annotations

from itertools import groupby

from eventsvc.admin.stores import Stores
from eventsvc.admin.verify import write_events
from eventsvc.index import indexes
from eventsvc.log.months import month_of
from eventsvc.log.progress import index_months, refusals
from eventsvc.log.read.batches import read_events

_AT_ONCE = 500


def retry(stores: Stores) -> tuple[int, int]:
    """Write all refused events to the index again; return how many it took and how many it refused."""
    seqs = refusals.list_seqs(stores.connection)
    by_month = index_months.list_indexes(stores.connection)
    refused = 0
    for start in range(0, len(seqs), _AT_ONCE):
        some = seqs[start : start + _AT_ONCE]
        again = set()
        events = sorted(read_events(stores.connection, some), key=lambda event: month_of(event.created_at))
        for month, of_month in groupby(events, key=lambda event: month_of(event.created_at)):
            if month not in by_month:
                continue
            name = by_month[month].name
            again |= {refusal.seq for refusal in write_events(stores, name, list(of_month))}
            # Visible first, then no longer tail: meanwhile searches leave them out of hits, by this very list.
            indexes.refresh(stores.client, [name])
        refusals.forget(stores.connection, [seq for seq in some if seq not in again])
        refused += len(again)
    return len(seqs) - refused, refused
