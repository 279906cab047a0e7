"""Rows that were in events_log before the slot existed, read under the snapshot that its creation exported.

What was exported before is left out: rows with the pipeline's own stamps, and rows whose (id, event_id) stand in raw
objects that aren't stamped yet. So the same code begins anew after a crash, and closes the gap when a slot was lost.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator

import orjson
from psycopg import AsyncConnection, sql

from database.ledger import Pool
from database.ledger import stream as ledger
from pipeline import logs, metrics, rawfile
from pipeline.errors import PermanentError
from pipeline.events import Event
from pipeline.position import Lsn, Position
from pipeline.s3 import ObjectStore
from streamer.pgoutput import Column
from streamer.rows import RowEncoder

log = logs.get(__name__)

BATCH_EVENTS = 1000

_IDS = re.compile(rb'"id":(-?\d+),.*?"event_id":"([0-9a-f-]{36})"')


async def snapshot_events(
    connection: AsyncConnection,
    *,
    snapshot: str,
    consistent_point: Lsn,
    epoch: int,
    now: int,
    pool: Pool,
    bucket: ObjectStore,
) -> AsyncIterator[list[Event]]:
    """Batches of rows that no raw object holds, at positions just before the consistent point.

    The first streamed transaction may have the consistent point itself, hence one less. `now` (microseconds since
    1970) is their commit time: the true one is not known.
    """
    async with connection.transaction():
        await connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        await connection.execute(sql.SQL("SET TRANSACTION SNAPSHOT {}").format(sql.Literal(snapshot)))
        await connection.execute("SET LOCAL timezone = 'UTC'")
        await connection.execute("SET LOCAL datestyle = 'ISO'")
        await connection.execute("SET LOCAL intervalstyle = 'iso_8601'")
        await connection.execute("SET LOCAL bytea_output = 'hex'")
        known = await _load_exported(connection, pool, bucket)
        columns = await _columns(connection)
        encoder = RowEncoder(columns)
        names = sql.SQL(", ").join(sql.Identifier(column.name) for column in columns)
        query = sql.SQL(
            "COPY (SELECT {} FROM events_log e WHERE raw_exported_at IS NULL AND processed_at IS NULL"
            " AND NOT EXISTS (SELECT FROM pg_temp.exported x WHERE x.id = e.id AND x.event_id = e.event_id)) TO STDOUT"
        ).format(names)
        log.info("streamer.snapshot.started", already_exported=known, consistent_point=str(consistent_point))
        index = 0
        event_batch: list[Event] = []
        async with connection.cursor() as cursor, cursor.copy(query) as copy:
            async for row in copy.rows():
                values = [None if value is None else value.encode() for value in row]
                position = Position(epoch, consistent_point - 1, index)
                index += 1
                event_batch.append(Event(position, now, *encoder.encode_values(values)))
                if len(event_batch) >= BATCH_EVENTS:
                    metrics.SNAPSHOT_EVENTS.inc(len(event_batch))
                    yield event_batch
                    event_batch = []
        if event_batch:
            metrics.SNAPSHOT_EVENTS.inc(len(event_batch))
            yield event_batch
        await connection.execute("DROP TABLE pg_temp.exported")
    log.info("streamer.snapshot.read", events=index)


async def _load_exported(connection: AsyncConnection, pool: Pool, bucket: ObjectStore) -> int:
    """Fill pg_temp.exported with the (id, event_id) of raw objects whose rows carry no stamp yet; returns how many."""
    await connection.execute("CREATE TEMPORARY TABLE exported (id bigint NOT NULL, event_id uuid NOT NULL)")
    count = 0
    async with pool.connection() as ledger_connection:
        async for ref in ledger.unstamped_objects(ledger_connection):
            async with (
                connection.cursor() as cursor,
                cursor.copy("COPY pg_temp.exported (id, event_id) FROM STDIN") as copy,
            ):
                for _, _, line in rawfile.decode(await bucket.get(ref.key)):
                    await copy.write_row(_identity(line))
                    count += 1
    await connection.execute("CREATE INDEX ON pg_temp.exported (id)")
    await connection.execute("ANALYZE pg_temp.exported")
    return count


def _identity(line: bytes) -> tuple[int, str]:
    """(id, event_id) of a record. They are scalars, and scalars stand before what a page could have written."""
    match = _IDS.match(line, 1)
    if match is not None:
        return int(match[1]), match[2].decode()
    try:
        record = orjson.loads(line)
        return int(record["id"]), str(record["event_id"])
    except (ValueError, KeyError, TypeError) as error:
        raise PermanentError("a record in a raw object has no id or event_id") from error


async def _columns(connection: AsyncConnection) -> list[Column]:
    cursor = await connection.execute(
        "SELECT attname, atttypid::bigint FROM pg_attribute"
        " WHERE attrelid = 'events_log'::regclass AND attnum > 0 AND NOT attisdropped AND attgenerated = ''"
        " ORDER BY attnum"
    )
    return [Column(name=name, type_oid=type_oid) for name, type_oid in await cursor.fetchall()]
