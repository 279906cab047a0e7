"""Objects whose time is over: the condition and the mark are one statement, the object is deleted afterwards."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from psycopg import AsyncConnection

from database.ledger import records, revisions
from database.ledger.chunks import CountKey
from database.ledger.revisions import Revision
from pipeline.errors import FencedError
from pipeline.s3 import ObjectStore

BATCH = 1000
"""What one statement marks and one request deletes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Removed:
    """An object that the ledger does not believe in any more."""

    key: str
    bytes: int
    events: int


# Rows have left events_log, which the cleaner does for verified objects alone; every event has been processed.
_RAW = """
    r.removed_at IS NULL AND r.bucket = %(bucket)s AND r.exported_at < %(before)s
    AND r.deleted_at IS NOT NULL AND r.cleanup_problem IS NULL
    AND NOT EXISTS (SELECT FROM jsonb_each_text(r.kafka_end_sequences) AS e (partition, last_sequence)
        LEFT JOIN pipeline.consumer_positions c ON c.topic = %(topic)s AND c.partition = e.partition::int
        WHERE e.last_sequence::bigint > coalesce(c.last_sequence, -1))
"""

# In a file that is in the client's bucket and stands in a finished run's manifest; or replaced by others.
_PROCESSED = """
    o.removed_at IS NULL AND o.bucket = %(bucket)s
    AND (EXISTS (SELECT FROM pipeline.chunks k WHERE k.id = o.chunk_id AND k.committed_at < %(before)s)
         OR EXISTS (SELECT FROM pipeline.cell_revisions v WHERE v.id = o.superseded_by AND v.cause = 'retention'))
    AND (o.superseded_by IS NOT NULL OR (o.kind = 'client' AND EXISTS (
        SELECT FROM pipeline.delivery_members m JOIN pipeline.delivery_files f ON f.id = m.file_id
          JOIN pipeline.sync_runs s ON s.id = f.run_id
         WHERE m.processed_object_id = o.id AND f.state = 'delivered' AND s.status = 'finished'
           AND NOT EXISTS (SELECT FROM pipeline.delivery_replacements p WHERE p.file_id = f.id AND p.state = 'open'))))
"""

_UNDELIVERED = """
    SELECT count(*), coalesce(sum(o.bytes), 0)::bigint, coalesce(sum(o.events), 0)::bigint
      FROM pipeline.processed_objects o JOIN pipeline.chunks k ON k.id = o.chunk_id
     WHERE o.kind = 'client' AND o.superseded_by IS NULL AND o.removed_at IS NULL AND k.committed_at < %(before)s
       AND NOT EXISTS (SELECT FROM pipeline.delivery_members m JOIN pipeline.delivery_files f ON f.id = m.file_id
                       WHERE m.processed_object_id = o.id AND f.state = 'delivered')
"""


async def mark_raw(connection: AsyncConnection, *, bucket: str, topic: str, before: datetime) -> list[Removed]:
    """Mark at most BATCH raw objects as removed; the caller deletes them."""
    cursor = await connection.execute(
        "UPDATE pipeline.raw_objects SET removed_at = clock_timestamp() WHERE id IN (SELECT r.id"  # noqa: S608
        f" FROM pipeline.raw_objects r WHERE {_RAW} ORDER BY r.first_position LIMIT {BATCH})"
        " RETURNING key, bytes, events",
        {"bucket": bucket, "topic": topic, "before": before},
    )
    return [Removed(key=row[0], bytes=row[1], events=row[2]) for row in await cursor.fetchall()]


async def mark_processed(connection: AsyncConnection, *, bucket: str, before: datetime) -> list[Removed]:
    """Mark at most BATCH processed objects as removed: delivered ones, and those that others took the place of."""
    cursor = await connection.execute(
        "UPDATE pipeline.processed_objects SET removed_at = clock_timestamp() WHERE id IN (SELECT o.id"  # noqa: S608
        f" FROM pipeline.processed_objects o WHERE {_PROCESSED} ORDER BY o.id LIMIT {BATCH})"
        " RETURNING key, bytes, events",
        {"bucket": bucket, "before": before},
    )
    return [Removed(key=row[0], bytes=row[1], events=row[2]) for row in await cursor.fetchall()]


async def undelivered(connection: AsyncConnection, before: datetime) -> tuple[int, int, int]:
    """(objects, bytes, events) that are as old and in no client's bucket."""
    cursor = await connection.execute(_UNDELIVERED, {"before": before})
    row = await cursor.fetchone()
    assert row is not None
    return row[0], row[1], row[2]


_DISPOSITION = {"client": "out", "held": "held", "quarantine": "quarantine", "dead_letter": "dead_letter"}


async def expire(
    connection: AsyncConnection, bucket: ObjectStore, kind: str, before: datetime, *, dry_run: bool
) -> list[Removed]:
    """Let objects of `kind` that nobody got expire, cell by cell: their events stay counted, as expired.

    A revision like that of a replay, so whoever reads a cell sees it before or after. A cell that changes meanwhile is
    left for the next time.
    """
    cursor = await connection.execute(
        "SELECT o.client_id, o.hour, o.chunk_id, o.id, o.key, o.bytes, o.events"
        " FROM pipeline.processed_objects o JOIN pipeline.chunks k ON k.id = o.chunk_id"
        " WHERE o.kind = %s AND o.bucket = %s AND o.superseded_by IS NULL AND k.committed_at < %s"
        " AND NOT EXISTS (SELECT FROM pipeline.delivery_members m WHERE m.processed_object_id = o.id)"
        " ORDER BY o.hour, o.client_id, o.id",
        (kind, bucket.bucket, before),
    )
    cells: dict[tuple[str, datetime], list[tuple[Any, ...]]] = defaultdict(list)
    for client_id, hour, *rest in await cursor.fetchall():
        cells[client_id, hour].append(tuple(rest))
    removed: list[Removed] = []
    for (client_id, hour), objects in cells.items():
        found = [Removed(key=row[2], bytes=row[3], events=row[4]) for row in objects]
        if dry_run or await _expire_cell(connection, bucket, kind, client_id, hour, objects):
            removed += found
    return removed


async def _expire_cell(
    connection: AsyncConnection,
    bucket: ObjectStore,
    kind: str,
    client_id: str,
    hour: datetime,
    objects: Sequence[tuple[Any, ...]],
) -> bool:
    cursor = await connection.execute(
        "SELECT chunk_id, source_client_id, events FROM pipeline.chunk_counts"
        " WHERE chunk_id = ANY(%s) AND hour = %s AND client_id = %s AND disposition = %s",
        (list({row[0] for row in objects}), hour, client_id, _DISPOSITION[kind]),
    )
    rows = await cursor.fetchall()
    removed: dict[tuple[UUID, CountKey], int] = {
        (row[0], (hour, row[1], client_id, _DISPOSITION[kind])): row[2] for row in rows
    }
    added: dict[tuple[UUID, CountKey], int] = {(row[0], (hour, row[1], client_id, "expired")): row[2] for row in rows}
    revision = Revision(
        id=await revisions.reserve(connection),
        cause="retention",
        client_id=client_id,
        hour=hour,
        superseded=[row[1] for row in objects],
        removed=removed,
        added=added,
        objects=(),
        summary={"kind": kind, "events": sum(row[4] for row in objects)},
    )
    await records.put_revision(bucket, revision, [row[2] for row in objects])
    try:
        await revisions.supersede(connection, revision)
    except FencedError:
        return False
    return True
