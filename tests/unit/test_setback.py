"""What proves that a ledger was set back, and what only looks like it."""

from __future__ import annotations

from datetime import UTC, datetime
from itertools import pairwise
from uuid import uuid4

from hypothesis import given
from hypothesis import strategies as st

from database.ledger import records
from database.ledger.chunks import NOWHERE, ChunkCommit, ConsumerPosition
from database.ledger.setback import proven_sequence
from pipeline.position import Position

HOUR = datetime(2026, 11, 23, 5, tzinfo=UTC)


def at(sequence: int) -> ConsumerPosition:
    position = Position(1, 1 + sequence, 0)
    return ConsumerPosition(next_offset=sequence + 1, last_sequence=sequence, last_position=position)


def record(before: ConsumerPosition, after: ConsumerPosition) -> bytes:
    chunk = ChunkCommit(
        id=uuid4(), topic="t", partition=0, generation=1, before=before, after=after,
        first_position=after.last_position, counts={(HOUR, "c", "c", "out"): 1}, objects=[],
    )  # fmt: skip
    return records.encode_chunk(chunk)


@given(st.lists(st.integers(1, 50), min_size=1, max_size=8), st.data())
def test_records_prove_a_ledger_that_lost_two_chunks_and_never_one_that_is_right(
    lengths: list[int], data: st.DataObject
) -> None:
    """GIVEN chunks of a partition, and attempts that died before their commit, THEN no record is ahead of the ledger;
    of a ledger that lacks the last two or more, the newest record is."""
    stands = [NOWHERE]
    for length in lengths:
        stands.append(at(stands[-1].last_sequence + length))
    written = [record(before, after) for before, after in pairwise(stands)]
    died = [record(before, at(before.last_sequence + 99)) for before in data.draw(st.lists(st.sampled_from(stands)))]
    assert proven_sequence([*written, *died]) <= stands[-1].last_sequence
    for lost in range(2, len(stands)):
        assert proven_sequence(written[-1:]) > stands[-1 - lost].last_sequence


def test_a_damaged_record_proves_nothing() -> None:
    assert proven_sequence([b"", b"{}", record(at(4), at(9))]) == 4
    assert proven_sequence([]) == -1


@given(st.integers(0, 10**12), st.integers(0, 10**12))
def test_a_listing_of_later_chunks_leaves_out_those_that_begin_at_the_place_itself(place: int, begin: int) -> None:
    prefix, after = records.chunks_after("t", 3, place)
    key = records.chunk_key("t", 3, begin, uuid4())
    assert key.startswith(prefix)
    assert (key > after) == (begin > place)


def test_a_listing_of_later_runs_leaves_out_the_run_itself() -> None:
    keys = ["20261123T0459-daily", "20261123T0500-hourly", "20261123T050030-manual", "20261124T0000-hourly"]
    for listing, key_of in ((records.plans_after, records.plan_key), (records.manifests_after, records.manifest_key)):
        prefix, after = listing("c", keys[1])
        found = [key for key in keys if key_of("c", key) > after]
        assert all(key_of("c", key).startswith(prefix) for key in keys)
        assert found == keys[2:]
