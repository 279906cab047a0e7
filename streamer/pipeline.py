"""The streamer, from source to sinks: take the slot, find where to go on, then WAL -> Kafka and raw files."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, suppress
from dataclasses import asdict, dataclass
from typing import Any

import psycopg
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer

from database import preflight, source
from database.ledger import Pool, connected, open_pool
from database.ledger import stream as ledger
from database.ledger.records import known_histories
from pipeline import failpoints, kafka, logs, metrics
from pipeline.errors import TransientError
from pipeline.events import Event
from pipeline.health import Health, serving
from pipeline.keys import time_of
from pipeline.position import Position
from pipeline.s3 import ObjectStore, open_bucket
from streamer import resume, tails
from streamer.adopt import unrecorded_events
from streamer.publisher import Publisher
from streamer.recorder import Recorder
from streamer.replication import ReplicationConnection, SlotBusyError
from streamer.settings import StreamerSettings
from streamer.snapshot import read_types, snapshot_events
from streamer.transactions import EpochMap, Transactions
from streamer.watch import Status, watch

log = logs.get(__name__)

PORT = 8081

READ_SECONDS = 0.1
"""How long a read waits for data; bounds how late a raw file closes."""

LINGER_SECONDS = 0.005
"""How long an event may wait for company in its Kafka batch: batches cost more than the events in them."""

GATHER_SECONDS = 0.003
"""Pause between two reads of a busy stream: a sender that is woken less often sends half as fast again."""

FEEDBACK_SECONDS = 3.0
"""The server's patience with us is 15 seconds, see streamer.replication."""

SILENCE_SECONDS = 45.0
"""Each feedback asks for an answer. Without any for so long the way to the server is cut, and nobody has told us."""

IDLE_CONFIRM_SECONDS = 5.0
"""How often an idle stream lets the server forget WAL; each time is a row written to the ledger."""

STANDBY_SECONDS = 1.0
BATCH_BYTES = 256 << 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Stream:
    """What a streamer has that holds the slot."""

    connection: ReplicationConnection
    transactions: Transactions
    publisher: Publisher
    recorder: Recorder


async def serve(settings: StreamerSettings, stop: asyncio.Event) -> None:
    """Run until `stop` is set, then drain: the open raw file is closed, recorded and confirmed."""
    status = Status(slot=settings.replication_slot)
    async with AsyncExitStack() as stack:
        await preflight.require(
            settings.source_dsn, settings.ledger_dsn, publication=settings.publication, replication=True
        )
        pool = await stack.enter_async_context(open_pool(settings.ledger_dsn))
        db = await stack.enter_async_context(source.connect(settings.source_dsn))
        bucket = await stack.enter_async_context(open_bucket(settings.raw_bucket))
        await preflight.require_bucket(bucket, "RAW_S3_BUCKET")
        health = Health(status=lambda: asdict(status), ready=lambda: _ready(status, pool))
        await stack.enter_async_context(serving(health.app(settings, "streamer"), settings, PORT))

        connection = await ReplicationConnection.connect(settings.source_dsn)
        stack.push_async_callback(connection.close)
        identity = await connection.identify()
        async with connected(pool) as ledger_connection:
            epochs = await resume.epochs(ledger_connection, identity)
        status.epoch = epochs.current

        plan = await take_slot(settings, connection, epochs, db, pool, status, health, stop)
        if plan is not None:
            metrics.SLOT_HELD.set(1)
            await stream(settings, plan, connection, epochs, db, pool, bucket, status, health, stop)


