"""Where a position lies in the raw topic: found by halving, since positions rise with offsets."""

from __future__ import annotations

import asyncio

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from pipeline import kafka
from pipeline.errors import TransientError
from pipeline.kafka import read_headers
from pipeline.position import ZERO, Position
from pipeline.settings import KafkaSettings

_TIMEOUT_SECONDS = 30


async def last_records(
    settings: KafkaSettings, partitions: int, until: Position
) -> dict[int, tuple[int, int, Position]]:
    """(offset, sequence, position) of each partition's last record that is not behind `until`.

    Partitions without such a record are left out. Raises TransientError when Kafka does not answer, ConfigError when
    there is no such topic with so many partitions: it may be a new and empty one.
    """
    topic = settings.kafka_raw_topic
    await kafka.check_topic(settings, partitions)
    consumer = AIOKafkaConsumer(enable_auto_commit=False, **kafka.connection_options(settings))
    await kafka.start(consumer, settings.kafka_bootstrap_servers)
    try:
        every = [TopicPartition(topic, partition) for partition in range(partitions)]
        consumer.assign(every)
        consumer.pause(*every)
        ends, begins = await consumer.end_offsets(every), await consumer.beginning_offsets(every)
        found = {}
        for tp in every:
            record = await _last(consumer, tp, begins[tp], ends[tp], until)
            if record is not None:
                found[tp.partition] = record
        return found
    except (KafkaError, TimeoutError) as error:
        raise TransientError(f"Kafka does not give back records of {topic} ({type(error).__name__})") from error
    finally:
        await kafka.stop(consumer)


async def _last(
    consumer: AIOKafkaConsumer, tp: TopicPartition, begin: int, end: int, until: Position
) -> tuple[int, int, Position] | None:
    low, high, found = begin, end, None  # records before `low` are not behind `until`, those from `high` on are
    while low < high:
        middle = (low + high) // 2
        record = await _at(consumer, tp, middle)
        position, sequence, _ = read_headers(record)
        if position <= until:
            low = record.offset + 1
            if position != ZERO:  # a streamer's fence in a partition without events
                found = record.offset, sequence, position
        else:
            high = middle
    return found


async def _at(consumer: AIOKafkaConsumer, tp: TopicPartition, offset: int):  # type: ignore[no-untyped-def]
    consumer.resume(tp)
    consumer.seek(tp, offset)
    try:
        async with asyncio.timeout(_TIMEOUT_SECONDS):
            return await consumer.getone(tp)
    finally:
        consumer.pause(tp)
