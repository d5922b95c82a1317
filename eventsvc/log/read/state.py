"""The state of the log, and how a question is answered together with the state in one statement."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

import msgspec
from psycopg2 import sql

from eventsvc.log.filter import Filter
from eventsvc.log.progress.horizon import LAST_SEQ

Row = tuple[Any, ...]  # the number of the part, and nine columns
Part = tuple[sql.Composed, list[Any]]

PART_HEADER = 0


class LogState(msgspec.Struct, frozen=True):
    """The state of the log that an answer depends on, as one statement saw it.

    Attributes:
        watermark: every event up to this seq is in the index, except those in ``refused``.
        fence: the current fence. A new fence may mean that documents were lost or written anew.
        epoch: the erasure epoch.
        erased: the seqs of events that are erased from the log, but perhaps not yet from the index.
        refused: the seqs of events that the index has refused.
        indexes: the names of the current indexes, by month.
        drawn: the highest seq drawn, whether its event is committed, under way or rolled back.
        layout: a text that changes when a month is made or dropped, and when PostgreSQL starts. After a restore or a
            failover, a seq may belong to another event, so earlier answers are void.
    """

    watermark: int
    fence: int
    epoch: int
    erased: tuple[int, ...]
    refused: tuple[int, ...]
    indexes: tuple[str, ...]
    drawn: int
    layout: str

    @property
    def lag(self) -> int:
        """How many seqs the index is behind the log."""
        return max(0, self.drawn - self.watermark)

    def extends(self, base: LogState, *, most: int, despite_erasures: bool = False) -> bool:
        """Tell whether an index answer about ``base`` is still exact when joined with the tail past base's watermark.

        Args:
            base: an earlier state.
            most: how far apart the two watermarks may be. With a longer tail it is better to ask the index again.
            despite_erasures: the answer is exact even if events were erased since.
        """
        return (
            self.fence == base.fence
            and (self.epoch == base.epoch or (despite_erasures and self.epoch > base.epoch))
            and 0 <= self.watermark - base.watermark <= most
            and set(base.indexes) <= set(self.indexes)
            and _refused(base, base.watermark) == _refused(self, base.watermark)
        )

    def has_the_events_of(self, earlier: LogState) -> bool:
        """Tell whether every event that was in the log at an earlier state still is, apart from events under way."""
        return (self.epoch, self.layout) == (earlier.epoch, earlier.layout)


def _refused(state: LogState, watermark: int) -> frozenset[int]:
    return frozenset(seq for seq in state.refused if seq <= watermark)


ContentT = TypeVar("ContentT")
ContentT_co = TypeVar("ContentT_co", covariant=True)


class Question(Protocol[ContentT_co]):
    """A kind of question: composes its part of the statement, and decodes the rows."""

    def compose(self, matching: Filter) -> list[Part]:
        """Compose SELECTs, each of a part number > 0 and nine columns, with their parameters."""

    def decode(self, rows: Sequence[Row]) -> ContentT_co:
        """Make the content of the answer from the rows of these parts, which come in any order; no rows: no events."""


@dataclass(frozen=True, slots=True)
class LogAnswer(Generic[ContentT]):
    """The answer of the log to a question.

    Attributes:
        state: the state of the log that the answer is about.
        settled: whether no event up to ``state.drawn`` was under way. If so, the answer changes only when ``drawn``,
            ``epoch`` or ``layout`` change.
    """

    content: ContentT
    state: LogState
    settled: bool


CREATED_AT = "(extract(epoch FROM created_at) * 1000)::bigint"  # in ms since 1970
EVENT_COLUMNS = (  # in the order of the fields of Event
    f"seq, id::text, {CREATED_AT}, event_occurred(occurred_at, created_at),"
    " email, environment, component, message, data"
)
COLUMNS = sql.SQL(EVENT_COLUMNS)
HEADER = sql.SQL(
    "SELECT 0 AS part, NULL::bigint, NULL, NULL::bigint, NULL::bigint, NULL, NULL, NULL, NULL, jsonb_build_object("
    "'watermark', (SELECT seq FROM watermark), 'fence', (SELECT fence FROM watermark),"
    " 'epoch', (SELECT epoch FROM erasure_epoch),"
    " 'erased', (SELECT coalesce(jsonb_agg(seq ORDER BY seq), '[]') FROM erased),"
    " 'refused', (SELECT coalesce(jsonb_agg(seq ORDER BY seq), '[]') FROM index_failure),"
    " 'indexes', (SELECT coalesce(jsonb_agg(index_name ORDER BY month), '[]') FROM index_month),"
    " 'drawn', ({}), 'layout', (SELECT concat_ws('.', count(*), sum(inhrelid::bigint),"
    " extract(epoch FROM pg_postmaster_start_time())) FROM pg_inherits WHERE inhparent = 'event'::regclass))"
).format(sql.SQL(LAST_SEQ))
