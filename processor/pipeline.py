"""The processor, from Kafka to processed objects: consume, attribute, filter, gather, write, commit."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable
from contextlib import AsyncExitStack, suppress
from typing import Any

import psycopg
from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener, TopicPartition
from aiokafka.errors import KafkaError, NoOffsetForPartitionError

from database import preflight
from database.ledger import Pool, chunks, connected, layouts, open_pool, setback, stream
from database.ledger.chunks import ConsumerPosition
from database.ledger.setback import LedgerSetBackError
from pipeline import kafka, logs, metrics
from pipeline.directory import ClientDirectory
from pipeline.errors import ConfigError, FencedError, TransientError
from pipeline.health import Health, admin_only, serving
from pipeline.s3 import ObjectStore, open_bucket
from pipeline.secrets import SecretBox
from pipeline.stores import open_store
from processor.limit import DeadLetterLimit
from processor.partition import Partition
from processor.policies import PolicyCache
from processor.release import Releaser
from processor.settings import ProcessorSettings
from processor.writer import UnusableKeyError, Writer

log = logs.get(__name__)

PORT = 8082
POLL_MS = 200
POLL_RECORDS = 500
"""Small enough that heartbeats and probes get their turn between two polls."""

GATHERED_BYTES = 256 << 20
"""All open chunks together; above it the largest is written before its time."""

ENDS_SECONDS = 30.0
"""How often the ends of partitions are compared with the ledger's."""

STORE_GRACE_SECONDS = 120.0
"""How long old client settings are trusted while the store is down; then nothing is processed: fail closed."""


async def serve(settings: ProcessorSettings, stop: asyncio.Event) -> None:
    """Run until `stop` is set, then write what is gathered and leave the group."""
    async with AsyncExitStack() as stack:
        secrets = SecretBox([key.get_secret_value() for key in settings.credentials_keys])
        await preflight.require(None, settings.ledger_dsn)
        pool = await stack.enter_async_context(open_pool(settings.ledger_dsn))
        processed = await stack.enter_async_context(open_bucket(settings.processed_bucket))
        await preflight.require_bucket(processed, "PROCESSED_S3_BUCKET")
        raw = await stack.enter_async_context(open_bucket(settings.raw_bucket))
        store = await open_store(
            kind=settings.client_store, project=settings.google_cloud_project, dsn=settings.ledger_dsn
        )
        stack.push_async_callback(store.close)
        directory = ClientDirectory(store)
        await directory.refresh()

        topic = settings.kafka_raw_topic
        consumer = AIOKafkaConsumer(
            group_id=settings.kafka_group,
            enable_auto_commit=False,
            auto_offset_reset="none",
            max_partition_fetch_bytes=1 << 20,
            session_timeout_ms=10_000,
            heartbeat_interval_ms=3_000,
            metadata_max_age_ms=15_000,  # partitions that are added to the topic wait no longer
            **kafka.connection_options(settings),
        )
        await kafka.start(consumer, settings.kafka_bootstrap_servers)
        stack.push_async_callback(kafka.stop, consumer)
        async with connected(pool) as connection:
            await _require_topic(connection, topic)
            spread = await layouts.layouts_of(connection, topic, settings.kafka_partitions)
        await kafka.check_topic(settings, spread.partitions)

        policies = PolicyCache(directory, secrets, time.monotonic)
        processor = Processor(
            settings=settings,
            consumer=consumer,
            directory=directory,
            policies=policies,
            pool=pool,
            processed_bucket=processed,
            raw_bucket=raw,
        )
        app = processor.health.app(settings, "processor")

        @app.get("/process/status")
        async def process_status() -> dict[str, Any]:
            return processor.status()

        @app.post("/process/run", dependencies=[admin_only])
        async def process_run() -> dict[str, Any]:
            processor.flush_now.set()
            return {"accepted": True}

        await stack.enter_async_context(serving(app, settings, PORT))
        releaser = Releaser(policies=policies, pool=pool, bucket=processed, fresh=processor.may_release)
        try:
            async with asyncio.TaskGroup() as tasks:
                beside = [tasks.create_task(directory.keep_fresh(stop)), tasks.create_task(releaser.run(stop))]
                await processor.run(stop)
                for task in beside:
                    task.cancel()
        except* LedgerSetBackError as refusals:
            await kafka.stop(consumer)
            await setback.refuse(refusals.exceptions[0], processor.health, stop)


