"""Reindexing: each month from the log into its next index generation, beside live writes; then a swap.

Searches take the names of the indexes from the snapshot that gives them the watermark, so the swap is one
transaction of the log, and exact: it holds the watermark still, writes the few events that are left, and draws the
next fence, which makes the indexer start again from the watermark, with the new index. Killed at any moment, the
next run goes on from what table index_rebuild says.
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

# What is left when the watermark is held still; well under a second of writing.
_LAST_STRETCH = 2_000
_POLL = 0.02
_VERSION = 1  # below every leader's
GRACE = 3.0  # seconds that searches under way may go on asking for an old index


class Pace:
    """At most so many events a second."""

    def __init__(self, rate: float | None) -> None:
        self._rate, self._next = rate, time.monotonic()
        # A slow pace is kept evenly, and a killed run repeats little.
        self.most = 5_000 if rate is None else max(1, min(5_000, int(rate / 2)))

    def wait(self, events: int) -> None:
        """Wait until so many more may go."""
        if self._rate is None:
            return
        now = time.monotonic()
        time.sleep(max(0.0, self._next - now))
        self._next = max(now, self._next) + events / self._rate


def rebuild(stores: Stores, month: date, *, rate: float | None, advance: Callable[[int], None]) -> Rebuild:
    """Fill the month's next index and put it in the place of the old one, which is left for ``remove_old``.

    Raises:
        IndexUnavailable: the new index is not what the log says, or is gone; the old one is still in use.
    """
    state = rebuilds.list_rebuilds(stores.connection).get(month)
    if state is not None and state.old_name is not None:
        return state  # swapped, then killed
    state = _start(stores, month, state)
    done_to = _fill_until_close(stores, state, Pace(rate), advance)
    indexes.refresh(stores.client, [state.name])
    _check(stores, state, done_to)
    old = _swap(stores, state, done_to)
    indexes.swap_alias(stores.client, stores.settings.index_prefix, remove=[old], add=[state.name])
    return rebuilds.list_rebuilds(stores.connection)[month]


def remove_old(stores: Stores, replaced: list[Rebuild], *, grace: float = GRACE) -> None:
    """Remove replaced indexes once no search under way can still ask for them."""
    if replaced:
        time.sleep(grace)
    for state in replaced:
        if state.old_name is None:
            continue
        # Also here, in case that the swap was the last thing done before a kill.
        swap = {"remove": [state.old_name], "add": [state.name]}
        indexes.swap_alias(stores.client, stores.settings.index_prefix, **swap)
        indexes.delete(stores.client, state.old_name)
        rebuilds.forget(stores.connection, state.month)


def _start(stores: Stores, month: date, state: Rebuild | None) -> Rebuild:
    """Go on with an index that a killed run has begun, or make a new one."""
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


def _fill_until_close(stores: Stores, state: Rebuild, pace: Pace, advance: Callable[[int], None]) -> int:
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
    pace: Pace,
    advance: Callable[[int], None],
) -> None:
    """Write the month's events with seqs[0] < seq ≤ seqs[1]; remember how far it is, for the next run."""
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
    """See that the new index is what the log says, before anybody searches it."""
    report = verify_index(stores, state.month, state.name, wanted=Range(to=done_to), quick=True)
    if not report.equal:
        raise IndexUnavailable(
            f"index {state.name} is not what the log says ({len(report.differences)} differences):"
            " the old one stays in use; run the command again"
        )


def _swap(stores: Stores, state: Rebuild, done_to: int) -> str:
    """Put the new index in the old one's place, in one transaction; return the old one's name."""
    reading = stores.connect()
    try:
        with transaction(stores.connection) as cursor:
            # From here on the watermark stands still, and what the indexer has under way is void.
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
        _fill(stores, state, reading, (after, to), pace=Pace(None), advance=lambda _: None)


def _remove_erased(stores: Stores, state: Rebuild, reading: Connection) -> None:
    """Remove what was erased after it had been read; the indexer keeps the list while there is a rebuild."""
    seqs = erased.list_of_month(reading, state.month)
    bulk.send(stores.client, [bulk.erase_item(state.name, seq) for seq in seqs], stores.stop)
