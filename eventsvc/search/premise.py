"""What an answer of the index is an answer about; while that holds, a tail past its watermark makes it whole."""

from __future__ import annotations

from dataclasses import dataclass

from eventsvc.errors import IndexUnavailable
from eventsvc.index.hits import MOST_EXCLUDED, Scope
from eventsvc.log.read.state import Moment

# With so many seqs since, it is better to ask anew than to search such a tail.
_LONGEST_TAIL = 20_000


@dataclass(frozen=True, slots=True)
class Premise:
    """A state of the log, as far as an answer of the index depends on it.

    Attributes:
        watermark: the answer is about seqs up to here.
        fence: of the watermark; while it is the same, no index was lost and filled again.
        epoch: the erasure epoch.
        failed: the seqs up to the watermark that the index had refused.
        excluded: the seqs that the index was told to leave out.
    """

    watermark: int
    fence: int
    epoch: int
    indexes: tuple[str, ...]
    failed: frozenset[int]
    excluded: tuple[int, ...]

    @classmethod
    def of(cls, moment: Moment) -> Premise:
        """Take what matters out of a moment."""
        return cls(
            watermark=moment.watermark,
            fence=moment.fence,
            epoch=moment.epoch,
            indexes=moment.indexes,
            failed=_failed(moment, moment.watermark),
            excluded=(*moment.erased, *moment.failed),
        )

    @property
    def scope(self) -> Scope:
        """Which documents the index is to be asked for.

        Raises:
            IndexUnavailable: it cannot be asked cheaply.
        """
        if len(self.excluded) > MOST_EXCLUDED:
            raise IndexUnavailable(f"{len(self.excluded)} single events would have to be left out of the hits")
        return Scope(self.indexes, self.watermark, self.excluded)

    def holds(self, moment: Moment) -> bool:
        """Tell whether an answer about this and the tail past its watermark are what the log holds at a moment."""
        return (
            (self.fence, self.epoch) == (moment.fence, moment.epoch)
            and 0 <= moment.watermark - self.watermark <= _LONGEST_TAIL
            and set(self.indexes) <= set(moment.indexes)
            and self.failed == _failed(moment, self.watermark)
        )


def _failed(moment: Moment, watermark: int) -> frozenset[int]:
    return frozenset(seq for seq in moment.failed if seq <= watermark)
