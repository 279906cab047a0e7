"""What the ledger says of one hour of commit time: its chunks, what became of their events, and the objects of now."""

# ruff: noqa: S608 - the columns are a constant
from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from psycopg import AsyncConnection
from psycopg.rows import class_row

from database.ledger.chunks import CountKey
from database.ledger.stream import RawObjectRef, raw_object_refs
from pipeline.position import ZERO, Position


@dataclass(frozen=True, slots=True, kw_only=True)
class ChunkSpan:
    """Where a chunk's events are: it took each event of its partition in the positions from `after` (not included)
    to `until` (included) once; in Kafka they lie from `first_offset` on, before `next_offset`."""

    id: UUID
    partition: int
    first_offset: int
    next_offset: int
    after: Position
    until: Position


@dataclass(frozen=True, slots=True, kw_only=True)
class CurrentObject:
    """A processed object that nothing has superseded."""

    id: int
    chunk_id: UUID
    kind: str
    client_id: str
    bucket: str
    key: str
    events: int
    sha256: str
    privacy_level: str
    policy_version: str


CURRENT_OBJECT = (
    "o.id, o.chunk_id, o.kind, o.client_id, o.bucket, o.key, o.events, o.sha256, o.privacy_level, o.policy_version"
)
"""The columns of a `CurrentObject`, of a row `o`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HourState:
    """One hour, in the chunks that hold events of the clients that were asked for."""

    hour: datetime
    chunks: Mapping[UUID, ChunkSpan]
    rows: Mapping[tuple[UUID, CountKey], int]
    """All of these chunks' counts in this hour but repeats."""
    objects: Sequence[CurrentObject]


async def hour_state(
    connection: AsyncConnection, topic: str, hour: datetime, client_id: str | None = None
) -> HourState:
    """What the ledger says of `hour`, as of one moment. `client_id`: chunks with events of that client only ('' for the
    quarantine); None: all chunks."""
    values = {"topic": topic, "hour": hour, "client_id": client_id}
    async with connection.transaction():
        await connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
        cursor = await connection.execute(
            "SELECT n.chunk_id, n.source_client_id, n.client_id, n.disposition, n.events"
            " FROM pipeline.chunk_counts n JOIN pipeline.chunks k ON k.id = n.chunk_id"
            " WHERE n.hour = %(hour)s AND n.disposition <> 'repeat' AND k.topic = %(topic)s"
            " AND (%(client_id)s::text IS NULL OR EXISTS (SELECT FROM pipeline.chunk_counts o WHERE o.hour = n.hour"
            " AND o.chunk_id = n.chunk_id AND o.client_id = %(client_id)s AND o.disposition <> 'repeat'))",
            values,
        )
        rows = {(row[0], (hour, row[1], row[2], row[3])): row[4] for row in await cursor.fetchall()}
        found = list({chunk_id for chunk_id, _ in rows})
        cursor = await connection.execute(
            "SELECT k.id, k.partition, k.first_offset, k.next_offset, k.last_position,"
            " (SELECT p.last_position FROM pipeline.chunks p WHERE p.topic = k.topic AND p.partition = k.partition"
            " AND p.last_position < k.last_position ORDER BY p.last_position DESC LIMIT 1)"
            " FROM pipeline.chunks k WHERE k.id = ANY(%s)",
            (found,),
        )
        chunks = {
            row[0]: ChunkSpan(
                id=row[0],
                partition=row[1],
                first_offset=row[2],
                next_offset=row[3],
                after=Position.parse(row[5]) if row[5] else ZERO,
                until=Position.parse(row[4]),
            )
            for row in await cursor.fetchall()
        }
        async with connection.cursor(row_factory=class_row(CurrentObject)) as objects:
            await objects.execute(
                f"SELECT {CURRENT_OBJECT} FROM pipeline.processed_objects o"
                " WHERE o.chunk_id = ANY(%s) AND o.hour = %s AND o.superseded_by IS NULL ORDER BY o.id",
                (found, hour),
            )
            return HourState(hour=hour, chunks=chunks, rows=rows, objects=await objects.fetchall())


async def hours_with_events(
    connection: AsyncConnection, first: datetime, last: datetime, client_id: str | None = None
) -> list[datetime]:
    """The hours from `first` to `last`, both included, of which anything was processed (of that client), in order."""
    cursor = await connection.execute(
        "SELECT DISTINCT hour FROM pipeline.chunk_counts WHERE hour BETWEEN %s AND %s AND disposition <> 'repeat'"
        " AND client_id = coalesce(%s, client_id) ORDER BY hour",
        (first, last, client_id),
    )
    return [row[0] for row in await cursor.fetchall()]


async def raw_objects_of(
    connection: AsyncConnection, hour: datetime, sources: Collection[str], after: Position, until: Position
) -> list[RawObjectRef]:
    """Raw objects with events of that hour and those source clients, in the positions (after, until], in order."""
    return await raw_object_refs(
        connection,
        "o.last_position > %s AND o.first_position <= %s"
        " AND EXISTS (SELECT FROM pipeline.raw_counts n WHERE n.raw_object_id = o.id AND n.hour = %s"
        " AND n.source_client_id = ANY(%s))",
        (str(after), str(until), hour, list(sources)),
    )


async def files_of(connection: AsyncConnection, object_ids: Sequence[int]) -> int:
    """How many delivered files these processed objects are in."""
    cursor = await connection.execute(
        "SELECT count(DISTINCT f.id) FROM pipeline.delivery_members m"
        " JOIN pipeline.delivery_files f ON f.id = m.file_id"
        " WHERE m.processed_object_id = ANY(%s) AND f.state = 'delivered'",
        (list(object_ids),),
    )
    row = await cursor.fetchone()
    assert row is not None
    return int(row[0])


async def raw_object_at(connection: AsyncConnection, position: Position) -> RawObjectRef | None:
    """The raw object that holds the event at `position`, if there is such an event."""
    values = (str(position), str(position))
    found = await raw_object_refs(connection, "o.first_position <= %s AND o.last_position >= %s", values)
    return found[0] if found else None


async def watermark(connection: AsyncConnection) -> datetime | None:
    """The latest commit of which the ledger has heard; None: of none."""
    cursor = await connection.execute(
        "SELECT greatest((SELECT max(hour) FROM pipeline.chunk_counts),"
        " (SELECT max_commit_time FROM pipeline.raw_objects ORDER BY last_position DESC LIMIT 1),"
        " (SELECT max(caught_up_at) FROM pipeline.stream_state))"
    )
    row = await cursor.fetchone()
    return row[0] if row else None