async def take_slot(
    settings: StreamerSettings,
    connection: ReplicationConnection,
    epochs: EpochMap,
    db: psycopg.AsyncConnection,
    pool: Pool,
    status: Status,
    health: Health,
    stop: asyncio.Event,
) -> resume.Plan | None:
    """Stand by until the slot is ours, or the right to make it; None when `stop` came first.

    A slot has one reader, so the slot is the lock. While it does not exist, an advisory lock stands in for it.
    """
    slot = settings.replication_slot
    while not stop.is_set():
        plan = await _decide(db, pool, slot, epochs)
        if plan.start is resume.Start.SNAPSHOT:
            if await _try_lock(db, slot):
                # Whoever held the lock may have made the slot meanwhile: look again, now that nobody can.
                plan = await _decide(db, pool, slot, epochs)
                if plan.start is resume.Start.SNAPSHOT:
                    return plan
                await _unlock(db, slot)
                continue
        else:
            with suppress(SlotBusyError):
                await connection.start(slot, settings.publication, plan.begin_lsn)
                return plan
        if status.state != "standby":
            log.info("streamer.standby.entered", slot=settings.replication_slot)
        status.state = "standby"
        health.turned()
        with suppress(TimeoutError):
            async with asyncio.timeout(STANDBY_SECONDS):
                await stop.wait()
    return None


async def stream(
    settings: StreamerSettings,
    plan: resume.Plan,
    connection: ReplicationConnection,
    epochs: EpochMap,
    db: psycopg.AsyncConnection,
    pool: Pool,
    bucket: ObjectStore,
    status: Status,
    health: Health,
    stop: asyncio.Event,
) -> None:
    """Hold the slot: find where to go on, finish or make the snapshot, then pump."""
    slot, topic = settings.replication_slot, settings.kafka_raw_topic
    async with AsyncExitStack() as stack:
        async with connected(pool) as ledger_connection:
            state = await ledger.stream_state(ledger_connection, slot)
            known = await ledger.kafka_tails(ledger_connection)
            partitions = await ledger.layout_of(ledger_connection, topic, settings.kafka_partitions)
            histories = await known_histories(ledger_connection)
        recorded_until = state.last_position if state else None

        options = kafka.connection_options(settings)
        consumer = AIOKafkaConsumer(enable_auto_commit=False, **options)
        await kafka.start(consumer, settings.kafka_bootstrap_servers)
        stack.push_async_callback(kafka.stop, consumer)
        largest_bytes = await kafka.check_topic(settings, partitions)
        found = await tails.find_tails(consumer, topic, partitions)
        await enter_history(settings, plan, state, [tail.last_position for tail in found.values()], epochs, db, pool)

        producer = AIOKafkaProducer(enable_idempotence=True, acks="all", max_batch_size=BATCH_BYTES, **options)
        await kafka.start(producer, settings.kafka_bootstrap_servers)
        stack.push_async_callback(kafka.stop, producer)
        publisher = Publisher(producer, topic, tails.starts(found, known, recorded_until), largest_bytes=largest_bytes)
        recorder = Recorder(
            slot=slot,
            epoch=epochs.current,
            pool=pool,
            bucket=bucket,
            publisher=publisher,
            previous=recorded_until,
            confirmed=plan.begin_lsn,
            flush_seconds=settings.raw_flush_seconds,
            max_bytes=settings.raw_max_bytes,
            turned=health.turned,
            histories=histories,
            tails=known,
        )
        transactions = Transactions(epochs, await read_types(db))
        held = Stream(connection=connection, transactions=transactions, publisher=publisher, recorder=recorder)
        async with asyncio.TaskGroup() as tasks:
            background = [
                tasks.create_task(recorder.run()),
                tasks.create_task(_fail_with(publisher.failed)),
                tasks.create_task(watch(settings, pool, recorder, status)),
            ]
            if plan.start is resume.Start.SNAPSHOT:
                status.state = "snapshot"
                metrics.SNAPSHOTS.labels(plan.reason).inc()
                say = log.info if plan.reason == "first_start" else log.warning
                say("streamer.snapshot.needed", slot=slot, reason=plan.reason)
                left_behind = unrecorded_events(consumer, topic, found, known, recorded_until)
                await take_in(left_behind, held, health)
                await snapshot(settings, held, epochs, db, pool, bucket, status, health, stop, reason=plan.reason)
            if not stop.is_set():
                status.state = "streaming"
                log.info("streamer.stream.started", slot=slot, confirmed_lsn=str(recorder.confirmed))
                background.append(tasks.create_task(_send_feedback(held)))
                await pump(held, db, status, health, stop)
                await recorder.close_file(held.transactions.complete_until or None)
                await recorder.drained()
                connection.send_status(recorder.confirmed, recorder.confirmed)
            for task in background:
                task.cancel()


