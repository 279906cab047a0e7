"""The cleaner's pure decisions: whose past an object belongs to, when a delay is over, how long to rest."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from database.cleaner.history import Epoch, History, Server
from database.cleaner.pace import BUSY_WAL_BYTES, MOST_SECONDS, Pace, TrustedClock
from pipeline.position import Lsn, Position

START = datetime(2026, 11, 23, tzinfo=UTC)


def epoch(number: int, timeline: int, begins_at: int, system: str = "A") -> Epoch:
    return Epoch(epoch=number, system_identifier=system, timeline=timeline, begins_at=Lsn(begins_at))


def history(timeline: int, current: int | None, *epochs: Epoch) -> History:
    return History(epochs, Server(system_identifier="A", timeline=timeline, in_recovery=False), current)


def test_after_a_promotion_what_was_committed_before_it_is_still_ours() -> None:
    after = history(2, 2, epoch(1, 1, 0), epoch(2, 2, 100))
    assert after.holds(Position(1, 99, 5))
    assert not after.holds(Position(1, 100, 0)), "committed on the old primary after we had parted"
    assert after.holds(Position(2, 100, 0))


def test_what_a_recovery_has_undone_is_not_ours() -> None:
    after = history(3, 3, epoch(1, 1, 0), epoch(2, 2, 100), epoch(3, 3, 50))
    assert after.holds(Position(1, 49, 0))
    assert not after.holds(Position(1, 70, 0))
    assert not after.holds(Position(2, 120, 0))


def test_another_server_or_timeline_than_the_streamers_is_not_known() -> None:
    assert not history(2, 1, epoch(1, 1, 0)).is_known
    assert not history(1, 1, epoch(1, 1, 0, system="B")).is_known
    assert not history(1, None, epoch(1, 1, 0)).is_known
    assert not history(1, 1, epoch(1, 1, 0)).holds(Position(2, 10, 0))


def test_of_two_copies_with_the_same_timeline_only_the_streamers_counts() -> None:
    after = history(2, 3, epoch(1, 1, 0), epoch(2, 2, 80), epoch(3, 2, 60))
    assert after.holds(Position(3, 70, 0))
    assert not after.holds(Position(2, 90, 0))
    assert not after.holds(Position(1, 70, 0))


@given(st.lists(st.tuples(st.floats(0, 50), st.floats(-5000, 5000)), min_size=1, max_size=30))
def test_the_trusted_clock_never_runs_ahead_of_the_counted_seconds(steps: list[tuple[float, float]]) -> None:
    """GIVEN a database clock that is set to and fro, THEN no more trusted time than counted time passes."""
    clock = TrustedClock(window_seconds=1e9)
    monotonic, jump = 100.0, 0.0
    first = clock.now(START, monotonic)
    for elapsed, jumped in steps:
        monotonic += elapsed
        jump += jumped
        now = clock.now(START + timedelta(seconds=monotonic - 100 + jump), monotonic)
        assert now - first <= timedelta(seconds=monotonic - 100 + 1e-3)
        assert now <= START + timedelta(seconds=monotonic - 100 + jump + 1e-3)


def test_a_jump_forward_is_forgiven_after_the_window() -> None:
    clock = TrustedClock(window_seconds=60)
    clock.now(START, 0)
    later = START + timedelta(days=1)
    assert clock.now(later, 1) == START + timedelta(seconds=1)
    assert clock.now(later + timedelta(seconds=69), 70) == later + timedelta(seconds=69)


def test_the_slower_the_database_the_longer_the_rest() -> None:
    pace = Pace()
    assert pace.rest_seconds(1000, 0.02, 0) == 0.02
    assert pace.rest_seconds(1000, 0.04, 0) == 0.08
    assert pace.rest_seconds(1000, 10.0, 0) == MOST_SECONDS
    assert pace.rest_seconds(1000, 0.02, BUSY_WAL_BYTES + 1) == 0.08
    assert pace.rest_seconds(10, 0.0002, 0) == 0.0002
