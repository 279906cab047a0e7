"""Batches for Kafka: the bytes that aiokafka's own builder makes, in order, dense, and nothing twice."""

from typing import Any

import pytest
from aiokafka.producer.message_accumulator import BatchBuilder
from aiokafka.record.memory_records import MemoryRecords
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.events import Event, partition_of
from pipeline.kafka import headers
from pipeline.layout import Layout
from pipeline.position import ZERO, Position
from streamer.outbox import Outbox, PartitionStart
from streamer.recordbatch import RecordBatch

NOW_MS = 1_764_000_000_123

events = st.builds(
    Event,
    position=st.builds(Position, st.integers(0, 2**31 - 1), st.integers(0, 2**63 - 1), st.integers(0, 2**63 - 1)),
    commit_time=st.integers(0, 2**62),
    key=st.one_of(st.none(), st.binary(max_size=300)),
    client_id=st.none(),
    line=st.one_of(st.binary(max_size=200), st.integers(0, 30_000).map(lambda size: b"x" * size)),
)


@settings(max_examples=60, deadline=None)
@given(st.lists(events, min_size=1, max_size=70), st.sampled_from([200, 2_000, 64_000]), st.integers(0, 2**40))
def test_a_batch_is_byte_for_byte_what_aiokafka_would_send(batch: list[Event], limit: int, sequence: int) -> None:
    ours = RecordBatch(NOW_MS, limit)
    theirs: Any = BatchBuilder(limit, 0)
    for number, event in enumerate(batch):
        value = event.line if number % 7 else None
        taken = ours.append(event.key, value, event.position, sequence + number, event.commit_time)
        record_headers = headers(event, sequence + number)
        expected = theirs.append(timestamp=NOW_MS, key=event.key, value=value, headers=record_headers)
        assert taken is (expected is not None)
        if not taken:
            break
    assert ours.record_count() == theirs.record_count()
    assert ours.size() == theirs.size()
    for builder in (ours, theirs):
        builder.close()
        builder._set_producer_state(77, 3, 12_345)
    assert bytes(ours._build()) == bytes(theirs._build())
    assert ours._build() is ours._build()  # sent again, it is the same


def test_a_reader_finds_the_records_of_a_batch_of_thousands() -> None:
    batch = RecordBatch(NOW_MS, 1 << 20)
    count = 10_000
    for number in range(count):
        assert batch.append(b"k", b"%d" % number, Position(1, 2, number), number, 5)
    batch._set_producer_state(1, 0, 0)
    found = MemoryRecords(bytes(batch._build())).next_batch()
    assert found is not None
    assert found.validate_crc()
    records = list(found)
    assert [(record.offset, record.value) for record in records] == [(n, b"%d" % n) for n in range(count)]
    assert dict(records[-1].headers)["sequence"] == (count - 1).to_bytes(8, "big")


def starts(count: int, **more: Any) -> dict[int, PartitionStart]:
    return {
        partition: PartitionStart(next_offset=0, last_sequence=-1, sent_until=more.get("sent_until", ZERO))
        for partition in range(count)
    }


def drain(outbox: Outbox, layout: Layout, batch: list[Event]) -> list[tuple[int, RecordBatch]]:
    sent, at = [], 0
    while at < len(batch):
        at, full = outbox.fill(layout, batch, at, NOW_MS)
        if full >= 0:
            sent.append((full, outbox.taken(full).records))
    return sent + [(partition, outbox.taken(partition).records) for partition in list(outbox.open)]


def read(sent: list[tuple[int, RecordBatch]]) -> dict[int, list[tuple[int, bytes | None]]]:
    found: dict[int, list[tuple[int, bytes | None]]] = {}
    for partition, batch in sent:
        records: Any = MemoryRecords(bytes(batch._build())).next_batch()
        for record in records:
            sequence = int.from_bytes(dict(record.headers)["sequence"], "big")
            found.setdefault(partition, []).append((sequence, record.value))
    return found


def some_events(count: int, *, size: int = 10) -> list[Event]:
    keys = [b"client-%d" % (n % 23) if n % 5 else None for n in range(count)]
    return [Event(Position(1, 10 + n // 3, n % 3), 5, key, None, b"%d" % n + b" " * size) for n, key in enumerate(keys)]


@pytest.mark.parametrize("batch_bytes", [150, 1000, 1 << 20])
def test_each_partition_gets_its_events_in_order_under_dense_sequences(batch_bytes: int) -> None:
    given_events = some_events(200)
    outbox = Outbox(starts(4), batch_bytes=batch_bytes, largest_bytes=1 << 20)
    found = read(drain(outbox, Layout(partitions=4), given_events))
    for partition in range(4):
        expected = [event.line for event in given_events if partition_of(event.key, 4) == partition]
        assert found[partition] == list(enumerate(expected))
    assert outbox.last == given_events[-1].position
    assert outbox.mark() == {p: len(found[p]) - 1 for p in range(4)}


def test_events_that_the_partition_has_already_are_not_sent_again() -> None:
    given_events = some_events(60)
    cut = given_events[29].position
    outbox = Outbox(starts(4, sent_until=cut), batch_bytes=500, largest_bytes=1 << 20)
    found = read(drain(outbox, Layout(partitions=4), given_events))
    assert sorted(line for lines in found.values() for _, line in lines if line) == sorted(
        event.line for event in given_events[30:]
    )


def test_an_event_larger_than_the_topic_takes_goes_without_key_and_value_to_its_own_partition() -> None:
    large = some_events(1, size=5000)[0]._replace(key=b"client-3")
    outbox = Outbox(starts(4), batch_bytes=1 << 20, largest_bytes=4000)
    assert read(drain(outbox, Layout(partitions=4), [large])) == {partition_of(b"client-3", 4): [(0, None)]}


def test_another_layout_moves_the_events_after_it() -> None:
    batch = some_events(40)
    outbox = Outbox(starts(4), batch_bytes=1 << 20, largest_bytes=1 << 20)
    outbox.fill(Layout(partitions=4), batch[:20], 0, NOW_MS)
    for partition in range(4, 8):
        outbox.begin(partition, PartitionStart(next_offset=0, last_sequence=-1, sent_until=batch[19].position))
    found = read(drain(outbox, Layout(partitions=8), batch[20:]))
    expected = {partition_of(event.key, 8) for event in batch[20:]} | {
        partition_of(event.key, 4) for event in batch[:20]
    }
    assert set(found) == expected
    assert sum(map(len, found.values())) == 40