async def enter_history(
    settings: StreamerSettings,
    plan: resume.Plan,
    state: ledger.StreamState | None,
    tails_found: list[Position | None],
    epochs: EpochMap,
    db: psycopg.AsyncConnection,
    pool: Pool,
) -> None:
    """Make the ledger speak of this server's history before the first event of it moves."""
    slot = settings.replication_slot
    recorded_until = state.last_position if state else None
    elsewhere = resume.left_behind_elsewhere(tails_found, recorded_until, epochs, await source.wal_end(db))
    other = state is not None and state.epoch != epochs.current
    stamped_at = await source.last_stamp(db) if other else None
    async with connected(pool) as ledger_connection, ledger_connection.transaction():
        if stamped_at is not None:
            objects = await ledger.distrust_stamps(ledger_connection, stamped_at)
            log.warning("streamer.epoch.entered", epoch=epochs.current, objects_to_stamp_again=objects)
        if plan.start is resume.Start.SNAPSHOT or elsewhere:
            await ledger.begin_snapshot(ledger_connection, slot, epochs.current)
        elif other:
            await ledger.enter_epoch(ledger_connection, slot, epochs.current, plan.begin_lsn)
    if elsewhere and plan.start is resume.Start.STREAM:
        raise TransientError("Kafka holds events of a server that was lost: starting again with a snapshot")


async def take_in(batches: AsyncIterator[list[Event]], held: Stream, health: Health) -> int:
    """Events into Kafka and raw files, outside of the stream; returns how many, when all are in the ledger."""
    count = 0
    async for event_batch in batches:
        await held.publisher.publish(event_batch)
        now = time.time()
        held.recorder.add(event_batch, now)
        count += len(event_batch)
        if held.recorder.is_due(now):
            await held.recorder.close_file(None)
        health.turned()
    await held.recorder.close_file(None)
    await held.recorder.drained()
    return count


async def snapshot(
    settings: StreamerSettings,
    held: Stream,
    epochs: EpochMap,
    db: psycopg.AsyncConnection,
    pool: Pool,
    bucket: ObjectStore,
    status: Status,
    health: Health,
    stop: asyncio.Event,
    *,
    reason: str,
) -> None:
    """Make the slot and export what the table held before it; then stream from its consistent point.

    When `stop` is set meanwhile, it ends early, and begins anew at the next start with what is left.
    """
    slot = settings.replication_slot
    if await source.find_slot(db, slot) is not None:
        await held.connection.drop_slot(slot)
    consistent_point, exported = await held.connection.create_slot(slot)
    failpoints.reach("streamer.after_slot_created")
    batches = snapshot_events(
        db,
        snapshot=exported,
        consistent_point=consistent_point,
        epoch=epochs.current,
        recorded_until=held.recorder.recorded_until,
        now=time.time_ns() // 1000,
        pool=pool,
        bucket=bucket,
        progress=status.snapshot,
        stop=stop,
    )
    count = await take_in(batches, held, health)
    if stop.is_set():
        return
    async with connected(pool) as ledger_connection:
        await ledger.finish_snapshot(ledger_connection, slot, epochs.current, consistent_point)
    held.recorder.confirmed = consistent_point
    await held.connection.start(slot, settings.publication, consistent_point)
    await _unlock(db, slot)
    log.info("streamer.snapshot.finished", reason=reason, events=count, consistent_point=str(consistent_point))


