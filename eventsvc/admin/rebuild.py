"""Rebuild the index of a month: fill the next index from the log, beside live writes, then swap the two indexes.

A search reads the names of the indexes in the same snapshot as the watermark. So the swap is exact, and is one
transaction of the log. This transaction holds the watermark, writes the last few events, and draws the next fence,
which makes the indexer start again from the watermark, with the new index. The next run continues a killed run,
because table index_rebuild records how far it came.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import date

from eventsvc.admin.compare import Range
from eventsvc.admin.stores import Stores
from eventsvc.admin.verify import verify_index
from eventsvc.errors import IndexUnavailable
from eventsvc.index import bulk, indexes
from eventsvc.indexer.pipeline import Done, Pipeline
from eventsvc.log.connection import Connection, transaction
from eventsvc.log.progress import erased, rebuilds, refusals, watermark
from eventsvc.log.progress.rebuilds import Rebuild
from eventsvc.log.read.batches import read_batch

# When at most so many seqs are left, the swap begins. It holds the watermark while it writes the rest, in well under a
# second.
_LAST_STRETCH = 2_000
_POLL = 0.02
_VERSION = 1  # of documents: lower than the version of any leader
_GRACE = 3.0  # seconds in which searches under way may still use an old index


class _Pace:
    """At most so many events a second."""

    def __init__(self, rate: float | None) -> None:
        self._rate, self._next = rate, time.monotonic()
        # Small batches keep a slow pace even, and a killed run repeats little.
        self.most = 5_000 if rate is None else max(1, min(5_000, int(rate / 2)))

    def wait(self, events: int) -> None:
        """Wait until so many more events may be written."""
        if self._rate is None:
            return
        now = time.monotonic()
        time.sleep(max(0.0, self._next - now))
        self._next = max(now, self._next) + events / self._rate


def rebuild(stores: Stores, month: date, *, rate: float | None, advance: Callable[[int], None]) -> Rebuild:
    """Fill the month's next index and swap it in. ``remove_old`` must remove the old index later.

    Raises:
        IndexUnavailable: the new index differs from the log, or is gone. The old index stays in use.
    """
    state = rebuilds.list_rebuilds(stores.connection).get(month)
    if state is not None and state.old_name is not None:
        return state  # swapped, then killed
    state = _start(stores, month, state)
    done_to = _fill_until_close(stores, state, _Pace(rate), advance)
    indexes.refresh(stores.client, [state.name])
    _check(stores, state, done_to)
    old = _swap(stores, state, done_to)
    indexes.swap_alias(stores.client, stores.settings.index_prefix, remove=[old], add=[state.name])
    return rebuilds.list_rebuilds(stores.connection)[month]


def remove_old(stores: Stores, replaced: list[Rebuild], *, grace: float = _GRACE) -> None:
    """Delete replaced indexes once no search under way can still use them."""
    if replaced:
        time.sleep(grace)
    for state in replaced:
        if state.old_name is None:
            continue
        # Repeated here, in case the process was killed right after the swap.
        swap = {"remove": [state.old_name], "add": [state.name]}
        indexes.swap_alias(stores.client, stores.settings.index_prefix, **swap)
        indexes.delete(stores.client, state.old_name)
        rebuilds.forget(stores.connection, state.month)


def _start(stores: Stores, month: date, state: Rebuild | None) -> Rebuild:
    """Continue with the index of a killed run, or create a new index."""
    if state is not None:
        if indexes.uuids(stores.client, [state.name]).get(state.name) == state.uuid:
            return state
        rebuilds.forget(stores.connection, month)
    settings = stores.settings
    index = indexes.create(
        stores.client,
        settings.index_prefix,
        month,
        shards=settings.index_shards,
        replicas=settings.index_replicas,
        visible=False,
    )
    return rebuilds.begin(stores.connection, month, index.name, index.uuid)


def _fill_until_close(stores: Stores, state: Rebuild, pace: _Pace, advance: Callable[[int], None]) -> int:
    done_to = state.done_to
    while (seq := watermark.read(stores.connection).seq) > done_to:
        last = seq - done_to <= _LAST_STRETCH
        _fill(stores, state, stores.connection, (done_to, seq), pace=pace, advance=advance)
        done_to = seq
        if last:
            break
    return done_to


def _fill(
    stores: Stores,
    state: Rebuild,
    reading: Connection,
    seqs: tuple[int, int],
    *,
    pace: _Pace,
    advance: Callable[[int], None],
) -> None:
    """Write the month's events with seqs[0] < seq ≤ seqs[1], and record the progress for the next run."""
    cursor, to = seqs
    pipeline = Pipeline(stores.client, version=_VERSION)
    try:
        while cursor < to or not pipeline.idle:
            while not pipeline.full and cursor < to:
                batch = read_batch(reading, after=cursor, to=to, month=state.month, most=pace.most)
                pace.wait(len(batch.events))
                pipeline.submit(batch.events, batch.reached, {state.month: state.name})
                cursor = batch.reached
            for done in pipeline.collect():
                _remember(reading, state, done)
                advance(done.events)
            pipeline.wait(_POLL)
    except bulk.IndexVanished as exc:
        raise IndexUnavailable(f"index {state.name} was removed while it was being filled: start again") from exc
    finally:
        pipeline.close()


def _remember(connection: Connection, state: Rebuild, done: Done) -> None:
    with transaction(connection) as cursor:
        if done.refusals:
            refusals.insert(cursor, done.refusals)
        rebuilds.advance(cursor, state.month, done.reached)


def _check(stores: Stores, state: Rebuild, done_to: int) -> None:
    """Check that the new index equals the log, before any search uses it."""
    report = verify_index(stores, state.month, state.name, wanted=Range(to=done_to), quick=True)
    if not report.equal:
        raise IndexUnavailable(
            f"index {state.name} is not what the log says ({len(report.differences)} differences):"
            " the old one stays in use; run the command again"
        )


def _swap(stores: Stores, state: Rebuild, done_to: int) -> str:
    """Swap the indexes in one transaction; return the old index's name."""
    reading = stores.connect()
    try:
        with transaction(stores.connection) as cursor:
            # From here on the watermark stands still, and the leader can move nothing.
            mark = watermark.draw_fence_within(cursor)
            done_to = max(done_to, mark.seq)
            _write_last(stores, state, reading, mark.seq)
            _remove_erased(stores, state, reading)
            indexes.refresh(stores.client, [state.name])
            return rebuilds.swap(cursor, state, done_to)
    finally:
        reading.close()


def _write_last(stores: Stores, state: Rebuild, reading: Connection, to: int) -> None:
    after = rebuilds.list_rebuilds(reading)[state.month].done_to
    if to > after:
        _fill(stores, state, reading, (after, to), pace=_Pace(None), advance=lambda _: None)


def _remove_erased(stores: Stores, state: Rebuild, reading: Connection) -> None:
    """Delete documents of events that were erased meanwhile. The table keeps their seqs until the rebuild ends."""
    seqs = erased.list_of_month(reading, state.month)
    bulk.send(stores.client, [bulk.erase_item(state.name, seq) for seq in seqs], stores.stop)
