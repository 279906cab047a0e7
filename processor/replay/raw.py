"""Events of chunks from the raw files, in passes over the files of the hour."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Mapping
from uuid import UUID

from database.ledger import Pool, cells, connected, layouts
from database.ledger import chunks as ledger
from database.ledger.stream import RawObjectRef
from pipeline import rawfile
from pipeline.errors import PermanentError, PoisonError, TransientError
from pipeline.keys import HOUR_MICROSECONDS, hour_of
from pipeline.layout import Layouts
from pipeline.position import Position
from pipeline.s3 import ObjectStore
from processor.replay.pace import Pace
from processor.replay.spans import Batch, Partition, Taken, Wanted, partitions_of, passes

MOST_EVENTS = 150_000
"""Of all chunks that are open at a time, so that a replay needs less memory than a live processor."""

_TAIL_SECONDS = 180
"""How long to wait for raw files of events that Kafka has already: a few of the streamer's flush times."""

_POLL_SECONDS = 1.0


class RawReader:
    """Reads raw files; each is compared with the ledger's digest first."""

    name = "raw"

    def __init__(self, bucket: ObjectStore, pool: Pool, topic: str, partitions: int, pace: Pace) -> None:
        """`partitions`: of a topic that has no layout yet."""
        self._bucket = bucket
        self._pool = pool
        self._topic = topic
        self._partitions = partitions
        self._pace = pace

    async def read(self, wanted: Wanted) -> AsyncIterator[Batch]:
        """The events that are wanted, each once, in order within a chunk.

        Raises PermanentError when a file is gone or isn't what was written, TransientError when no file reaches the
        newest chunk yet.
        """
        after, until = min(span.after for span in wanted.spans), max(span.until for span in wanted.spans)
        await self._wait_for(until)
        async with connected(self._pool) as connection:
            refs = await cells.raw_objects_of(
                connection, hour_of(wanted.hour * HOUR_MICROSECONDS), wanted.sources, after, until
            )
            # Read now: all layouts of positions that were processed are in the ledger.
            spread = await layouts.layouts_of(connection, self._topic, self._partitions)
        for partitions in passes(partitions_of(wanted.spans), wanted.events, MOST_EVENTS):
            last = after
            for ref in refs:
                taken, seen = await asyncio.to_thread(_pick, await self._get(ref), partitions, spread, wanted.hour)
                reached = Position.parse(ref.last_position)
                yield Batch(events=taken, closed=_closed(partitions, reached, last))
                last = reached
                await self._pace.keep(seen)
            yield Batch(events=[], closed=_closed(partitions, until, last))

    async def line_at(self, position: Position) -> bytes | None:
        """The event at `position`; None when no raw file has one there."""
        async with connected(self._pool) as connection:
            ref = await cells.raw_object_at(connection, position)
        if ref is None:
            return None
        return next((line for at, _, line in rawfile.decode(await self._get(ref)) if at == position), None)

    async def _get(self, ref: RawObjectRef) -> bytes:
        try:
            body = await self._bucket.get(ref.key)
        except PermanentError as error:
            raise PermanentError(
                f"s3://{ref.bucket}/{ref.key} can't be read: {error.args[0]}",
                hint="the raw bucket's retention may have removed it",
            ) from error
        if hashlib.sha256(body).hexdigest() != ref.sha256:
            raise PermanentError(f"s3://{ref.bucket}/{ref.key} is not what was written", hint="restore its version")
        return body

    async def _wait_for(self, position: Position) -> None:
        for _ in range(int(_TAIL_SECONDS / _POLL_SECONDS)):
            async with connected(self._pool) as connection:
                reached = await ledger.recorded_until(connection)
            if reached is not None and reached >= position:
                return
            await asyncio.sleep(_POLL_SECONDS)
        raise TransientError("raw files don't reach the newest events of that hour", hint="is the streamer running?")


def _closed(partitions: Mapping[int, Partition], position: Position, before: Position) -> list[UUID]:
    return [chunk_id for partition in partitions.values() for chunk_id in partition.closed_by(position, before)]


def _pick(body: bytes, partitions: Mapping[int, Partition], spread: Layouts, hour: int) -> tuple[list[Taken], int]:
    """(the events of `hour` in these chunks, how many events the file has)."""
    taken: list[Taken] = []
    seen = 0
    for position, commit_time, line in rawfile.decode(body):
        seen += 1
        if commit_time // HOUR_MICROSECONDS != hour:
            continue
        try:
            partition = partitions.get(spread.partition_of_line(position, line))
        except PoisonError:
            continue  # a dead letter of nobody, in no cell
        span = partition.span_at(position) if partition is not None else None
        if span is not None:
            taken.append((span.id, position, commit_time, line))
    return taken, seen
