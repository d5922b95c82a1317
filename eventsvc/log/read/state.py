"""What can be asked of the log in one statement, together with the state of the log at that moment."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol, TypeVar

import msgspec
from psycopg2 import sql

from eventsvc.log.filter import Filter
from eventsvc.log.progress.horizon import LAST_SEQ

Row = tuple[Any, ...]  # (part, and the nine columns that every part has)
Part = tuple[sql.Composed, list[Any]]

PART_HEADER = 0


class Moment(msgspec.Struct, frozen=True):
    """What one statement saw of the log's state, beside what it was asked.

    Attributes:
        watermark: every event up to this seq is in the index, save those in ``failed``.
        fence: the watermark's; another one may mean that documents were lost or written anew.
        epoch: the erasure epoch.
        erased: seqs that are gone from the log but perhaps not yet from the index.
        failed: seqs that the index refused.
        indexes: the names of the indexes that hold the log up to the watermark, by month.
        drawn: the highest seq drawn, by events committed, under way or given up.
        layout: changes when months are made or dropped, or when the server starts: after a restore or a failover
            equal seqs may stand for other events.
    """

    watermark: int
    fence: int
    epoch: int
    erased: tuple[int, ...]
    failed: tuple[int, ...]
    indexes: tuple[str, ...]
    drawn: int
    layout: str

    @property
    def lag(self) -> int:
        """How many seqs the index is behind."""
        return max(0, self.drawn - self.watermark)

    def extends(self, base: Moment, *, most: int) -> bool:
        """Tell whether what the index says about ``base``, and the tail past its watermark, are what the log holds now.

        Args:
            base: an earlier moment.
            most: with more seqs between the two watermarks, it is better to ask the index anew.
        """
        return (
            (self.fence, self.epoch) == (base.fence, base.epoch)
            and 0 <= self.watermark - base.watermark <= most
            and set(base.indexes) <= set(self.indexes)
            and _refused(base, base.watermark) == _refused(self, base.watermark)
        )


def _refused(moment: Moment, watermark: int) -> frozenset[int]:
    return frozenset(seq for seq in moment.failed if seq <= watermark)


class Answered(Protocol):
    """What every answer says beside itself."""

    @property
    def moment(self) -> Moment:
        """The state of the log that it is an answer about."""

    @property
    def settled(self) -> bool:
        """No seq up to ``moment.drawn`` was still under way.

        The answer can then only change when ``drawn``, ``epoch`` or ``layout`` do.
        """


AnswerT_co = TypeVar("AnswerT_co", bound=Answered, covariant=True)


class Question(Protocol[AnswerT_co]):
    """One kind of question: its part of the statement, and what to make of the rows."""

    def compose(self, matching: Filter) -> list[Part]:
        """Give SELECTs of a part number > 0 and the nine columns, and their parameters."""

    def decode(self, rows: Sequence[Row], moment: Moment, *, settled: bool) -> AnswerT_co:
        """Make the answer out of the rows of those parts, which come in any order."""


EVENT_COLUMNS = (  # those of Event, in its order
    "seq, id::text, (extract(epoch FROM created_at) * 1000)::bigint, event_occurred(occurred_at, created_at),"
    " email, environment, component, message, data"
)
COLUMNS = sql.SQL(EVENT_COLUMNS)
HEADER = sql.SQL(
    "SELECT 0 AS part, NULL::bigint, NULL, NULL::bigint, NULL::bigint, NULL, NULL, NULL, NULL, jsonb_build_object("
    "'watermark', (SELECT seq FROM watermark), 'fence', (SELECT fence FROM watermark),"
    " 'epoch', (SELECT epoch FROM erasure_epoch),"
    " 'erased', (SELECT coalesce(jsonb_agg(seq ORDER BY seq), '[]') FROM erased),"
    " 'failed', (SELECT coalesce(jsonb_agg(seq ORDER BY seq), '[]') FROM index_failure),"
    " 'indexes', (SELECT coalesce(jsonb_agg(index_name ORDER BY month), '[]') FROM index_month),"
    " 'drawn', ({}), 'layout', (SELECT concat_ws('.', count(*), sum(inhrelid::bigint),"
    " extract(epoch FROM pg_postmaster_start_time())) FROM pg_inherits WHERE inhparent = 'event'::regclass))"
).format(sql.SQL(LAST_SEQ))