async def pump(held: Stream, db: psycopg.AsyncConnection, status: Status, health: Health, stop: asyncio.Event) -> None:
    """Move events until `stop` is set. Every wait in here is back-pressure on the slot, where WAL is safe."""
    connection, transactions = held.connection, held.transactions
    publisher, recorder = held.publisher, held.recorder
    idle_confirm_at = flushed_at = 0.0
    heard_at = time.time()
    while not stop.is_set():
        burst = await connection.read(LINGER_SECONDS if publisher.waiting else READ_SECONDS)
        if unknown := transactions.unknown_types(burst.payloads):
            transactions.learn(await read_types(db), unknown)
        event_batch = transactions.events(burst.payloads)
        if event_batch:
            await publisher.publish(event_batch)
            recorder.add(event_batch, time.time())
            last = event_batch[-1]
            status.events += len(event_batch)
            status.last_position = str(last.position)
            status.last_commit_time = time_of(last.commit_time).isoformat()
            status.read_until = last.commit_time / 1e6
            metrics.STREAMED_EVENTS.inc(len(event_batch))
            failpoints.reach("streamer.after_publish")
            await asyncio.sleep(GATHER_SECONDS)
        now = time.time()
        if burst.payloads or burst.keepalive is not None:
            heard_at = now
        elif now > heard_at + SILENCE_SECONDS:
            raise TransientError("DATABASE_URL: the server has been silent although it was asked for a sign of life")
        if publisher.waiting and now >= flushed_at + LINGER_SECONDS:
            await publisher.flush()
            flushed_at = now
        if recorder.is_due(now):
            await recorder.close_file(transactions.complete_until or None)
        keepalive = burst.keepalive
        if keepalive is not None:
            status.read_until = keepalive.server_time / 1e6
        if (
            keepalive is not None
            and recorder.empty
            and not transactions.in_transaction
            and (keepalive.reply_requested or now >= idle_confirm_at)
        ):
            await recorder.confirm(keepalive.wal_end, keepalive.server_time)
            idle_confirm_at = now + IDLE_CONFIRM_SECONDS
        health.turned()


async def _send_feedback(held: Stream) -> None:
    """Tell the server what it may forget, when that changes and regularly, also while the pump waits."""
    while True:
        with suppress(TimeoutError):
            # Not wait_for: Python 3.11's takes a cancellation for a result when both come at once, as at a drain.
            async with asyncio.timeout(FEEDBACK_SECONDS):
                await held.recorder.confirmed_changed.wait()
        held.recorder.confirmed_changed.clear()
        failpoints.reach("streamer.before_feedback")
        held.connection.send_status(held.recorder.confirmed, held.recorder.confirmed)


async def _fail_with(failed: asyncio.Future[None]) -> None:
    await asyncio.shield(failed)


async def _ready(status: Status, pool: Pool) -> str | None:
    async with connected(pool) as connection:
        await connection.execute("SELECT 1")
    if status.slot_danger is not None:
        return f"the replication slot is in danger: {status.slot_danger}"
    return None if status.state in ("streaming", "standby") else f"state is {status.state}"


async def _decide(db: psycopg.AsyncConnection, pool: Pool, slot: str, epochs: EpochMap) -> resume.Plan:
    found = await source.find_slot(db, slot)  # before the ledger, see resume.decide
    async with connected(pool) as ledger_connection:
        state = await ledger.stream_state(ledger_connection, slot)
    return resume.decide(found, state, epochs, await source.wal_end(db))


async def _try_lock(db: psycopg.AsyncConnection, slot: str) -> bool:
    cursor = await db.execute("SELECT pg_try_advisory_lock(hashtext('events_pipeline'), hashtext(%s))", (slot,))
    row: Any = await cursor.fetchone()
    return bool(row[0])


async def _unlock(db: psycopg.AsyncConnection, slot: str) -> None:
    await db.execute("SELECT pg_advisory_unlock(hashtext('events_pipeline'), hashtext(%s))", (slot,))
