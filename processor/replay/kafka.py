"""Events of chunks from the topic, by a reader of its own: no group, no commits, so the live consumers don't notice."""

from __future__ import annotations

from collections.abc import AsyncIterator

from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition
from aiokafka.errors import KafkaError

from pipeline import kafka
from pipeline.errors import PermanentError, TransientError
from pipeline.keys import HOUR_MICROSECONDS
from pipeline.settings import KafkaSettings
from processor.replay.pace import Pace
from processor.replay.raw import RawReader
from processor.replay.spans import Batch, Partition, Stretch, Taken, Wanted, partitions_of, stretches

_SILENCE_MS = 30_000
_RECORDS = 1_000
_FETCH_BYTES = 1 << 20


class NotThereError(PermanentError):
    """Kafka has forgotten the events, or never had them."""


class KafkaReader:
    """Reads one partition after the other, so that one chunk is open at a time."""

    name = "kafka"

    def __init__(self, settings: KafkaSettings, raw: RawReader, pace: Pace) -> None:
        """`raw` knows the events that are too large for the topic. The broker is asked when it is needed."""
        self._settings = settings
        self._topic = settings.kafka_raw_topic
        self._raw = raw
        self._pace = pace
        self._opened: AIOKafkaConsumer | None = None

    async def close(self) -> None:
        """Leave the broker."""
        if self._opened is not None:
            await kafka.stop(self._opened)

    async def _consumer(self) -> AIOKafkaConsumer:
        if self._opened is None:
            consumer = AIOKafkaConsumer(
                group_id=None,
                enable_auto_commit=False,
                auto_offset_reset="none",
                max_partition_fetch_bytes=_FETCH_BYTES,
                **kafka.connection_options(self._settings),
            )
            await kafka.start(consumer, self._settings.kafka_bootstrap_servers)
            self._opened = consumer
        return self._opened

    async def read(self, wanted: Wanted) -> AsyncIterator[Batch]:
        """The events that are wanted, each once, in order within a chunk.

        Raises NotThereError when the broker doesn't reach back that far, TransientError when it doesn't answer.
        """
        partitions = partitions_of(wanted.spans)
        consumer = await self._consumer()
        await self._check(consumer, partitions)
        for number, partition in partitions.items():
            tp = TopicPartition(self._topic, number)
            consumer.assign([tp])
            last = partition.spans[0].after
            for stretch in stretches(partition):
                async for records in _records(consumer, tp, stretch):
                    events: list[Taken] = []
                    before = last
                    for record in records:
                        if kafka.is_fence(record):
                            continue
                        position, _, commit_time = kafka.read_headers(record)
                        if position <= last:
                            continue  # a repeat, which the chunk didn't take either
                        last = position
                        span = partition.span_at(position)
                        if span is None or commit_time // HOUR_MICROSECONDS != wanted.hour:
                            continue
                        line = await self._raw.line_at(position) if kafka.is_pointer(record) else record.value
                        if line is not None:
                            events.append((span.id, position, commit_time, line))
                    yield Batch(events=events, closed=partition.closed_by(last, before))
                    await self._pace.keep(len(records))
            yield Batch(events=[], closed=partition.closed_by(partition.spans[-1].until, last))

    async def _check(self, consumer: AIOKafkaConsumer, partitions: dict[int, Partition]) -> None:
        wanted = {TopicPartition(self._topic, number): list(stretches(p)) for number, p in partitions.items()}
        try:
            begins = await consumer.beginning_offsets(list(wanted))
            ends = await consumer.end_offsets(list(wanted))
        except KafkaError as error:
            raise TransientError(f"Kafka does not tell its offsets ({type(error).__name__})") from error
        for tp, parts in wanted.items():
            for part in parts:
                if part.start < begins[tp] or part.stop > ends[tp]:
                    raise NotThereError(
                        f"Kafka holds offsets {begins[tp]} to {ends[tp]} of {tp.topic}-{tp.partition},"
                        f" the replay needs {part.start} to {part.stop}",
                        hint="replay with --source raw",
                    )


async def _records(
    consumer: AIOKafkaConsumer, tp: TopicPartition, stretch: Stretch
) -> AsyncIterator[list[ConsumerRecord]]:
    consumer.seek(tp, stretch.start)
    at = stretch.start
    while at < stretch.stop:
        try:
            polled = await consumer.getmany(tp, timeout_ms=_SILENCE_MS, max_records=_RECORDS)
        except KafkaError as error:
            raise TransientError(f"Kafka does not give records ({type(error).__name__})") from error
        records = polled.get(tp, [])
        if not records:
            raise TransientError(f"Kafka gives no records of {tp.topic}-{tp.partition} from offset {at} on")
        at = records[-1].offset + 1
        yield [record for record in records if record.offset < stretch.stop]
