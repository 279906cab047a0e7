"""Which event goes into which batch of which partition, and with which sequence. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from mypy_extensions import i64

from pipeline import metrics
from pipeline.events import Event
from pipeline.layout import Layout
from pipeline.position import ZERO, Position
from streamer.recordbatch import RecordBatch

_OVERHEAD_BYTES = 1024
"""Of a batch with one record: its own header, and our three."""

_KNOWN_KEYS = 1 << 16


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


class OpenBatch:
    """A batch that grows, and the commit time of its first event in microseconds since 1970."""

    def __init__(self, records: RecordBatch, oldest_commit_time: int) -> None:
        self.records = records
        self.oldest_commit_time = oldest_commit_time


class Outbox:
    """Events on their way into batches, in order, less those that their partition holds already."""

    def __init__(self, starts: Mapping[int, PartitionStart], *, batch_bytes: int, largest_bytes: int) -> None:
        """`batch_bytes`: of a full batch. `largest_bytes`: of a batch that the topic takes, see `Publisher`."""
        self._batch_bytes = batch_bytes
        self._largest_bytes: i64 = largest_bytes - _OVERHEAD_BYTES
        self.sequences = {p: start.last_sequence for p, start in starts.items()}
        """The last one of each partition."""
        self.open: dict[int, OpenBatch] = {}
        self._sent_until = {p: start.sent_until for p, start in starts.items()}
        self._fresh_after = max(self._sent_until.values(), default=ZERO)
        self.last = self._fresh_after
        """Of the last event that was sent, here or before."""
        # Partitions of which events come again that Kafka has and no raw object: the sequence of the last one.
        self._again = {
            p: start.recorded_sequence for p, start in starts.items() if start.sent_until > start.recorded_until
        }
        self._recorded_until = max((start.recorded_until for start in starts.values()), default=ZERO)
        self._layout: Layout | None = None
        self._partitions: dict[bytes | None, int] = {}

    def begin(self, partition: int, start: PartitionStart) -> None:
        """One partition more. Nothing that comes now is older than what it holds."""
        self._sent_until[partition] = start.sent_until
        self.sequences[partition] = start.last_sequence

    def fill(self, layout: Layout, event_batch: Sequence[Event], at: int, now_ms: int) -> tuple[int, int]:
        """Put events from the `at`-th on into batches, up to one that does not fit.

        Returns its number and the partition whose batch must go first: `taken`, then again from that number; or the
        length of `event_batch` and -1. Positions ascend. `now_ms`: since 1970.
        """
        if layout is not self._layout:
            self._layout = layout
            self._partitions.clear()
        open_batches, sequences, partitions = self.open, self.sequences, self._partitions
        spread = bool(layout.fanout)
        repeats = at < len(event_batch) and event_batch[at].position <= self._fresh_after
        for number in range(at, len(event_batch)):
            position, commit_time, key, _, line = event_batch[number]
            if spread:
                partition = layout.partition_of(key, line)
            else:
                known = partitions.get(key)
                partition = self._partition_of(layout, key, line) if known is None else known
            if repeats and position <= self._fresh_after and position <= self._sent_until[partition]:
                self._came_again(position, partition)
                continue
            sequence = sequences[partition] + 1
            value: bytes | None = line
            if len(line) + (0 if key is None else len(key)) > self._largest_bytes:
                key = value = None  # its partition is chosen already, and the raw file has both
            batch = open_batches.get(partition)
            if batch is None:
                batch = open_batches[partition] = OpenBatch(RecordBatch(now_ms, self._batch_bytes), commit_time)
            if not batch.records.append(key, value, position, sequence, commit_time):
                return number, partition
            if value is None:
                metrics.OVERSIZE_EVENTS.inc()
            sequences[partition] = sequence
        if event_batch:
            self.last = max(self.last, event_batch[-1].position)
        return len(event_batch), -1

    def taken(self, partition: int) -> OpenBatch:
        """The batch of `partition`, which is closed with this."""
        self._again.pop(partition, None)
        return self.open.pop(partition)

    def mark(self) -> dict[int, int]:
        """The last sequence of each partition so far, batches that are open included."""
        return {**self.sequences, **self._again}

    def _partition_of(self, layout: Layout, key: bytes | None, line: bytes) -> int:
        if len(self._partitions) >= _KNOWN_KEYS:
            self._partitions.clear()
        partition = self._partitions[key] = layout.partition_of(key, line)
        return partition

    def _came_again(self, position: Position, partition: int) -> None:
        metrics.REPEATED_EVENTS.inc()
        if partition in self._again and position > self._recorded_until:
            self._again[partition] += 1
            if position >= self._sent_until[partition]:
                del self._again[partition]