async def _require_topic(connection: psycopg.AsyncConnection, topic: str) -> None:
    former = await chunks.former_topic(connection, topic)
    if former is not None:
        raise ConfigError(
            f"KAFKA_RAW_TOPIC is {topic}, but this ledger's events went through {former}: all would come again",
            hint=f"name {former}; a topic may be made anew under its name",
        )


class Processor(ConsumerRebalanceListener):  # type: ignore[misc]
    """The loop and the partitions that the group has given to this member."""

    def __init__(
        self,
        *,
        settings: ProcessorSettings,
        consumer: AIOKafkaConsumer,
        directory: ClientDirectory,
        policies: PolicyCache,
        pool: Pool,
        processed_bucket: ObjectStore,
        raw_bucket: ObjectStore,
    ) -> None:
        self._settings = settings
        self._topic = settings.kafka_raw_topic
        self._flush_seconds = settings.processed_flush_seconds
        self._consumer = consumer
        self._directory = directory
        self._policies = policies
        self._pool = pool
        self._raw_bucket = raw_bucket
        self._processed_bucket = processed_bucket
        self._is_checked = False
        self._generation = 0
        self._mine: dict[int, Partition] = {}
        self._events = 0
        self._ends_at = 0.0
        self._failure: Exception | None = None
        self.flush_now = asyncio.Event()
        self._limit = DeadLetterLimit()
        self.health = Health(status=self.status, ready=self._ready)
        self._writer = Writer(processed_bucket, pool, self._topic, clock=time.monotonic, turned=self.health.turned)

    async def run(self, stop: asyncio.Event) -> None:
        """Consume until `stop` is set; then write what is gathered."""
        self._consumer.subscribe([self._topic], listener=self)
        while not stop.is_set():
            if self._failure is not None:
                raise self._failure
            try:
                polled = await self._consumer.getmany(timeout_ms=POLL_MS, max_records=POLL_RECORDS)
            except NoOffsetForPartitionError:
                continue  # the fetcher was faster than `on_partitions_assigned`, which will seek
            except KafkaError as error:
                raise TransientError(f"Kafka does not give records ({type(error).__name__})") from error
            self._check_directory()
            for tp, records in polled.items():
                partition = self._mine.get(tp.partition)
                if partition is not None:
                    await self._take(partition, records)
            await self._take_ends()
            await self._write_due()
            self.health.turned()
        await self._write(list(self._mine.values()))

    async def _take(self, partition: Partition, records: Iterable[Any]) -> None:
        try:
            for record in records:
                await partition.take(record)
        except (FencedError, UnusableKeyError) as error:
            await self._reload(partition, error)
        finally:
            self._events += partition.report()

    async def _take_ends(self) -> None:
        """Where Kafka has lost a partition's last records, none follows that would show the hole: ask the ledger.

        Its raw objects hold nothing that Kafka had not acknowledged. So it is asked first, and the broker afterwards.
        """
        now = time.monotonic()
        if not self._mine or now < self._ends_at:
            return
        self._ends_at = now + ENDS_SECONDS
        async with connected(self._pool) as connection:
            recorded = await stream.recorded_ends(connection)
        if recorded is None:
            return
        position, sequences = recorded
        behind = [p for p in self._mine.values() if p.stand.last_sequence < sequences.get(p.number, -1)]
        try:
            ends = await self._consumer.end_offsets([TopicPartition(self._topic, p.number) for p in behind])
        except KafkaError as error:
            raise TransientError(f"Kafka does not tell its ends ({type(error).__name__})") from error
        for partition in behind:
            if partition.expected_offset >= ends[TopicPartition(self._topic, partition.number)]:
                try:
                    await partition.take_end(sequences[partition.number], position)
                except (FencedError, UnusableKeyError) as failed:
                    await self._reload(partition, failed)

    async def _write_due(self) -> None:
        now = time.monotonic()
        everything = self.flush_now.is_set()
        self.flush_now.clear()
        due = [p for p in self._mine.values() if everything or p.age_seconds(now) >= self._flush_seconds]
        gathered = sum(p.gathered_bytes for p in self._mine.values())
        if not due and gathered > GATHERED_BYTES:
            due = [max(self._mine.values(), key=lambda p: p.gathered_bytes)]
        await self._write(due)

    async def _write(self, due: list[Partition]) -> None:
        for partition in due:
            try:
                await partition.write()
            except (FencedError, UnusableKeyError) as error:
                await self._reload(partition, error)
        if due:
            await self._report_offsets(due)

    async def _report_offsets(self, written: list[Partition]) -> None:
        """Tell the group, for those who watch its lag; the ledger decides, so a refusal means nothing.

        The sequence beside the offset stays true when the topic is made anew: a ledger that is behind it was set back.
        """
        offsets = {
            TopicPartition(self._topic, p.number): (p.next_offset, str(p.last_sequence))
            for p in written
            if self._mine.get(p.number) is p
        }
        with suppress(KafkaError):
            if offsets:
                await self._consumer.commit(offsets)

    async def _reload(self, partition: Partition, error: FencedError | UnusableKeyError) -> None:
        """What was gathered is void: another owner was faster, or one client's events must be held instead.

        The ledger says where to go on.
        """
        if isinstance(error, UnusableKeyError):
            self._policies.refuse(error.client_id)
        else:
            metrics.CHUNKS_LOST.inc()
            log.warning("processor.chunk.fenced", partition=partition.number)
        if self._mine.get(partition.number) is partition:
            await self._load([TopicPartition(self._topic, partition.number)])

    async def _load(self, assigned: list[TopicPartition]) -> None:
        """Begin each partition where the ledger says. Raises LedgerSetBackError when that is not where it was."""
        partitions = [tp.partition for tp in assigned]
        told = await kafka.told_sequences(self._settings, partitions)
        await setback.check_partitions(self._pool, self._processed_bucket, self._topic, partitions, told)
        self._is_checked = True
        begins = await self._consumer.beginning_offsets(assigned)
        ends = await self._consumer.end_offsets(assigned)
        async with connected(self._pool) as connection:
            for tp in assigned:
                stand = await chunks.consumer_position(connection, self._topic, tp.partition, begins[tp])
                self._begin(tp, stand, begins[tp], ends[tp])

    def _begin(self, tp: TopicPartition, stand: ConsumerPosition, begin: int, end: int) -> None:
        # Outside of what the broker holds, the sequence tells whether anything is missing.
        first = min(max(stand.next_offset, begin), end)
        self._mine[tp.partition] = Partition(
            number=tp.partition,
            topic=self._topic,
            generation=self._generation,
            stand=stand,
            first_offset=first,
            policies=self._policies,
            writer=self._writer,
            pool=self._pool,
            raw_bucket=self._raw_bucket,
            limit=self._limit,
            clock=time.monotonic,
            turned=self.health.turned,
        )
        self._consumer.seek(tp, first)

    async def on_partitions_revoked(self, revoked: Iterable[TopicPartition]) -> None:
        """Forget what was gathered: the new owner reads it again."""
        for tp in revoked:
            self._mine.pop(tp.partition, None)

    async def on_partitions_assigned(self, assigned: Iterable[TopicPartition]) -> None:
        """Begin each partition where the ledger says."""
        self._generation += 1
        try:
            await self._load(list(assigned))
        except Exception as error:  # aiokafka would log it and go on: the loop must hear of it
            self._failure = error
            return
        log.info("processor.partitions.assigned", partitions=sorted(self._mine))

    def knows_clients(self) -> bool:
        """Whether the clients' settings are younger than the grace time."""
        return self._directory.age_seconds(time.monotonic()) <= STORE_GRACE_SECONDS

    def may_release(self) -> bool:
        """Whether held events may leave: by settings of now, and by a ledger that was found to be that of now."""
        return self._is_checked and self.knows_clients()

    def _check_directory(self) -> None:
        age = self._directory.age_seconds(time.monotonic())
        metrics.DIRECTORY_AGE_SECONDS.set(age)
        if not self.knows_clients():
            raise TransientError(
                f"the client store has not answered for {age:.0f} seconds: nothing may leave on old settings",
                hint="check CLIENT_STORE and its server",
            )

    async def _ready(self) -> str | None:
        async with connected(self._pool) as connection:
            await connection.execute("SELECT 1")
        return None if self._generation else "no partitions were assigned yet"

    def status(self) -> dict[str, Any]:
        """What /status and /process/status show."""
        return {
            "events": self._events,
            "directory_age_seconds": round(self._directory.age_seconds(time.monotonic()), 3),
            "partitions": {
                str(p.number): {
                    "next_offset": p.stand.next_offset,
                    "committed_offset": p.next_offset,
                    "gathered_bytes": p.gathered_bytes,
                }
                for p in sorted(self._mine.values(), key=lambda p: p.number)
            },
        }
