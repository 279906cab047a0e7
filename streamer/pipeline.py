"""The streamer, from source to sinks: take the slot, find where to go on, then WAL -> Kafka and raw files."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import asdict

from aiokafka import AIOKafkaConsumer

from database import preflight, source
from database.ledger import Pool, connected, generations, layouts, open_pool, records
from database.ledger import stream as ledger
from pipeline import failpoints, kafka, logs, metrics
from pipeline.errors import TransientError
from pipeline.events import Event
from pipeline.health import Health, serving
from pipeline.position import Position
from pipeline.s3 import open_bucket
from streamer import resume, tails
from streamer.adopt import unrecorded_events
from streamer.memory import keep_freed
from streamer.producer import fence, open_producer
from streamer.publisher import Publisher
from streamer.pump import pump, send_feedback
from streamer.recorder import Recorder
from streamer.relayout import follow_requests
from streamer.replica import Replica, Turn
from streamer.replication import ReplicationConnection
from streamer.settings import StreamerSettings
from streamer.snapshot import read_types, snapshot_events
from streamer.standby import take_slot, unlock
from streamer.transactions import Transactions
from streamer.watch import Status, watch

log = logs.get(__name__)

PORT = 8081


async def serve(settings: StreamerSettings, stop: asyncio.Event) -> None:
    """Run until `stop` is set, then drain: the open raw file is closed, recorded and confirmed."""
    keep_freed()
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
        replica = Replica(
            settings=settings,
            stop=stop,
            status=status,
            health=health,
            pool=pool,
            db=db,
            bucket=bucket,
            connection=connection,
            epochs=epochs,
        )
        plan = await take_slot(replica)
        if plan is not None:
            metrics.SLOT_HELD.set(1)
            await stream(replica, plan)


async def stream(replica: Replica, plan: resume.Plan) -> None:
    """Hold the slot: find where to go on, finish or make the snapshot, then pump."""
    settings, slot, topic = replica.settings, replica.slot, replica.topic
    async with AsyncExitStack() as stack:
        async with connected(replica.pool) as connection:
            generation = await generations.take_over(connection, slot)
            state = await ledger.stream_state(connection, slot)
            known = await ledger.kafka_tails(connection)
            layout = await layouts.layouts_of(connection, topic, settings.kafka_partitions)
            histories = await records.known_histories(connection)
        await records.put_layouts(replica.bucket, topic, layout)
        if layout.current.partitions != settings.kafka_partitions:
            log.warning("streamer.kafka_partitions.ignored", partitions=layout.current.partitions, hint=_LAYOUT_HINT)
        recorded_until = state.last_position if state else None

        consumer = AIOKafkaConsumer(enable_auto_commit=False, **kafka.connection_options(settings))
        await kafka.start(consumer, settings.kafka_bootstrap_servers)
        stack.push_async_callback(kafka.stop, consumer)
        largest_bytes = await kafka.check_topic(settings, layout.partitions)
        producer = await open_producer(settings, replica.pool, generation)
        stack.push_async_callback(kafka.stop, producer)
        found = await tails.find_tails(consumer, topic, range(layout.partitions))
        if plan.start is resume.Start.SNAPSHOT:
            # What a predecessor still sends would come again from the table, at another position.
            await fence(producer, topic, found)
            found = await tails.find_tails(consumer, topic, range(layout.partitions))
        await enter_history(replica, plan, state, [tail.last_position for tail in found.values()])

        starts = tails.starts(found, known, recorded_until)
        publisher = Publisher(producer, topic, layout, starts, largest_bytes=largest_bytes)
        recorder = Recorder(
            slot=slot,
            epoch=replica.epochs.current,
            pool=replica.pool,
            bucket=replica.bucket,
            publisher=publisher,
            previous=recorded_until,
            confirmed=plan.begin_lsn,
            flush_seconds=settings.raw_flush_seconds,
            max_bytes=settings.raw_max_bytes,
            turned=replica.health.turned,
            histories=histories,
            tails=known,
        )
        transactions = Transactions(replica.epochs, await read_types(replica.db))
        turn = Turn(generation=generation, transactions=transactions, publisher=publisher, recorder=recorder)
        async with asyncio.TaskGroup() as tasks:
            background = [
                tasks.create_task(recorder.run()),
                tasks.create_task(_fail_with(publisher.failed)),
                tasks.create_task(watch(settings, replica.pool, recorder, replica.status)),
            ]
            if plan.start is resume.Start.SNAPSHOT:
                replica.status.state = "snapshot"
                metrics.SNAPSHOTS.labels(plan.reason).inc()
                say = log.info if plan.reason == "first_start" else log.warning
                say("streamer.snapshot.needed", slot=slot, reason=plan.reason)
                await take_in(unrecorded_events(consumer, topic, found, known, recorded_until), replica, turn)
                await snapshot(replica, turn, reason=plan.reason)
            consumer.unsubscribe()  # it would fetch what we send
            if not replica.stop.is_set():
                replica.status.state = "streaming"
                log.info("streamer.stream.started", slot=slot, confirmed_lsn=str(recorder.confirmed))
                background.append(tasks.create_task(send_feedback(replica, turn)))
                background.append(tasks.create_task(follow_requests(replica, turn, consumer, producer)))
                await pump(replica, turn)
                await recorder.close_file(transactions.complete_until or None)
                await recorder.drained()
                replica.connection.send_status(recorder.confirmed, recorder.confirmed)
            for task in background:
                task.cancel()


_LAYOUT_HINT = "KAFKA_PARTITIONS counts for a new topic only; afterwards: python -m database layout --partitions N"


async def enter_history(
    replica: Replica, plan: resume.Plan, state: ledger.StreamState | None, tails_found: list[Position | None]
) -> None:
    """Make the ledger speak of this server's history before the first event of it moves."""
    slot, epochs = replica.slot, replica.epochs
    recorded_until = state.last_position if state else None
    elsewhere = resume.left_behind_elsewhere(tails_found, recorded_until, epochs, await source.wal_end(replica.db))
    other = state is not None and state.epoch != epochs.current
    stamped_at = await source.last_stamp(replica.db) if other else None
    async with connected(replica.pool) as connection, connection.transaction():
        if stamped_at is not None:
            objects = await ledger.distrust_stamps(connection, stamped_at)
            log.warning("streamer.epoch.entered", epoch=epochs.current, objects_to_stamp_again=objects)
        if plan.start is resume.Start.SNAPSHOT or elsewhere:
            await ledger.begin_snapshot(connection, slot, epochs.current)
        elif other:
            await ledger.enter_epoch(connection, slot, epochs.current, plan.begin_lsn)
    if elsewhere and plan.start is resume.Start.STREAM:
        raise TransientError("Kafka holds events of a server that was lost: starting again with a snapshot")


