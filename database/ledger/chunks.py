"""What the processor reads and writes: where each partition stands, and chunks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from psycopg import AsyncConnection

from database.ledger import audit
from database.ledger.stream import RawObjectRef, raw_object_refs
from pipeline.clients import PrivacyLevel
from pipeline.errors import FencedError
from pipeline.position import ZERO, Position

CountKey = tuple[datetime, str, str, str]
"""(hour of commit_time, source_client_id, client_id, disposition)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ConsumerPosition:
    """Where a partition stands: the offset to read next, and the last event that was taken (-1 and ZERO: none)."""

    next_offset: int
    last_sequence: int
    last_position: Position


NOWHERE = ConsumerPosition(next_offset=0, last_sequence=-1, last_position=ZERO)
"""A partition that nobody has read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessedObject:
    """A processed object in S3 that its chunk brings into existence."""

    kind: str
    client_id: str
    hour: datetime
    bucket: str
    key: str
    events: int
    bytes: int
    sha256: str
    privacy_level: str
    policy_version: str
    min_commit_time: datetime
    max_commit_time: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class ChunkCommit:
    """Everything that one chunk changes."""

    id: UUID
    topic: str
    partition: int
    generation: int
    before: ConsumerPosition
    after: ConsumerPosition
    first_position: Position
    counts: Mapping[CountKey, int]
    objects: Sequence[ProcessedObject]


async def consumer_position(connection: AsyncConnection, topic: str, partition: int, begin: int) -> ConsumerPosition:
    """Where `partition` stands; a partition that nobody has read yet stands at offset `begin`."""
    await connection.execute(
        "INSERT INTO pipeline.consumer_positions (topic, partition, next_offset, last_sequence, last_position)"
        " VALUES (%s, %s, %s, -1, %s) ON CONFLICT (topic, partition) DO NOTHING",
        (topic, partition, begin, str(ZERO)),
    )
    cursor = await connection.execute(
        "SELECT next_offset, last_sequence, last_position FROM pipeline.consumer_positions"
        " WHERE topic = %s AND partition = %s",
        (topic, partition),
    )
    row = await cursor.fetchone()
    assert row is not None
    return ConsumerPosition(next_offset=row[0], last_sequence=row[1], last_position=Position.parse(row[2]))


async def stands(connection: AsyncConnection, topic: str) -> dict[int, ConsumerPosition]:
    """Where each partition of `topic` stands, but for those that nobody has read yet."""
    cursor = await connection.execute(
        "SELECT partition, next_offset, last_sequence, last_position FROM pipeline.consumer_positions WHERE topic = %s",
        (topic,),
    )
    return {
        row[0]: ConsumerPosition(next_offset=row[1], last_sequence=row[2], last_position=Position.parse(row[3]))
        for row in await cursor.fetchall()
    }


async def former_topic(connection: AsyncConnection, topic: str) -> str | None:
    """The topic that was processed when `topic` never was: sequences count for one topic, from its first event on."""
    cursor = await connection.execute(
        "SELECT topic FROM pipeline.consumer_positions WHERE topic <> %(topic)s"
        " AND NOT EXISTS (SELECT FROM pipeline.consumer_positions WHERE topic = %(topic)s)"
        " ORDER BY updated_at DESC LIMIT 1",
        {"topic": topic},
    )
    row = await cursor.fetchone()
    return None if row is None else str(row[0])


async def commit_chunk(connection: AsyncConnection, chunk: ChunkCommit) -> None:
    """Let a chunk, its counts and its objects exist, and move its partition on.

    One transaction with a compare-and-set on where the partition stood. Raises FencedError when another owner was
    faster: nothing is written then, and the objects in S3 do not exist for anyone.
    """
    async with connection.transaction():
        cursor = await connection.execute(
            "UPDATE pipeline.consumer_positions SET next_offset = %s, last_sequence = %s, last_position = %s,"
            " updated_at = now()"
            " WHERE topic = %s AND partition = %s AND next_offset = %s AND last_sequence = %s",
            (
                chunk.after.next_offset,
                chunk.after.last_sequence,
                str(chunk.after.last_position),
                chunk.topic,
                chunk.partition,
                chunk.before.next_offset,
                chunk.before.last_sequence,
            ),
        )
        if cursor.rowcount != 1:
            raise FencedError(f"{chunk.topic}-{chunk.partition}: another owner was faster")
        await insert_chunk(connection, chunk)
        # Last: it locks the audit log until the commit.
        await audit_stored(connection, actor="processor", subject=f"chunk {chunk.id}", objects=chunk.objects)


async def insert_chunk(connection: AsyncConnection, chunk: ChunkCommit, committed_at: datetime | None = None) -> None:
    """Enter a chunk, its counts and its objects, inside the caller's transaction; its partition stays where it stands.

    `committed_at`: None is now.
    """
    await connection.execute(
        "INSERT INTO pipeline.chunks (id, topic, partition, generation, first_offset, next_offset, first_position,"
        " last_position, committed_at) VALUES (%s, %s, %s, %s, %s, %s, %s, %s, coalesce(%s, now()))",
        (
            chunk.id,
            chunk.topic,
            chunk.partition,
            chunk.generation,
            min(chunk.before.next_offset, chunk.after.next_offset),
            chunk.after.next_offset,
            str(chunk.first_position),
            str(max(chunk.first_position, chunk.after.last_position)),
            committed_at,
        ),
    )
    counts = [(*key, events) for key, events in chunk.counts.items()]
    await connection.execute(
        "INSERT INTO pipeline.chunk_counts (chunk_id, hour, source_client_id, client_id, disposition, events)"
        " SELECT %s, * FROM unnest(%s::timestamptz[], %s::text[], %s::text[], %s::text[], %s::bigint[])",
        (chunk.id, *([row[column] for row in counts] for column in range(5))),
    )
    await insert_objects(connection, [(chunk.id, item) for item in chunk.objects])


async def insert_objects(connection: AsyncConnection, objects: Sequence[tuple[UUID, ProcessedObject]]) -> list[int]:
    """Let objects exist, each with the id of its chunk, inside the caller's transaction; their ids, in order."""
    ids = []
    async with connection.cursor() as cursor:
        await cursor.executemany(
            "INSERT INTO pipeline.processed_objects (chunk_id, kind, client_id, hour, bucket, key, events, bytes,"
            " sha256, privacy_level, policy_version, min_commit_time, max_commit_time)"
            " VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s) RETURNING id",
            [
                (chunk_id, item.kind, item.client_id, item.hour, item.bucket, item.key, item.events, item.bytes,
                 item.sha256, item.privacy_level, item.policy_version, item.min_commit_time, item.max_commit_time)
                for chunk_id, item in objects
            ],
            returning=True,
        )  # fmt: skip
        for _ in objects:
            row = await cursor.fetchone()
            assert row is not None
            ids.append(int(row[0]))
            cursor.nextset()
    return ids


