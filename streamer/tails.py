"""The ends of the raw topic's partitions: what a streamer that starts finds already sent."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from database.ledger.stream import KafkaTail
from pipeline.errors import TransientError
from pipeline.kafka import is_fence, read_headers
from pipeline.position import ZERO, Position
from streamer.outbox import PartitionStart

_TIMEOUT_SECONDS = 30


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundTail:
    """The end of a partition: the offset after its last record, and that record's headers, if Kafka still has it."""

    next_offset: int
    last_sequence: int
    last_position: Position | None


async def find_tails(consumer: AIOKafkaConsumer, topic: str, partitions: Iterable[int]) -> dict[int, FoundTail]:
    """Read the last record of each partition, all at once. Raises TransientError when Kafka does not answer in time."""
    every = [TopicPartition(topic, partition) for partition in partitions]
    try:
        async with asyncio.timeout(_TIMEOUT_SECONDS):
            ends = await consumer.end_offsets(every)
            begins = await consumer.beginning_offsets(every)
            filled = [tp for tp in every if begins[tp] < ends[tp]]
            consumer.assign(filled)
            for tp in filled:  # before the consumer asks for anything else, which the broker answers late
                consumer.seek(tp, ends[tp] - 1)
            return {tp.partition: await _tail(consumer, tp, begins[tp], ends[tp]) for tp in every}
    except (KafkaError, TimeoutError) as error:
        raise TransientError(f"Kafka did not tell the end of {topic} ({type(error).__name__})") from error


async def _tail(consumer: AIOKafkaConsumer, tp: TopicPartition, begin: int, end: int) -> FoundTail:
    """The last event of a partition at whose last record the consumer stands; a fence is none."""
    last, start = None, end - 1
    while begin < end:
        offset = start - 1
        while offset < end - 1:
            record = await consumer.getone(tp)
            offset = record.offset
            if not is_fence(record):
                last = record
        if last is not None or start == begin:
            break
        start = max(begin, end - 8 * (end - start))
        consumer.seek(tp, start)
    if last is None:
        return FoundTail(next_offset=end, last_sequence=-1, last_position=None)
    position, sequence, _ = read_headers(last)
    return FoundTail(next_offset=last.offset + 1, last_sequence=sequence, last_position=position)


def starts(
    found: Mapping[int, FoundTail], known: Mapping[int, KafkaTail], recorded_until: Position | None
) -> dict[int, PartitionStart]:
    """Where each partition goes on: after Kafka's tail, or after the ledger's where that is further.

    The ledger is further when the broker has lost records that it had acknowledged; the sequence then leaves a hole,
    which the processor refills from raw files.
    """
    result = {}
    for partition, tail in found.items():
        ledger_tail = known.get(partition, KafkaTail(next_offset=0, last_sequence=-1))
        until = recorded_until or ZERO
        result[partition] = PartitionStart(
            next_offset=tail.next_offset,
            last_sequence=max(tail.last_sequence, ledger_tail.last_sequence),
            sent_until=max(tail.last_position or ZERO, until),
            recorded_until=until,
            recorded_sequence=ledger_tail.last_sequence,
        )
    return result
