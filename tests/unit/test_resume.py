"""Where the streamer goes on: never past what the ledger knows, never twice what Kafka holds."""

import pytest

from database.ledger.stream import KafkaTail, StreamState
from database.source import Slot
from pipeline.errors import PermanentError
from pipeline.position import ZERO, Lsn, Position
from streamer.outbox import PartitionStart
from streamer.resume import Plan, Start, decide, left_behind_elsewhere
from streamer.tails import FoundTail, starts
from streamer.transactions import EpochMap


def slot(confirmed: int, wal_status: str = "reserved") -> Slot:
    return Slot(
        confirmed_flush=Lsn(confirmed),
        active=False,
        wal_status=wal_status,
        lag_bytes=0,
        retained_bytes=0,
        safe_wal_bytes=None,
    )


HISTORY = EpochMap([(Lsn(0), 1)])
PROMOTED = EpochMap([(Lsn(0), 1), (Lsn(50), 3)])
END = Lsn(1000)


def state(confirmed: int, kind: str = "streaming", epoch: int = 1, last: Position | None = None) -> StreamState:
    return StreamState(slot="s", epoch=epoch, state=kind, confirmed_lsn=Lsn(confirmed), last_position=last)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("found", "known", "history", "expected"),
    [
        (None, None, HISTORY, Plan(start=Start.SNAPSHOT, reason="first_start")),
        (None, state(5), HISTORY, Plan(start=Start.SNAPSHOT, reason="slot_missing")),
        (slot(5), state(5, "snapshot"), HISTORY, Plan(start=Start.SNAPSHOT, reason="unfinished")),
        (slot(5, "lost"), state(5), HISTORY, Plan(start=Start.SNAPSHOT, reason="slot_lost")),
        (slot(5), state(5, epoch=2), PROMOTED, Plan(start=Start.SNAPSHOT, reason="other_history")),
        (slot(5), state(5), HISTORY, Plan(start=Start.STREAM, begin_lsn=Lsn(5))),
        (slot(4), state(5), HISTORY, Plan(start=Start.STREAM, begin_lsn=Lsn(5))),
    ],
)
def test_a_missing_lost_unfinished_or_strange_slot_begins_with_a_snapshot(
    found: Slot | None, known: StreamState | None, history: EpochMap, expected: Plan
) -> None:
    assert decide(found, known, history, END) == expected


def test_on_a_promoted_server_the_stream_goes_on_where_the_histories_part() -> None:
    plan = decide(slot(40), state(70), PROMOTED, END)
    assert plan == Plan(start=Start.STREAM, begin_lsn=Lsn(50)), "commits from 50 to 70 are others there"
    assert decide(slot(40), state(45), PROMOTED, END).begin_lsn == 45
    with pytest.raises(PermanentError, match="events between are lost"):
        decide(slot(60), state(70), PROMOTED, END)


def test_a_slot_ahead_of_the_ledger_is_an_error_and_not_a_silent_hole() -> None:
    with pytest.raises(PermanentError, match="events between are lost"):
        decide(slot(6), state(5), HISTORY, END)


def test_a_slot_that_the_ledger_has_never_heard_of_is_an_error() -> None:
    with pytest.raises(PermanentError, match="never heard"):
        decide(slot(6), None, HISTORY, END)


@pytest.mark.parametrize("found", [None, slot(5)])
@pytest.mark.parametrize(
    "known", [state(2000), state(5, last=Position(1, 2000, 0)), state(5, "snapshot", last=Position(1, 2000, 0))]
)
def test_a_server_that_was_set_back_on_its_timeline_is_an_error_since_new_events_would_pass_for_repeats(
    found: Slot | None, known: StreamState
) -> None:
    with pytest.raises(PermanentError, match="set back"):
        decide(found, known, HISTORY, END)


@pytest.mark.parametrize("known", [state(5, epoch=2), state(5, last=Position(2, 7, 0))])
def test_a_server_of_an_earlier_history_is_an_error_since_new_events_would_pass_for_repeats(known: StreamState) -> None:
    with pytest.raises(PermanentError, match="history is epoch 1"):
        decide(None, known, HISTORY, END)


def test_events_in_kafka_that_only_a_lost_server_had_need_a_snapshot() -> None:
    recorded = Position(1, 30, 0)
    assert not left_behind_elsewhere([None, Position(1, 45, 0), Position(3, 60, 0)], recorded, PROMOTED, END)
    assert left_behind_elsewhere([Position(1, 45, 0), Position(1, 55, 0)], recorded, PROMOTED, END)
    assert not left_behind_elsewhere([Position(1, 55, 0)], Position(1, 55, 0), PROMOTED, END)


@pytest.mark.parametrize("tail", [Position(4, 1, 0), Position(3, 2000, 0)])
def test_kafka_ahead_of_ledger_and_server_is_an_error_since_new_events_would_pass_for_sent_ones(tail: Position) -> None:
    with pytest.raises(PermanentError, match="neither the ledger nor the server"):
        left_behind_elsewhere([tail], Position(1, 30, 0), PROMOTED, END)


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
        0: PartitionStart(
            next_offset=10,
            last_sequence=9,
            sent_until=Position(1, 120, 0),
            recorded_until=recorded,
            recorded_sequence=7,
        ),
        1: PartitionStart(
            next_offset=4, last_sequence=5, sent_until=recorded, recorded_until=recorded, recorded_sequence=5
        ),
        2: PartitionStart(next_offset=0, last_sequence=-1, sent_until=recorded, recorded_until=recorded),
    }


def test_an_empty_topic_and_an_empty_ledger_start_at_zero() -> None:
    found = {0: FoundTail(next_offset=0, last_sequence=-1, last_position=None)}
    assert starts(found, {}, None) == {0: PartitionStart(next_offset=0, last_sequence=-1, sent_until=ZERO)}
