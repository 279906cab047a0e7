"""Is this record the next one? Loss and repetition between streamer and processor are detected, not assumed away."""

from __future__ import annotations

from enum import Enum
from typing import Protocol

from pipeline.position import Position


class Stand(Protocol):
    """Where a partition stands: the last event that was taken."""

    @property
    def last_sequence(self) -> int:
        """-1: none."""
        ...

    @property
    def last_position(self) -> Position:
        """ZERO: none."""
        ...


class Verdict(Enum):
    """What a record is to a partition that stands somewhere."""

    NEXT = "next"
    REPEAT = "repeat"
    HOLE = "hole"


def judge(stand: Stand, sequence: int, position: Position) -> Verdict:
    """NEXT takes the record, REPEAT drops it, HOLE means that records before it are missing.

    A smaller sequence with a position that was never seen is no repeat: two writers numbered different events alike,
    so what the sequence says can't be trusted and the raw files decide.
    """
    if position <= stand.last_position:
        return Verdict.REPEAT
    return Verdict.NEXT if sequence == stand.last_sequence + 1 else Verdict.HOLE
