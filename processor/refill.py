"""Events that Kafka should hold and does not, read from raw files: acknowledged records can be lost, or age out."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Callable

from database.ledger import Pool, connected
from database.ledger import chunks as ledger
from database.ledger.chunks import ConsumerPosition
from pipeline import logs, metrics, rawfile
from pipeline.errors import PermanentError
from pipeline.events import partition_of
from pipeline.position import Position
from pipeline.record import text_column
from pipeline.s3 import ObjectStore

log = logs.get(__name__)

_POLL_SECONDS = 1.0

Refilled = tuple[Position, int, bytes]
"""(position, commit time in microseconds, line)."""


async def refill(
    pool: Pool,
    bucket: ObjectStore,
    *,
    partition: int,
    partitions: int,
    stand: ConsumerPosition,
    sequence: int,
    position: Position,
    turned: Callable[[], None],
) -> AsyncIterator[Refilled]:
    """The events of `partition` between where it stands and the record (`sequence`, `position`), in order.

    Waits until raw files reach that record; calls `turned` meanwhile. Raises PermanentError when the raw files don't
    have exactly as many events as the sequence says are missing.
    """
    metrics.SEQUENCE_HOLES.inc()
    expected = sequence - stand.last_sequence - 1
    log.warning("processor.hole.found", partition=partition, after_sequence=stand.last_sequence, missing=expected)
    while True:
        async with connected(pool) as connection:
            reached = await ledger.recorded_until(connection)
            if reached is not None and reached >= position:
                refs = await ledger.raw_objects_between(connection, stand.last_position, position)
                break
        turned()
        await asyncio.sleep(_POLL_SECONDS)
    found = 0
    for ref in refs:
        body = await bucket.get(ref.key)
        if hashlib.sha256(body).hexdigest() != ref.sha256:
            raise PermanentError(f"s3://{ref.bucket}/{ref.key} is not what was written", hint="restore its version")
        for at, commit_time, line in rawfile.decode(body):
            if stand.last_position < at < position and _partition(line, partitions) == partition:
                found += 1
                yield at, commit_time, line
        turned()
    if found != expected:
        raise PermanentError(
            f"partition {partition}: {expected} events are missing before sequence {sequence}, raw files have {found}",
            hint="run python -m database reconcile",
        )
    log.warning("processor.hole.refilled", partition=partition, events=found)


def _partition(line: bytes, partitions: int) -> int:
    key = text_column(line, "client_id")
    if key is None:
        key = text_column(line, "site_id")
    return partition_of(None if key is None else key.encode(), partitions)
