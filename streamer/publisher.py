"""Events into Kafka: in order, idempotent, acknowledged by all replicas, each with its dense sequence.

aiokafka is given whole batches, because a future per record is the cost of its ordinary way. Any failed batch ends the
process: what was sent and not acknowledged is found in the partition's tail at the next start.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Mapping, Sequence, Set
from contextlib import asynccontextmanager
from typing import Any

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError

from database.ledger.stream import KafkaTail
from pipeline import metrics
from pipeline.errors import TransientError
from pipeline.events import Event
from pipeline.layout import Layout, Layouts
from pipeline.position import Position
from streamer.outbox import Outbox, PartitionStart
from streamer.producer import BATCH_BYTES


class Publisher:
    """One topic. `publish` returns when events are on their way, `acknowledged` when Kafka has answered for them."""

    def __init__(
        self,
        producer: AIOKafkaProducer,
        topic: str,
        layouts: Layouts,
        starts: Mapping[int, PartitionStart],
        *,
        largest_bytes: int = 1 << 20,
    ) -> None:
        """`starts` has every partition of `layouts`.

        `largest_bytes`: of a batch that the topic takes; a larger event becomes a record without a value.
        """
        self._producer = producer
        self._topic = topic
        self._layouts = layouts
        self._moving = asyncio.Lock()
        self._outbox = Outbox(starts, batch_bytes=BATCH_BYTES, largest_bytes=largest_bytes)
        self._acked = {
            p: KafkaTail(next_offset=start.next_offset, last_sequence=start.last_sequence)
            for p, start in starts.items()
        }
        self._progress = asyncio.Event()
        self.failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        """Never gets a result; gets the error of the first batch that failed."""

    async def publish(self, event_batch: Sequence[Event]) -> None:
        """Send events, but those that the partition holds already. Waits while Kafka does not keep up."""
        async with self._moving:
            for layout, part in self._layouts.split(event_batch):
                await self._publish(layout, part)

    async def _publish(self, layout: Layout, event_batch: Sequence[Event]) -> None:
        now_ms = time.time_ns() // 1_000_000
        at = 0
        while at < len(event_batch):
            at, full = self._outbox.fill(layout, event_batch, at, now_ms)
            if full >= 0:
                await self._send(full)

    @property
    def layouts(self) -> Layouts:
        """By which it chooses partitions."""
        return self._layouts

    @property
    def partitions(self) -> Set[int]:
        """Those that it may send to."""
        return self._outbox.sequences.keys()

    @asynccontextmanager
    async def standing_still(self) -> AsyncIterator[Position]:
        """Nothing is sent during the block; gives the position of the last event that was, here or before."""
        async with self._moving:
            yield self._outbox.last

    def relayout(self, layout: Layout, starts: Mapping[int, PartitionStart]) -> None:
        """Choose partitions by `layout` from its position on, beyond what was sent; `starts`: those that are new."""
        for partition, start in starts.items():
            self._outbox.begin(partition, start)
            self._acked[partition] = KafkaTail(next_offset=start.next_offset, last_sequence=start.last_sequence)
        self._layouts = self._layouts.followed_by(layout)

    @property
    def waiting(self) -> bool:
        """Events wait for their batch to fill or for `flush`."""
        return bool(self._outbox.open)

    async def flush(self) -> None:
        """Send what is waiting for its batch to fill."""
        for partition in list(self._outbox.open):
            await self._send(partition)

    async def _send(self, partition: int) -> None:
        batch = self._outbox.taken(partition)
        try:
            future = await self._producer.send_batch(batch.records, self._topic, partition=partition)
        except KafkaError as error:
            raise TransientError(f"Kafka does not take batches ({type(error).__name__})") from error
        count, last_sequence = batch.records.record_count(), self._outbox.sequences[partition]
        future.add_done_callback(
            lambda done: self._answered(done, partition, count, last_sequence, batch.oldest_commit_time)
        )

    def _answered(
        self, done: asyncio.Future[Any], partition: int, count: int, last_sequence: int, commit_time: int
    ) -> None:
        error = None if done.cancelled() else done.exception()
        if done.cancelled() or error is not None:
            if not self.failed.done():
                failure = TransientError(f"Kafka did not take a batch ({type(error).__name__})")
                failure.__cause__ = error
                self.failed.set_exception(failure)
            return
        base_offset = done.result().offset
        # A broker that took the batch at an earlier attempt may answer without an offset; ours is the only writer.
        start = base_offset if base_offset >= 0 else self._acked[partition].next_offset
        self._acked[partition] = KafkaTail(next_offset=start + count, last_sequence=last_sequence)
        metrics.PUBLISHED_EVENTS.inc(count)
        metrics.COMMIT_TO_KAFKA_SECONDS.observe(max(0.0, time.time() - commit_time / 1e6))
        self._progress.set()

    def mark(self) -> dict[int, int]:
        """The last sequence of each partition so far. Call `flush` first."""
        return self._outbox.mark()

    async def acknowledged(self, mark: Mapping[int, int]) -> dict[int, KafkaTail]:
        """Wait until Kafka has answered for all up to `mark`; returns where each partition ended there.

        Raises TransientError when a batch failed.
        """
        while any(self._acked[partition].last_sequence < sequence for partition, sequence in mark.items()):
            self._progress.clear()
            waiter: asyncio.Future[Any] = asyncio.ensure_future(self._progress.wait())
            await asyncio.wait({waiter, self.failed}, return_when=asyncio.FIRST_COMPLETED)
            waiter.cancel()
            if self.failed.done():
                self.failed.result()
        return {
            partition: KafkaTail(
                next_offset=self._acked[partition].next_offset - (self._acked[partition].last_sequence - sequence),
                last_sequence=sequence,
            )
            for partition, sequence in mark.items()
        }