async def take_in(batches: AsyncIterator[list[Event]], replica: Replica, turn: Turn) -> int:
    """Events into Kafka and raw files, outside of the stream; returns how many, when all are in the ledger."""
    count = 0
    async for event_batch in batches:
        await turn.publisher.publish(event_batch)
        now = time.time()
        turn.recorder.add(event_batch, now)
        count += len(event_batch)
        if turn.recorder.is_due(now):
            await turn.recorder.close_file(None)
        replica.health.turned()
    await turn.recorder.close_file(None)
    await turn.recorder.drained()
    return count


async def snapshot(replica: Replica, turn: Turn, *, reason: str) -> None:
    """Make the slot and export what the table held before it; then stream from its consistent point.

    When `stop` is set meanwhile, it ends early, and begins anew at the next start with what is left.
    """
    slot, connection = replica.slot, replica.connection
    if await source.find_slot(replica.db, slot) is not None:
        await connection.drop_slot(slot)
    consistent_point, exported = await connection.create_slot(slot)
    failpoints.reach("streamer.after_slot_created")
    batches = snapshot_events(
        replica.db,
        snapshot=exported,
        consistent_point=consistent_point,
        epoch=replica.epochs.current,
        recorded_until=turn.recorder.recorded_until,
        now=time.time_ns() // 1000,
        pool=replica.pool,
        bucket=replica.bucket,
        progress=replica.status.snapshot,
        stop=replica.stop,
    )
    count = await take_in(batches, replica, turn)
    if replica.stop.is_set():
        return
    async with connected(replica.pool) as ledger_connection:
        await ledger.finish_snapshot(ledger_connection, slot, replica.epochs.current, consistent_point)
    turn.recorder.confirmed = consistent_point
    await connection.start(slot, replica.settings.publication, consistent_point)
    await unlock(replica.db, slot)
    log.info("streamer.snapshot.finished", reason=reason, events=count, consistent_point=str(consistent_point))


async def _fail_with(failed: asyncio.Future[None]) -> None:
    await asyncio.shield(failed)


async def _ready(status: Status, pool: Pool) -> str | None:
    async with connected(pool) as connection:
        await connection.execute("SELECT 1")
    if status.slot_danger is not None:
        return f"the replication slot is in danger: {status.slot_danger}"
    return None if status.state in ("streaming", "standby") else f"state is {status.state}"
