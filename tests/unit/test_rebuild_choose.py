"""What a rebuild takes for committed, and the records that it reads."""

from __future__ import annotations

import contextlib
import itertools
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from database.ledger import records
from database.ledger.chunks import ChunkCommit, ConsumerPosition, ProcessedObject
from database.ledger.records import History, PlannedFile
from database.ledger.revisions import NewObject, Revision
from database.ledger.stream import KafkaTail
from database.rebuild.cells import committed
from database.rebuild.choose import Step, choose
from database.rebuild.raw import tails_after
from pipeline import gzip, rawfile
from pipeline.errors import PoisonError
from pipeline.events import Event, partition_of
from pipeline.layout import Layout, Layouts
from pipeline.position import Lsn, Position

HOUR = datetime(2026, 11, 23, 5, tzinfo=UTC)


def way(*edges: tuple[int, int], proven: tuple[tuple[int, int], ...] = ()) -> tuple[list[tuple[int, int]], int, int]:
    found = choose(
        [Step(item=edge, before=edge[0], after=edge[1], is_proven=edge in proven) for edge in edges],
        order=lambda place: place or 0,  # type: ignore[return-value]
    )
    return found.taken, len(found.gaps), len(found.conflicts)


@given(st.lists(st.integers(1, 9), min_size=1, max_size=40), st.data())
def test_the_committed_way_is_found_among_steps_that_died(lengths: list[int], data: st.DataObject) -> None:
    """GIVEN a chain, and steps that begin where one of its steps begins, and on which nothing follows, THEN the chain
    is found; only its last step may be replaced by a longer one, which holds the same and more."""
    places = [0]
    for length in lengths:
        places.append(places[-1] + length * 10)
    chain = list(itertools.pairwise(places))
    dead = [
        (begin, begin + data.draw(st.integers(1, 300)) * 10 + 5)
        for begin in data.draw(st.lists(st.sampled_from(places[:-1]), max_size=10))
    ]
    taken, gaps, _ = way(*data.draw(st.permutations(chain + dead)))
    at_the_end = [step for step in dead if step[0] == chain[-1][0]]
    assert taken[:-1] == chain[:-1]
    assert taken[-1] == max([chain[-1], *at_the_end], key=lambda step: step[1])
    assert gaps == 0


def test_of_two_ends_the_one_counts_of_which_something_was_made() -> None:
    assert way((0, 10), (10, 20), (10, 30), proven=((10, 20),)) == ([(0, 10), (10, 20)], 0, 0)


def test_a_missing_step_is_a_gap_and_the_way_goes_on_behind_it() -> None:
    assert way((0, 10), (20, 30), (30, 40)) == ([(0, 10), (20, 30), (30, 40)], 1, 0)


def test_a_way_may_begin_anywhere_as_retention_leaves_it() -> None:
    assert way((50, 60), (60, 70)) == ([(50, 60), (60, 70)], 0, 0)


def test_a_proven_step_beside_the_way_is_a_conflict() -> None:
    assert way((0, 10), (5, 7), (10, 20), proven=((5, 7), (0, 10))) == ([(0, 10), (10, 20)], 0, 1)


tails = st.dictionaries(
    st.integers(0, 63),
    st.builds(KafkaTail, next_offset=st.integers(0, 2**40), last_sequence=st.integers(-1, 2**40)),
    max_size=30,
)


@given(tails)
def test_kafka_tails_survive_metadata_or_are_left_out(found: dict[int, KafkaTail]) -> None:
    text = records.tails_text(found)
    assert len(text) <= 1000
    assert records.parse_tails(text) == (found if text or not found else {})


@given(st.text(alphabet="0123456789abcz.,-:/", max_size=40))
def test_damaged_metadata_raise_our_own_error(text: str) -> None:
    for parse in (records.parse_tails, records.parse_history):
        with contextlib.suppress(PoisonError):
            parse(text)


def test_histories_survive_metadata() -> None:
    found = [
        History(epoch=1, system_identifier="7381", timeline=1, begins_at=Lsn(0)),
        History(epoch=2, system_identifier="7381", timeline=2, begins_at=Lsn.parse("16/B374D848")),
    ]
    assert records.parse_history(records.history_text(found)) == found


