"""Raw files: grown from events, closed by the clock or by size, uploaded, and entered into the ledger in order.

The order of safety: object in S3, Kafka's answer for all its events, ledger row, and only then the slot's feedback.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import IO

from database.ledger import Pool, connected
from database.ledger import stream as ledger
from database.ledger.records import History, history_text, tails_text
from database.ledger.stream import KafkaTail
from pipeline import failpoints, logs, metrics
from pipeline.errors import TransientError
from pipeline.events import Event
from pipeline.keys import time_of
from pipeline.position import Lsn, Position
from pipeline.s3 import ObjectStore
from streamer.publisher import Publisher
from streamer.rawfile import RawFile

log = logs.get(__name__)

QUEUED_FILES = 2
"""Closed files that may wait for S3 or Kafka; then the stream stops, and WAL waits where it is safe."""

_TURN_SECONDS = 5.0
_MOST_WAIT_SECONDS = 15.0


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
        epoch: int,
        pool: Pool,
        bucket: ObjectStore,
        publisher: Publisher,
        previous: Position | None,
        confirmed: Lsn,
        flush_seconds: float,
        max_bytes: int,
        turned: Callable[[], None],
        histories: Sequence[History],
        tails: Mapping[int, KafkaTail],
    ) -> None:
        """`epoch`: of the server, the fence against readers of another history. `turned` is called while it waits.

        `histories` and `tails` (of the ledger's last object) go into the metadata: a lost ledger is rebuilt from there.
        """
        self._slot = slot
        self._epoch = epoch
        self._pool = pool
        self._bucket = bucket
        self._publisher = publisher
        self._previous = previous
        self._recorded_until = previous
        self._flush_seconds = flush_seconds
        self._max_bytes = max_bytes
        self._turned = turned
        self._histories = history_text(histories)
        self._tails = tails
        self._file: RawFile | None = None
        self._closed: asyncio.Queue[_Closed] = asyncio.Queue(QUEUED_FILES)
        self._unfinished = 0
        self.confirmed = confirmed
        self.confirmed_changed = asyncio.Event()

    @property
    def recorded_until(self) -> Position | None:
        """The last event in the ledger."""
        return self._previous

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
        closed = _Closed(file=file, mark=self._publisher.mark(), complete_until=complete_until)
        queued = asyncio.ensure_future(self._closed.put(closed))
        try:
            while not queued.done():
                await asyncio.wait({queued}, timeout=_TURN_SECONDS)
                self._turned()  # waiting for S3 or Kafka is no reason to be restarted
        finally:
            queued.cancel()

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
            "history": self._histories,
            "previous-tails": tails_text(self._tails),
        }
        await self._put(file, body, metadata)
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
        async with connected(self._pool) as connection:
            await ledger.commit_raw_object(connection, self._slot, self._epoch, raw)
        failpoints.reach("streamer.after_ledger")
        self._previous, self._tails = last, tails
        file.discard()
        metrics.RAW_OBJECTS.inc()
        metrics.RAW_EVENTS.inc(file.events)
        log.info("streamer.raw_object.recorded", key=file.key, events=file.events, bytes=file.bytes)
        if closed.complete_until is not None:
            await self.confirm(closed.complete_until, None)

    async def _put(self, file: RawFile, body: IO[bytes], metadata: dict[str, str]) -> None:
        """Tried until it succeeds: meanwhile the stream waits, and WAL is safe at the server."""
        wait_seconds = 0.5
        while True:
            try:
                return await self._bucket.put_new(file.key, body, sha256=file.sha256, metadata=metadata)
            except TransientError as error:
                log.warning("streamer.raw_object.delayed", key=file.key, error=str(error), wait_seconds=wait_seconds)
                metrics.RAW_OBJECT_RETRIES.inc()
                await asyncio.sleep(wait_seconds)
                wait_seconds = min(2 * wait_seconds, _MOST_WAIT_SECONDS)
                body.seek(0)

    async def confirm(self, lsn: Lsn, caught_up_at: int | None) -> None:
        """Let the server forget what is before `lsn`: into the ledger first, so that the slot never leads.

        `caught_up_at`: microseconds since 1970; every commit before it is in a raw object.
        """
        async with connected(self._pool) as connection:
            time = None if caught_up_at is None else time_of(caught_up_at)
            await ledger.confirm(connection, self._slot, self._epoch, lsn, time)
        self.confirmed = max(self.confirmed, lsn)
        self.confirmed_changed.set()