async def audit_stored(
    connection: AsyncConnection, *, actor: str, subject: str, objects: Sequence[ProcessedObject]
) -> None:
    """One audit entry that names the hipaa objects among `objects` with their digests; none when there are none.

    In the transaction that brings them into existence, and last in it.
    """
    stored = [item for item in objects if item.privacy_level == PrivacyLevel.HIPAA]
    if not stored:
        return
    owners = {item.client_id for item in stored}
    await audit.append(
        connection,
        actor=actor,
        action="objects.stored",
        client_id=owners.pop() if len(owners) == 1 else None,
        subject=subject,
        details={
            "objects": [
                {"client_id": item.client_id, "object": item.key, "sha256": item.sha256, "events": item.events}
                for item in stored
            ]
        },
    )


async def recorded_until(connection: AsyncConnection) -> Position | None:
    """The last position that any raw object holds."""
    cursor = await connection.execute("SELECT max(last_position) FROM pipeline.raw_objects")
    row = await cursor.fetchone()
    assert row is not None
    return Position.parse(row[0]) if row[0] else None


async def raw_objects_between(connection: AsyncConnection, after: Position, before: Position) -> list[RawObjectRef]:
    """Raw objects that hold any position in the open interval (after, before), in order."""
    return await raw_object_refs(
        connection, "o.last_position > %s AND o.first_position < %s", (str(after), str(before))
    )
