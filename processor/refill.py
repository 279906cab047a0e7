"""Events that Kafka should hold and does not, read from raw files: acknowledged records can be lost, or age out."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Callable

from database.ledger import Pool, connected
from database.ledger import chunks as ledger
from database.ledger.chunks import ConsumerPosition
from database.ledger.layouts import layouts_of
from pipeline import logs, metrics, rawfile
from pipeline.errors import PermanentError
from pipeline.position import Position
from pipeline.s3 import ObjectStore

log = logs.get(__name__)

_POLL_SECONDS = 1.0

Refilled = tuple[Position, int, bytes | None]
"""(position, commit time in microseconds, line); without a line: a pointer into nothing."""


async def refill(
    pool: Pool,
    bucket: ObjectStore,
    *,
    partition: int,
    topic: str,
    stand: ConsumerPosition,
    sequence: int,
    position: Position,
    pointer_commit_time: int | None = None,
    is_end: bool = False,
    turned: Callable[[], None],
) -> AsyncIterator[Refilled]:
    """The events of `partition` between where it stands and the record (`sequence`, `position`), in order.

    A record that only points to its event has a `pointer_commit_time`: then its event is one of them, at the end. When
    the slot was lost before the raw file was written, that event has come again at a later position, and the pointer
    points into nothing. With `is_end` there is no such record: `position` is the last one that raw files hold, and
    `sequence` the one that would follow.

    Waits until raw files reach that record; calls `turned` meanwhile. Raises PermanentError when the raw files don't
    have exactly as many events as the sequence says are missing.
    """
    expected = sequence - stand.last_sequence - 1
    end = position
    if expected:
        metrics.SEQUENCE_HOLES.inc()
        log.warning("processor.hole.found", partition=partition, after_sequence=stand.last_sequence, missing=expected)
    if pointer_commit_time is not None:
        expected += 1
    if pointer_commit_time is not None or is_end:
        end = position._replace(index=position.index + 1)
    while not await _is_recorded(pool, position):
        turned()
        await asyncio.sleep(_POLL_SECONDS)
    async with connected(pool) as connection:
        refs = await ledger.raw_objects_between(connection, stand.last_position, end)
        spread = await layouts_of(connection, topic)  # by now it has all layouts of what was sent
    found, pointed = 0, False
    for ref in refs:
        body = await bucket.get(ref.key)
        if hashlib.sha256(body).hexdigest() != ref.sha256:
            raise PermanentError(f"s3://{ref.bucket}/{ref.key} is not what was written", hint="restore its version")
        for at, commit_time, line in rawfile.decode(body):
            if stand.last_position < at < end and spread.partition_of_line(at, line) == partition:
                found += 1
                pointed |= at == position
                yield at, commit_time, line
        turned()
    if pointer_commit_time is not None and not pointed:
        found += 1
        log.warning("processor.pointer.abandoned", partition=partition, position=str(position))
        yield position, pointer_commit_time, None
    if found != expected:
        raise PermanentError(
            f"partition {partition}: {expected} events are missing before sequence {sequence}, raw files have {found}",
            hint="run python -m database reconcile",
        )
    log.info("processor.hole.refilled", partition=partition, events=found)


async def _is_recorded(pool: Pool, position: Position) -> bool:
    async with connected(pool) as connection:
        reached = await ledger.recorded_until(connection)
    return reached is not None and reached >= position
