"""Objects of held events: what waits until its client can be read again."""

# ruff: noqa: S608 - the columns are a constant
from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime

from psycopg import AsyncConnection
from psycopg.rows import class_row

from database.ledger.cells import CURRENT_OBJECT, CurrentObject
from database.ledger.revisions import Rows

_LOCK = 0x68_65_6C_64  # one release at a time; any constant does


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldObject(CurrentObject):
    """An object of held events, and where its chunk stands in the topic."""

    hour: datetime
    min_commit_time: datetime
    max_commit_time: datetime
    topic: str
    partition: int
    first_offset: int
    first_position: str
    last_position: str


async def waiting(connection: AsyncConnection) -> dict[str, int]:
    """How many objects wait, by client."""
    cursor = await connection.execute(
        "SELECT client_id, count(*) FROM pipeline.processed_objects WHERE kind = 'held' AND superseded_by IS NULL"
        " GROUP BY client_id"
    )
    return dict(await cursor.fetchall())


async def objects_of(connection: AsyncConnection, client_id: str, limit: int) -> list[HeldObject]:
    """The client's held objects of now, oldest first, at most `limit`."""
    async with connection.cursor(row_factory=class_row(HeldObject)) as cursor:
        await cursor.execute(
            f"SELECT {CURRENT_OBJECT}, o.hour, o.min_commit_time, o.max_commit_time, k.topic, k.partition,"
            " k.first_offset, k.first_position, k.last_position"
            " FROM pipeline.processed_objects o JOIN pipeline.chunks k ON k.id = o.chunk_id"
            " WHERE o.kind = 'held' AND o.superseded_by IS NULL AND o.client_id = %s ORDER BY o.hour, o.id LIMIT %s",
            (client_id, limit),
        )
        return await cursor.fetchall()


async def counts_of(connection: AsyncConnection, held: HeldObject) -> Rows:
    """The rows of chunk_counts that count its events, as they are now."""
    cursor = await connection.execute(
        "SELECT chunk_id, hour, source_client_id, client_id, disposition, events FROM pipeline.chunk_counts"
        " WHERE chunk_id = %s AND hour = %s AND client_id = %s AND disposition = 'held'",
        (held.chunk_id, held.hour, held.client_id),
    )
    return {(chunk, (hour, *names)): events for chunk, hour, *names, events in await cursor.fetchall()}


@asynccontextmanager
async def alone(connection: AsyncConnection) -> AsyncIterator[bool]:
    """Whether no other process releases while the block runs; several would only do the same work and be fenced."""
    cursor = await connection.execute("SELECT pg_try_advisory_lock(%s)", (_LOCK,))
    row = await cursor.fetchone()
    mine = bool(row and row[0])
    try:
        yield mine
    finally:
        if mine:
            await connection.execute("SELECT pg_advisory_unlock(%s)", (_LOCK,))
