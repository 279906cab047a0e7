"""Rows that were in events_log before the slot existed, read under the snapshot that its creation exported.

What was exported before is left out: rows with the pipeline's own stamps, and rows whose (id, event_id) stand in raw
objects that aren't stamped yet. So the same code begins anew after a crash, and closes the gap when a slot was lost.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass

from psycopg import AsyncConnection, sql

from database import source
from database.ledger import Pool, connected
from database.ledger import stream as ledger
from pipeline import failpoints, logs, metrics, rawfile
from pipeline.errors import PermanentError
from pipeline.events import Event
from pipeline.position import Lsn, Position
from pipeline.s3 import ObjectStore
from streamer.pgoutput import Column
from streamer.rows import RowEncoder
from streamer.types import SqlType, Types

log = logs.get(__name__)

BATCH_EVENTS = 1000
BATCH_BYTES = 4 << 20
LOG_EVENTS = 100_000

# Text forms as on the replication connection; and an error, not a silent gap, where row security hides rows from us.
_SESSION = {
    "timezone": "UTC",
    "datestyle": "ISO",
    "intervalstyle": "iso_8601",
    "bytea_output": "hex",
    "extra_float_digits": "1",
    "row_security": "off",
}


@dataclass
class SnapshotProgress:
    """What /status shows of a snapshot."""

    rows_in_table: int | None = None
    """An estimate of the server's, None when it has none."""
    already_exported: int | None = None
    """Events of raw objects that were left out by their identity, because their rows carry no stamp yet."""
    events: int = 0


_ID = re.compile(rb'"id":(-?\d+)[,}]')
_EVENT_ID = re.compile(rb'"event_id":"([0-9a-f-]{36})"')


async def snapshot_events(
    connection: AsyncConnection,
    *,
    snapshot: str,
    consistent_point: Lsn,
    epoch: int,
    recorded_until: Position | None,
    now: int,
    pool: Pool,
    bucket: ObjectStore,
    progress: SnapshotProgress,
    stop: asyncio.Event,
) -> AsyncIterator[list[Event]]:
    """Batches of rows that no raw object holds, at positions just before the consistent point.

    The first streamed transaction may have the consistent point itself, hence one less. `now` (microseconds since
    1970) is their commit time: the true one is not known. Ends early when `stop` is set. Raises PermanentError when
    their positions would not follow `recorded_until`: they would pass for repeats.
    """
    first = Position(epoch, consistent_point - 1, 0)
    if recorded_until is not None and first <= recorded_until:
        raise PermanentError(
            f"the slot's consistent point {consistent_point} lies before what is recorded, {recorded_until}",
            hint="the server was set back: start it once with recovery.signal, so that it begins a new timeline",
        )
    with suppress(_InterruptedError):
        async with connection.transaction():
            await connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
            await connection.execute(sql.SQL("SET TRANSACTION SNAPSHOT {}").format(sql.Literal(snapshot)))
            for name, value in _SESSION.items():
                await connection.execute(sql.SQL("SET LOCAL {} = {}").format(sql.Identifier(name), sql.Literal(value)))
            progress.already_exported = await _load_exported(connection, pool, bucket)
            progress.rows_in_table = await _estimate(connection)
            log.info("streamer.snapshot.started", consistent_point=str(consistent_point), **asdict(progress))
            columns = await _columns(connection)
            encoder = RowEncoder(columns, await read_types(connection))
            event_batch: list[Event] = []
            batch_bytes = index = 0
            async with connection.cursor() as cursor, cursor.copy(_query(columns)) as copy:
                async for row in copy.rows():
                    values = [None if value is None else value.encode() for value in row]
                    position = Position(epoch, consistent_point - 1, index)
                    index += 1
                    event = Event(position, now, *encoder.encode_values(values))
                    event_batch.append(event)
                    batch_bytes += len(event.line)
                    if len(event_batch) >= BATCH_EVENTS or batch_bytes >= BATCH_BYTES:
                        yield _counted(event_batch, progress)
                        event_batch, batch_bytes = [], 0
                        failpoints.reach("streamer.in_snapshot")
                        if stop.is_set():
                            raise _InterruptedError
            if event_batch:
                yield _counted(event_batch, progress)
            await connection.execute("DROP TABLE pg_temp.exported")
        log.info("streamer.snapshot.read", events=index)


