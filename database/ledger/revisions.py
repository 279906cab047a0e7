"""Taking the place of processed objects that exist: by a replay, or by a release of held or quarantined events.

A chunk's counts say what became of its events as of now, and its objects of now (`superseded_by` is NULL) hold what the
counts say. A revision changes both for one cell, which is one client's events of one hour, in one transaction: so the
ledger balances before and after it, and an event is in exactly one object of now at any time. Where each partition
stands, and which chunks there are, is left alone; so is every chunk that was committed meanwhile.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal
from uuid import UUID

from psycopg import AsyncConnection
from psycopg.types.json import Jsonb

from database.ledger.chunks import CountKey, ProcessedObject, insert_objects
from pipeline.errors import FencedError, PermanentError

Rows = Mapping[tuple[UUID, CountKey], int]
"""Rows of chunk_counts: (chunk id, (hour, source_client_id, client_id, disposition)) -> events."""

_DELIVERIES_LOCK = 0x7265_7669  # the first of an advisory lock's two keys; any constant does


@dataclass(frozen=True, slots=True, kw_only=True)
class NewObject:
    """An object with events of a chunk that was committed long ago."""

    chunk_id: UUID
    object: ProcessedObject


@dataclass(frozen=True, slots=True, kw_only=True)
class Revision:
    """Everything that changes in one cell. Raises ValueError when that would not balance."""

    id: int
    """From `reserve`; stands in the keys of its objects."""
    cause: Literal["replay", "quarantine", "release", "retention"]
    client_id: str
    """Whose cell; '' for the quarantine's."""
    hour: datetime
    superseded: Sequence[int]
    """Ids of processed objects, all of now."""
    removed: Rows
    """Whole rows, as they were read."""
    added: Rows
    """What takes their place; added to rows that exist."""
    objects: Sequence[NewObject]
    replay_id: int | None = None
    summary: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if _events_by_source(self.removed) != _events_by_source(self.added):
            raise ValueError("a revision must neither add nor lose events")


async def reserve(connection: AsyncConnection) -> int:
    """A number for a revision to come; numbers rise, and those of revisions that never commit are lost."""
    cursor = await connection.execute("SELECT nextval(pg_get_serial_sequence('pipeline.cell_revisions', 'id'))")
    row = await cursor.fetchone()
    assert row is not None
    return int(row[0])


async def lock_deliveries(connection: AsyncConnection, client_id: str) -> None:
    """Until the end of the transaction no delivery to this client is planned, and none of its cells is revised."""
    await connection.execute("SELECT pg_advisory_xact_lock(%s, hashtext(%s))", (_DELIVERIES_LOCK, client_id))


async def supersede(connection: AsyncConnection, revision: Revision) -> None:
    """Let the revision's objects take the place of the superseded ones: one transaction, or nothing.

    Files that a superseded object is in get the new objects of the same client as members; those that are delivered are
    built again by the client's next run. Raises FencedError when anything has changed since the cell was read:
    another revision was faster; nothing is written then, read the cell again. PermanentError when the objects
    don't hold what the counts say.
    """
    async with connection.transaction():
        # The same order for all, so that two revisions never wait for each other.
        for client_id in sorted({revision.client_id, *(new.object.client_id for new in revision.objects)}):
            await lock_deliveries(connection, client_id)
        await _move_counts(connection, revision)
        await connection.execute(
            "INSERT INTO pipeline.cell_revisions (id, cause, replay_id, client_id, hour, summary)"
            " VALUES (%s, %s, %s, %s, %s, %s)",
            (
                revision.id,
                revision.cause,
                revision.replay_id,
                revision.client_id,
                revision.hour,
                Jsonb(dict(revision.summary)),
            ),
        )
        await _retire(connection, revision)
        new_ids = await insert_objects(connection, [(new.chunk_id, new.object) for new in revision.objects])
        await _hand_over_files(connection, revision, new_ids)
        await _check(connection, revision)


async def _move_counts(connection: AsyncConnection, revision: Revision) -> None:
    removed = _columns(revision.removed)
    cursor = await connection.execute(
        "DELETE FROM pipeline.chunk_counts c USING unnest(%s::uuid[], %s::timestamptz[], %s::text[], %s::text[],"
        " %s::text[], %s::bigint[]) AS r (chunk_id, hour, source_client_id, client_id, disposition, events)"
        " WHERE (c.chunk_id, c.hour, c.source_client_id, c.client_id, c.disposition, c.events)"
        " = (r.chunk_id, r.hour, r.source_client_id, r.client_id, r.disposition, r.events)",
        removed,
    )
    if cursor.rowcount != len(revision.removed):
        raise _fenced()
    await connection.execute(
        "INSERT INTO pipeline.chunk_counts AS c (chunk_id, hour, source_client_id, client_id, disposition, events)"
        " SELECT * FROM unnest(%s::uuid[], %s::timestamptz[], %s::text[], %s::text[], %s::text[], %s::bigint[])"
        " ON CONFLICT (chunk_id, hour, source_client_id, client_id, disposition)"
        " DO UPDATE SET events = c.events + excluded.events",
        _columns(revision.added),
    )


async def _retire(connection: AsyncConnection, revision: Revision) -> None:
    cursor = await connection.execute(
        "UPDATE pipeline.processed_objects SET superseded_by = %s WHERE id = ANY(%s) AND superseded_by IS NULL",
        (revision.id, list(revision.superseded)),
    )
    if cursor.rowcount != len(revision.superseded):
        raise _fenced()


