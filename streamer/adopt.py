"""Events that Kafka holds and no raw object does, taken into one before a snapshot begins.

A streamer that died left them behind. While the slot lives it sends them again, at the same positions; a snapshot
would read them from the table at new ones, and they would arrive twice.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from database.ledger.stream import KafkaTail
from pipeline.errors import TransientError
from pipeline.events import Event
from pipeline.kafka import read_headers
from pipeline.position import ZERO, Position
from pipeline.record import text_column
from streamer.tails import FoundTail

_TIMEOUT_SECONDS = 120


async def unrecorded_events(
    consumer: AIOKafkaConsumer,
    topic: str,
    found: Mapping[int, FoundTail],
    known: Mapping[int, KafkaTail],
    recorded_until: Position | None,
) -> list[Event]:
    """What stands in Kafka behind the ledger's end, in the order of positions, each once.

    At most what one raw file and its queue can hold: the streamer stops when the ledger does not follow.
    """
    until = recorded_until or ZERO
    events: dict[Position, Event] = {}
    try:
        async with asyncio.timeout(_TIMEOUT_SECONDS):
            for partition, tail in found.items():
                if tail.last_position is None or tail.last_position <= until:
                    continue
                tp = TopicPartition(topic, partition)
                begin = (await consumer.beginning_offsets([tp]))[tp]
                start = known[partition].next_offset if partition in known else 0
                consumer.seek(tp, max(begin, start))
                offset = -1
                while offset < tail.next_offset - 1:
                    record = await consumer.getone(tp)
                    offset = record.offset
                    position, _, commit_time = read_headers(record)
                    if position > until:
                        client_id = text_column(record.value, "client_id")
                        encoded = None if client_id is None else client_id.encode()
                        events[position] = Event(position, commit_time, record.key, encoded, record.value)
    except (KafkaError, TimeoutError) as error:
        raise TransientError(f"Kafka did not give back the end of {topic} ({type(error).__name__})") from error
    return [events[position] for position in sorted(events)]
