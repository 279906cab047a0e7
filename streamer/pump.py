"""The stream itself: WAL into Kafka and raw files, and word back to the server of what it may forget."""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress

from pipeline import failpoints, metrics
from pipeline.errors import TransientError
from pipeline.keys import time_of
from streamer.memory import spare_collections
from streamer.replica import Replica, Turn
from streamer.replication import BURST_MESSAGES, Burst
from streamer.snapshot import read_types

READ_SECONDS = 0.1
"""How long a read waits for data; bounds how late a raw file closes."""

LINGER_SECONDS = 0.005
"""How long an event may wait for company in its Kafka batch: batches cost more than the events in them."""

GATHER_SECONDS = 0.003
"""Pause after a read that took all there was: a sender that is woken less often sends half as fast again."""

FEEDBACK_SECONDS = 3.0
"""The server's patience with us is 15 seconds, see streamer.replication."""

SILENCE_SECONDS = 45.0
"""Each feedback asks for an answer. Without any for so long the way to the server is cut, and nobody has told us."""

IDLE_CONFIRM_SECONDS = 5.0
"""How often an idle stream lets the server forget WAL; each time is a row written to the ledger."""


async def pump(replica: Replica, turn: Turn) -> None:
    """Move events until `stop` is set. Every wait in here is back-pressure on the slot, where WAL is safe."""
    connection, status = replica.connection, replica.status
    transactions, publisher, recorder = turn.transactions, turn.publisher, turn.recorder
    spare_collections()
    idle_confirm_at = flushed_at = 0.0
    heard_at = time.time()
    while not replica.stop.is_set():
        burst = await connection.read(LINGER_SECONDS if publisher.waiting else READ_SECONDS)
        if unknown := transactions.unknown_types(burst.payloads):
            transactions.learn(await read_types(replica.db), unknown)
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
            await let_gather(burst)
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
        replica.health.turned()


async def let_gather(burst: Burst) -> None:
    """Leave the server time for the next burst; a full one says that it is there already."""
    await asyncio.sleep(0 if len(burst.payloads) >= BURST_MESSAGES else GATHER_SECONDS)


async def send_feedback(replica: Replica, turn: Turn) -> None:
    """Tell the server what it may forget, when that changes and regularly, also while the pump waits; for ever."""
    recorder = turn.recorder
    while True:
        with suppress(TimeoutError):
            # Not wait_for: Python 3.11's takes a cancellation for a result when both come at once, as at a drain.
            async with asyncio.timeout(FEEDBACK_SECONDS):
                await recorder.confirmed_changed.wait()
        recorder.confirmed_changed.clear()
        failpoints.reach("streamer.before_feedback")
        replica.connection.send_status(recorder.confirmed, recorder.confirmed)