async def _hand_over_files(connection: AsyncConnection, revision: Revision, new_ids: Sequence[int]) -> None:
    """The client's new objects go where the superseded ones of their chunk are; what was built from those is void."""
    cursor = await connection.execute(
        "SELECT o.chunk_id, m.file_id FROM pipeline.delivery_members m"
        " JOIN pipeline.processed_objects o ON o.id = m.processed_object_id"
        " WHERE m.processed_object_id = ANY(%s) ORDER BY m.file_id DESC",
        (list(revision.superseded),),
    )
    rows = await cursor.fetchall()
    if not rows:
        return
    file_of: dict[UUID, int] = dict(rows)  # the first file, where a chunk's objects are in several
    files = sorted({file_id for _, file_id in rows})
    # Whoever records a file as delivered holds this lock and compares the revision.
    await connection.execute("SELECT FROM pipeline.delivery_files WHERE id = ANY(%s) ORDER BY id FOR UPDATE", (files,))
    cursor = await connection.execute(
        "SELECT FROM pipeline.delivery_members m JOIN pipeline.processed_objects o ON o.id = m.processed_object_id"
        " WHERE m.file_id = ANY(%s) AND o.superseded_by IS NULL AND o.removed_at IS NOT NULL LIMIT 1",
        (files,),
    )
    if cursor.rowcount:  # retention took one that was still there when the cell was read: its file could not be built
        raise _fenced()
    await connection.execute("UPDATE pipeline.delivery_files SET revision = revision + 1 WHERE id = ANY(%s)", (files,))
    heirs = [
        (file_of[new.chunk_id], id_)
        for new, id_ in zip(revision.objects, new_ids, strict=True)
        if new.object.kind == "client" and new.object.client_id == revision.client_id and new.chunk_id in file_of
    ]
    await connection.execute(
        "INSERT INTO pipeline.delivery_members (file_id, ordinal, processed_object_id)"
        " SELECT n.file_id, last.ordinal + row_number() OVER (PARTITION BY n.file_id ORDER BY n.object_id), n.object_id"
        " FROM unnest(%s::bigint[], %s::bigint[]) AS n (file_id, object_id) CROSS JOIN LATERAL ("
        "SELECT max(m.ordinal) AS ordinal FROM pipeline.delivery_members m WHERE m.file_id = n.file_id) last",
        ([file_id for file_id, _ in heirs], [id_ for _, id_ in heirs]),
    )
    await connection.execute(
        "INSERT INTO pipeline.delivery_replacements (file_id, old_events, old_bytes, old_sha256)"
        " SELECT f.id, coalesce(r.events, f.events), coalesce(r.bytes, f.bytes), coalesce(r.sha256, f.sha256)"
        " FROM pipeline.delivery_files f LEFT JOIN LATERAL (SELECT * FROM pipeline.delivery_replacements r"
        " WHERE r.file_id = f.id AND r.state = 'delivered' ORDER BY r.id DESC LIMIT 1) r ON true"
        " WHERE f.id = ANY(%s) AND f.state = 'delivered'"
        " ON CONFLICT (file_id) WHERE state = 'open' DO NOTHING",
        (files,),
    )


async def _check(connection: AsyncConnection, revision: Revision) -> None:
    """The last look, on the rows themselves: the chunks' objects of now hold what their counts say, in this hour."""
    chunk_ids = {chunk_id for chunk_id, _ in (*revision.removed, *revision.added)}
    chunk_ids |= {new.chunk_id for new in revision.objects}
    cursor = await connection.execute(
        "SELECT count(*) FROM (SELECT chunk_id, client_id, kind, sum(events) AS events FROM ("
        " SELECT chunk_id, client_id, CASE disposition WHEN 'out' THEN 'client' ELSE disposition END AS kind, events"
        " FROM pipeline.chunk_counts WHERE chunk_id = ANY(%(chunks)s) AND hour = %(hour)s"
        " AND disposition IN ('out', 'quarantine', 'held', 'dead_letter')"
        " UNION ALL SELECT chunk_id, client_id, kind, -events FROM pipeline.processed_objects"
        " WHERE chunk_id = ANY(%(chunks)s) AND hour = %(hour)s AND superseded_by IS NULL) both_sides"
        " GROUP BY 1, 2, 3 HAVING sum(events) <> 0) wrong",
        {"chunks": list(chunk_ids), "hour": revision.hour},
    )
    row = await cursor.fetchone()
    if row is None or row[0]:
        raise PermanentError(
            "the new objects of a cell are not what its counts say: nothing was changed",
            hint="run python -m database reconcile for that hour",
        )


def _fenced() -> FencedError:
    return FencedError("the cell has changed since it was read", hint="another replay or release was faster")


def _events_by_source(rows: Rows) -> Counter[tuple[UUID, datetime, str]]:
    counts: Counter[tuple[UUID, datetime, str]] = Counter()
    for (chunk_id, (hour, source, _, _)), events in rows.items():
        counts[(chunk_id, hour, source)] += events
    return counts


def _columns(rows: Rows) -> list[list[Any]]:
    table = [(chunk_id, *key, events) for (chunk_id, key), events in rows.items()]
    return [list(column) for column in zip(*table, strict=True)] or [[] for _ in range(6)]