class _InterruptedError(Exception):
    """The way out of a COPY that has more: the server is told to cancel it."""


def _query(columns: Sequence[Column]) -> sql.Composed:
    return sql.SQL(
        "COPY (SELECT {} FROM events_log e WHERE raw_exported_at IS NULL AND processed_at IS NULL"
        " AND NOT EXISTS (SELECT FROM pg_temp.exported x WHERE x.id = e.id AND x.event_id = e.event_id)) TO STDOUT"
    ).format(sql.SQL(", ").join(sql.Identifier(column.name) for column in columns))


def _counted(event_batch: list[Event], progress: SnapshotProgress) -> list[Event]:
    before = progress.events
    progress.events += len(event_batch)
    metrics.SNAPSHOT_EVENTS.inc(len(event_batch))
    if progress.events // LOG_EVENTS > before // LOG_EVENTS:
        log.info("streamer.snapshot.progressed", **asdict(progress))
    return event_batch


async def read_types(connection: AsyncConnection) -> Types:
    """The server's domains and arrays."""
    return {oid: SqlType(*parts) for oid, parts in (await source.made_types(connection)).items()}


async def _load_exported(connection: AsyncConnection, pool: Pool, bucket: ObjectStore) -> int:
    """Fill pg_temp.exported with the (id, event_id) of raw objects whose rows carry no stamp yet; returns how many."""
    await connection.execute("CREATE TEMPORARY TABLE exported (id bigint NOT NULL, event_id uuid NOT NULL)")
    count = 0
    async with connected(pool) as ledger_connection:
        async for ref in ledger.unstamped_objects(ledger_connection):
            async with (
                connection.cursor() as cursor,
                cursor.copy("COPY pg_temp.exported (id, event_id) FROM STDIN") as copy,
            ):
                body = await bucket.get(ref.key)
                if hashlib.sha256(body).hexdigest() != ref.sha256:
                    raise PermanentError(f"s3://{ref.bucket}/{ref.key} is not what was written", hint="restore it")
                for _, _, line in rawfile.decode(body):
                    await copy.write_row(_identity(line))
                    count += 1
    await connection.execute("CREATE INDEX ON pg_temp.exported (id)")
    await connection.execute("ANALYZE pg_temp.exported")
    return count


def _identity(line: bytes) -> tuple[int, str]:
    """(id, event_id) of a record. They are scalars, and scalars stand before what a page could have written.

    Not parsed: JSON of a page may hold numbers that no parser takes.
    """
    row_id, event_id = _ID.search(line), _EVENT_ID.search(line)
    if row_id is None or event_id is None:
        raise PermanentError("a record in a raw object has no id or event_id")
    return int(row_id[1]), event_id[1].decode()


async def _estimate(connection: AsyncConnection) -> int | None:
    cursor = await connection.execute(
        "SELECT sum(greatest(reltuples, 0))::bigint FROM pg_class WHERE oid = 'events_log'::regclass"
        " OR oid IN (SELECT relid FROM pg_partition_tree('events_log'::regclass) WHERE isleaf)"
    )
    row = await cursor.fetchone()
    return row[0] if row is not None else None


async def _columns(connection: AsyncConnection) -> list[Column]:
    cursor = await connection.execute(
        "SELECT attname, atttypid::bigint FROM pg_attribute"
        " WHERE attrelid = 'events_log'::regclass AND attnum > 0 AND NOT attisdropped AND attgenerated = ''"
        " ORDER BY attnum"
    )
    return [Column(name=name, type_oid=type_oid) for name, type_oid in await cursor.fetchall()]
