"""Events that Kafka holds and no raw object does, taken into one before a snapshot begins.

A streamer that died left them behind. While the slot lives it sends them again, at the same positions; a snapshot
would read them from the table at new ones, and they would arrive twice.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping

from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition
from aiokafka.errors import KafkaError

from database.ledger.stream import KafkaTail
from pipeline.errors import TransientError
from pipeline.events import Event
from pipeline.kafka import is_fence, is_pointer, read_headers
from pipeline.position import ZERO, Position
from pipeline.record import text_column
from streamer.tails import FoundTail

BATCH_EVENTS = 1000
BATCH_BYTES = 4 << 20

_TIMEOUT_SECONDS = 30
_STEP_BACK = 1000


async def unrecorded_events(
    consumer: AIOKafkaConsumer,
    topic: str,
    found: Mapping[int, FoundTail],
    known: Mapping[int, KafkaTail],
    recorded_until: Position | None,
) -> AsyncIterator[list[Event]]:
    """Batches of what stands in Kafka behind the ledger's end, in the order of positions, each event once.

    Merged from the partitions while they are read, so that memory doesn't grow with what was left behind. Raises
    TransientError when Kafka does not answer in time.
    """
    until = recorded_until or ZERO
    try:
        readers = []
        for partition, tail in found.items():
            if tail.last_position is not None and tail.last_position > until:
                tp = TopicPartition(topic, partition)
                start = known[partition].next_offset if partition in known else 0
                await _seek(consumer, tp, start, until)
                readers.append(_Reader(consumer, tp, tail.next_offset))
        heads = [(head, reader) for reader in readers if (head := await reader.next(until)) is not None]
        event_batch: list[Event] = []
        batch_bytes = 0
        while heads:
            at = min(range(len(heads)), key=lambda index: heads[index][0].position)
            event, reader = heads[at]
            event_batch.append(event)
            batch_bytes += len(event.line)
            following = await reader.next(event.position)
            if following is None:
                del heads[at]
            else:
                heads[at] = following, reader
            if len(event_batch) >= BATCH_EVENTS or batch_bytes >= BATCH_BYTES:
                yield event_batch
                event_batch, batch_bytes = [], 0
        if event_batch:
            yield event_batch
    except (KafkaError, TimeoutError) as error:
        raise TransientError(f"Kafka did not give back the end of {topic} ({type(error).__name__})") from error


class _Reader:
    """One partition, forward to where it ended."""

    def __init__(self, consumer: AIOKafkaConsumer, tp: TopicPartition, end: int) -> None:
        self._consumer = consumer
        self._tp = tp
        self._end = end
        self._offset = -1

    async def next(self, after: Position) -> Event | None:
        """The next event behind `after`: what a streamer wrote twice is passed over. None at the end."""
        while self._offset < self._end - 1:
            record = await _one(self._consumer, self._tp)
            self._offset = record.offset
            position, _, commit_time = read_headers(record)
            # What a pointer points to is in no raw file yet: the snapshot reads it from the table, and the processor
            # passes over a pointer into nothing.
            if position > after and not is_pointer(record):
                client_id = text_column(record.value, "client_id")
                encoded = None if client_id is None else client_id.encode()
                return Event(position, commit_time, record.key, encoded, record.value)
        return None


async def _seek(consumer: AIOKafkaConsumer, tp: TopicPartition, start: int, until: Position) -> None:
    """Go to a record that the ledger has, or to the beginning.

    `start` is the ledger's word. It may be too far: a streamer that was killed and came back counts what its
    predecessor had sent.
    """
    begin = (await consumer.beginning_offsets([tp]))[tp]
    step = _STEP_BACK
    while start > begin:
        start = max(begin, start - step)
        step *= 4
        consumer.seek(tp, start)
        record = await _one(consumer, tp)
        if not is_fence(record) and read_headers(record)[0] <= until:
            break
    consumer.seek(tp, max(begin, start))


async def _one(consumer: AIOKafkaConsumer, tp: TopicPartition) -> ConsumerRecord:
    async with asyncio.timeout(_TIMEOUT_SECONDS):
        return await consumer.getone(tp)