def an_object(key: str = "k") -> ProcessedObject:
    return ProcessedObject(
        kind="client", client_id="c", hour=HOUR, bucket="b", key=key, events=3, bytes=9, sha256="ab",
        privacy_level="gdpr", policy_version="v", min_commit_time=HOUR,
        max_commit_time=HOUR + timedelta(microseconds=1),
    )  # fmt: skip


def test_records_of_chunks_plans_and_revisions_survive() -> None:
    chunk = ChunkCommit(
        id=uuid4(), topic="events.raw", partition=3, generation=1,
        before=ConsumerPosition(next_offset=5, last_sequence=4, last_position=Position(1, 2, 3)),
        after=ConsumerPosition(next_offset=9, last_sequence=8, last_position=Position(1, 3, 0)),
        first_position=Position(1, 2, 4), counts={(HOUR, "c", "c", "out"): 3, (HOUR, "", "", "repeat"): 1},
        objects=[an_object()],
    )  # fmt: skip
    assert records.decode_chunk(records.encode_chunk(chunk)) == chunk
    plan = records.Plan(
        client_id="c", run_key="20261123T0500-hourly", frequency="hourly", bucket="b", prefix="in/", started_at=HOUR,
        complete_through=None, files=(PlannedFile(key="in/f", hour=HOUR, policy_version="v", members=("k", "l")),),
    )  # fmt: skip
    assert records.decode_plan(records.encode_plan(plan)) == plan
    rows = {(chunk.id, (HOUR, "c", "c", "out")): 3}
    revision = Revision(
        id=7, cause="replay", client_id="c", hour=HOUR, superseded=[1], removed=rows,
        added={(chunk.id, (HOUR, "c", "c", "dropped_consent")): 3},
        objects=[NewObject(chunk_id=chunk.id, object=an_object("new"))],
    )  # fmt: skip
    found = records.decode_revision(records.encode_revision(revision, ["k"]))
    assert (found.id, found.superseded, found.removed, found.added) == (7, ("k",), rows, revision.added)
    assert list(found.objects) == revision.objects


@pytest.mark.parametrize(
    "decode", [records.decode_layout, records.decode_chunk, records.decode_plan, records.decode_revision]
)
@pytest.mark.parametrize("body", [b"", b"{}", b"\x1f\x8b", gzip.member(b"{}"), gzip.member(b"[1]")])
def test_a_damaged_record_raises_our_own_error(decode: object, body: bytes) -> None:
    with pytest.raises(PoisonError):
        decode(body)  # type: ignore[operator]


def a_revision(number: int, superseded: str, made: str) -> records.RevisionRecord:
    return records.RevisionRecord(
        id=number, cause="replay", client_id="c", hour=HOUR, superseded=(superseded,), removed={}, added={},
        objects=(NewObject(chunk_id=UUID(int=0), object=an_object(made)),), summary={},
    )  # fmt: skip


def test_of_two_revisions_of_one_object_the_used_one_was_committed_else_the_later() -> None:
    first, second, third = a_revision(1, "a", "b"), a_revision(2, "a", "c"), a_revision(3, "b", "d")
    none: frozenset[str] = frozenset()
    assert committed([first, second], frozenset(), none) == [second]
    assert committed([first, second, third], frozenset(), none) == [first, third]
    assert committed([first, second], frozenset(), frozenset({"b"})) == [first]
    assert committed([first, second], frozenset({1}), none) == [first]


def test_tails_count_on_what_never_reached_kafka() -> None:
    """GIVEN ten events over two partitions of which Kafka has four of the first partition and none of the second, THEN
    the sequences go on over the missing ones, so that the processor finds a hole."""
    keys = [next(str(n).encode() for n in range(100) if partition_of(str(n).encode(), 2) == p) for p in (0, 1)]
    events = [
        Event(Position(1, 100, n), 0, keys[n % 2], keys[n % 2], b'{"id":1,"client_id":"%b"}' % keys[n % 2])
        for n in range(10)
    ]
    body = rawfile.encode_block(events)
    prior = {0: KafkaTail(next_offset=7, last_sequence=5), 1: KafkaTail(next_offset=3, last_sequence=2)}
    found = tails_after(body, {0: (10, 9, Position(1, 100, 6))}, prior, Layouts([Layout(partitions=2)]))
    assert found == {
        0: KafkaTail(next_offset=12, last_sequence=10),
        1: KafkaTail(next_offset=8, last_sequence=7),
    }
