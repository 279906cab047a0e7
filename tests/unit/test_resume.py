"""Where the streamer goes on: never past what the ledger knows, never twice what Kafka holds."""

import pytest

from database.ledger.stream import KafkaTail, StreamState
from database.source import Slot
from pipeline.errors import PermanentError
from pipeline.position import ZERO, Lsn, Position
from streamer.publisher import PartitionStart
from streamer.resume import Start, decide
from streamer.tails import FoundTail, starts


def slot(confirmed: int, wal_status: str = "reserved") -> Slot:
    return Slot(confirmed_flush=Lsn(confirmed), active=False, wal_status=wal_status, lag_bytes=0, safe_wal_bytes=None)


def state(confirmed: int, kind: str = "streaming") -> StreamState:
    return StreamState(slot="s", epoch=1, state=kind, confirmed_lsn=Lsn(confirmed), last_position=None)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("found", "known", "expected"),
    [
        (None, None, Start.SNAPSHOT),
        (None, state(5), Start.SNAPSHOT),
        (slot(5), state(5, "snapshot"), Start.SNAPSHOT),
        (slot(5, "lost"), state(5), Start.SNAPSHOT),
        (slot(5), state(5), Start.STREAM),
        (slot(4), state(5), Start.STREAM),
    ],
)
def test_a_missing_lost_or_unfinished_slot_begins_with_a_snapshot(
    found: Slot | None, known: StreamState | None, expected: Start
) -> None:
    assert decide(found, known) is expected


def test_a_slot_ahead_of_the_ledger_is_an_error_and_not_a_silent_hole() -> None:
    with pytest.raises(PermanentError, match="events between are lost"):
        decide(slot(6), state(5))


def test_a_slot_that_the_ledger_has_never_heard_of_is_an_error() -> None:
    with pytest.raises(PermanentError, match="never heard"):
        decide(slot(6), None)


def test_a_partition_goes_on_after_kafkas_tail_or_the_ledgers_whichever_is_further() -> None:
    recorded = Position(1, 100, 0)
    found = {
        0: FoundTail(next_offset=10, last_sequence=9, last_position=Position(1, 120, 0)),
        1: FoundTail(next_offset=4, last_sequence=3, last_position=Position(1, 50, 0)),
        2: FoundTail(next_offset=0, last_sequence=-1, last_position=None),
    }
    known = {
        0: KafkaTail(next_offset=8, last_sequence=7),
        1: KafkaTail(next_offset=6, last_sequence=5),
        2: KafkaTail(next_offset=0, last_sequence=-1),
    }
    assert starts(found, known, recorded) == {
        0: PartitionStart(next_offset=10, last_sequence=9, sent_until=Position(1, 120, 0)),
        1: PartitionStart(next_offset=4, last_sequence=5, sent_until=recorded),
        2: PartitionStart(next_offset=0, last_sequence=-1, sent_until=recorded),
    }


def test_an_empty_topic_and_an_empty_ledger_start_at_zero() -> None:
    found = {0: FoundTail(next_offset=0, last_sequence=-1, last_position=None)}
    assert starts(found, {}, None) == {0: PartitionStart(next_offset=0, last_sequence=-1, sent_until=ZERO)}
