"""Raw files: grown from events, closed by the clock or by size, uploaded, and entered into the ledger in order.

The order of safety: object in S3, Kafka's answer for all its events, ledger row, and only then the slot's feedback.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from database.ledger import Pool
from database.ledger import stream as ledger
from pipeline import failpoints, logs, metrics
from pipeline.events import Event
from pipeline.keys import time_of
from pipeline.position import Lsn, Position
from pipeline.s3 import ObjectStore
from streamer.publisher import Publisher
from streamer.rawfile import RawFile

log = logs.get(__name__)

QUEUED_FILES = 2
"""Closed files that may wait for S3 or Kafka; then the stream stops, and WAL waits where it is safe."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Closed:
    file: RawFile
    mark: dict[int, int]
    complete_until: Lsn | None


class Recorder:
    """The only writer of raw objects. `confirmed` is what the server may forget."""

    def __init__(
        self,
        *,
        slot: str,
        pool: Pool,
        bucket: ObjectStore,
        publisher: Publisher,
        previous: Position | None,
        confirmed: Lsn,
        flush_seconds: float,
        max_bytes: int,
    ) -> None:
        self._slot = slot
        self._pool = pool
        self._bucket = bucket
        self._publisher = publisher
        self._previous = previous
        self._recorded_until = previous
        self._flush_seconds = flush_seconds
        self._max_bytes = max_bytes
        self._file: RawFile | None = None
        self._closed: asyncio.Queue[_Closed] = asyncio.Queue(QUEUED_FILES)
        self._unfinished = 0
        self.confirmed = confirmed
        self.confirmed_changed = asyncio.Event()

    @property
    def empty(self) -> bool:
        """Every event that came in is in the ledger."""
        return self._file is None and self._unfinished == 0

    def add(self, event_batch: Sequence[Event], now: float) -> None:
        """Append events, but those that the ledger has. `now`: seconds since 1970."""
        if self._recorded_until is not None and event_batch and event_batch[0].position <= self._recorded_until:
            event_batch = [event for event in event_batch if event.position > self._recorded_until]
        if event_batch:
            if self._file is None:
                self._file = RawFile(opened_at=now)
            self._file.add(event_batch)

    def is_due(self, now: float) -> bool:
        """The open file's minute is over by the clock, or it is large enough."""
        if self._file is None:
            return False
        boundary = (self._file.opened_at // self._flush_seconds + 1) * self._flush_seconds
        return now >= boundary or self._file.bytes >= self._max_bytes

    async def close_file(self, complete_until: Lsn | None) -> None:
        """Close the open file. `complete_until`: end of the last whole transaction in it or before it; None for none.

        Waits while QUEUED_FILES files are waiting already.
        """
        if self._file is None:
            return
        file, self._file = self._file, None
        self._unfinished += 1
        await self._publisher.flush()
        await self._closed.put(_Closed(file=file, mark=self._publisher.mark(), complete_until=complete_until))

    async def run(self) -> None:
        """Upload and enter closed files, one after the other, for ever."""
        while True:
            closed = await self._closed.get()
            await self._record(closed)
            self._unfinished -= 1
            self._closed.task_done()

    async def drained(self) -> None:
        """Wait until every closed file is in the ledger."""
        await self._closed.join()

    async def _record(self, closed: _Closed) -> None:
        file = closed.file
        body = await asyncio.to_thread(file.finish)
        first, last = file.first_position, file.last_position
        assert first is not None
        assert last is not None
        earliest, latest = file.commit_times
        metadata = {
            "previous-position": str(self._previous or ""),
            "first-position": str(first),
            "last-position": str(last),
            "events": str(file.events),
            "min-commit-time": str(earliest),
            "max-commit-time": str(latest),
        }
        await self._bucket.put_new(file.key, body, sha256=file.sha256, metadata=metadata)
        failpoints.reach("streamer.after_put")
        tails = await self._publisher.acknowledged(closed.mark)
        raw = ledger.RawObject(
            bucket=self._bucket.bucket,
            key=file.key,
            previous_position=self._previous,
            first_position=first,
            last_position=last,
            kafka_tails=tails,
            events=file.events,
            bytes=file.bytes,
            sha256=file.sha256.hex(),
            min_commit_time=time_of(earliest),
            max_commit_time=time_of(latest),
            counts=file.counts(),
        )
        async with self._pool.connection() as connection:
            await ledger.commit_raw_object(connection, self._slot, raw)
        failpoints.reach("streamer.after_ledger")
        self._previous = last
        file.discard()
        metrics.RAW_OBJECTS.inc()
        metrics.RAW_EVENTS.inc(file.events)
        log.info("streamer.raw_object.recorded", key=file.key, events=file.events, bytes=file.bytes)
        if closed.complete_until is not None:
            await self.confirm(closed.complete_until, None)

    async def confirm(self, lsn: Lsn, caught_up_at: int | None) -> None:
        """Let the server forget what is before `lsn`: into the ledger first, so that the slot never leads.

        `caught_up_at`: microseconds since 1970; every commit before it is in a raw object.
        """
        async with self._pool.connection() as connection:
            await ledger.confirm(connection, self._slot, lsn, None if caught_up_at is None else time_of(caught_up_at))
        self.confirmed = max(self.confirmed, lsn)
        self.confirmed_changed.set()
