"""Events into Kafka: in order, idempotent, acknowledged by all replicas, each with its dense sequence.

aiokafka's batch API is used, because a future per record is the cost of its ordinary one. Any failed batch ends the
process: what was sent and not acknowledged is found in the partition's tail at the next start.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Mapping, Sequence, Set
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError

from database.ledger.stream import KafkaTail
from pipeline import metrics
from pipeline.errors import TransientError
from pipeline.events import Event
from pipeline.kafka import headers
from pipeline.layout import Layout, Layouts
from pipeline.position import ZERO, Position

_OVERHEAD_BYTES = 1024
"""Of a batch with one record: its own header, and our three."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PartitionStart:
    """Where a partition goes on: what it holds already, by position and by sequence (-1: nothing).

    `recorded_until` and `recorded_sequence` say the same of raw objects, which may be behind.
    """

    next_offset: int
    last_sequence: int
    sent_until: Position
    recorded_until: Position = ZERO
    recorded_sequence: int = -1


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
        self._largest_bytes = largest_bytes - _OVERHEAD_BYTES
        self._producer = producer
        self._topic = topic
        self._layouts = layouts
        self._moving = asyncio.Lock()
        self._sent_until = {p: start.sent_until for p, start in starts.items()}
        self._fresh_after = max(self._sent_until.values(), default=ZERO)
        self._last = self._fresh_after
        self._sequence = {p: start.last_sequence for p, start in starts.items()}
        self._acked = {
            p: KafkaTail(next_offset=start.next_offset, last_sequence=start.last_sequence)
            for p, start in starts.items()
        }
        # Partitions of which events come again that Kafka has and no raw object: the sequence of the last one.
        self._again = {
            p: start.recorded_sequence for p, start in starts.items() if start.sent_until > start.recorded_until
        }
        self._recorded_until = max((start.recorded_until for start in starts.values()), default=ZERO)
        self._open: dict[int, _Batch] = {}
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
        sequences, open_batches, fresh_after = self._sequence, self._open, self._fresh_after
        for event in event_batch:
            position, commit_time, key, _, line = event
            partition = layout.partition_of(key, line)
            if position <= fresh_after and position <= self._sent_until[partition]:
                self._came_again(position, partition)
                continue
            sequence = sequences[partition] + 1
            record_headers = headers(event, sequence)
            value: bytes | None = line
            if len(line) + len(key or b"") > self._largest_bytes:
                key = value = None  # its partition is chosen already, and the raw file has both
                metrics.OVERSIZE_EVENTS.inc()
            while True:
                batch = open_batches.get(partition)
                if batch is None:
                    batch = open_batches[partition] = _Batch(self._producer.create_batch(), commit_time)
                if batch.builder.append(timestamp=now_ms, key=key, value=value, headers=record_headers) is not None:
                    break
                await self._send(partition)  # full
            sequences[partition] = sequence
        self._last = max(self._last, event_batch[-1].position)

    @property
    def layouts(self) -> Layouts:
        """By which it chooses partitions."""
        return self._layouts

    @property
    def partitions(self) -> Set[int]:
        """Those that it may send to."""
        return self._sequence.keys()

    @asynccontextmanager
    async def standing_still(self) -> AsyncIterator[Position]:
        """Nothing is sent during the block; gives the position of the last event that was, here or before."""
        async with self._moving:
            yield self._last

    def relayout(self, layout: Layout, starts: Mapping[int, PartitionStart]) -> None:
        """Choose partitions by `layout` from its position on, beyond what was sent; `starts`: those that are new."""
        for partition, start in starts.items():
            self._sent_until[partition] = start.sent_until
            self._sequence[partition] = start.last_sequence
            self._acked[partition] = KafkaTail(next_offset=start.next_offset, last_sequence=start.last_sequence)
        self._layouts = self._layouts.followed_by(layout)

    def _came_again(self, position: Position, partition: int) -> None:
        metrics.REPEATED_EVENTS.inc()
        if partition in self._again and position > self._recorded_until:
            self._again[partition] += 1
            if position >= self._sent_until[partition]:
                del self._again[partition]

    @property
    def waiting(self) -> bool:
        """Events wait for their batch to fill or for `flush`."""
        return bool(self._open)

    async def flush(self) -> None:
        """Send what is waiting for its batch to fill."""
        for partition in list(self._open):
            await self._send(partition)

    async def _send(self, partition: int) -> None:
        batch = self._open.pop(partition)
        self._again.pop(partition, None)
        batch.builder.close()
        try:
            future = await self._producer.send_batch(batch.builder, self._topic, partition=partition)
        except KafkaError as error:
            raise TransientError(f"Kafka does not take batches ({type(error).__name__})") from error
        count, last_sequence = batch.builder.record_count(), self._sequence[partition]
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
        return self._sequence | self._again

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


@dataclass(frozen=True, slots=True)
class _Batch:
    builder: Any
    oldest_commit_time: int
