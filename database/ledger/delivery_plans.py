"""The plan of a run: which processed objects go into which files, and which delivered files are built again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from psycopg import AsyncConnection
from psycopg.rows import class_row

from database.ledger.deliveries import Run


@dataclass(frozen=True, slots=True, kw_only=True)
class PendingObject:
    """A processed object that is in no file yet."""

    id: int
    hour: datetime
    events: int
    bytes: int
    privacy_level: str
    policy_version: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedFile:
    """A file to be: its key and its members (ids of processed objects, in order)."""

    key: str
    hour: datetime
    policy_version: str
    members: tuple[int, ...]


async def pending_objects(
    connection: AsyncConnection,
    client_id: str,
    *,
    limit: int,
    first_hour: datetime | None = None,
    last_hour: datetime | None = None,
) -> list[PendingObject]:
    """The client's processed objects that are in no file, by hour and id; at most `limit`."""
    async with connection.cursor(row_factory=class_row(PendingObject)) as cursor:
        await cursor.execute(
            "SELECT id, hour, events, bytes, privacy_level, policy_version FROM pipeline.processed_objects o"
            " WHERE kind = 'client' AND client_id = %(client_id)s AND superseded_by IS NULL"
            " AND hour >= coalesce(%(first)s::timestamptz, '-infinity')"
            " AND hour <= coalesce(%(last)s::timestamptz, 'infinity')"
            " AND NOT EXISTS (SELECT FROM pipeline.delivery_members m WHERE m.processed_object_id = o.id)"
            " ORDER BY hour, id LIMIT %(limit)s",
            {"client_id": client_id, "first": first_hour, "last": last_hour, "limit": limit},
        )
        return await cursor.fetchall()


async def add_files(
    connection: AsyncConnection, run: Run, files: Sequence[PlannedFile], complete_through: datetime | None
) -> Run:
    """Write the plan of `run`, inside the caller's transaction; the run as it stands then."""
    await connection.execute(
        "UPDATE pipeline.sync_runs SET complete_through = %s WHERE id = %s", (complete_through, run.id)
    )
    planned = replace(run, complete_through=complete_through)
    if not files:
        return planned
    cursor = await connection.execute(
        "INSERT INTO pipeline.delivery_files (run_id, bucket, key, hour, policy_version, state)"
        " SELECT %s, %s, key, hour, policy_version, 'planned'"
        " FROM unnest(%s::text[], %s::timestamptz[], %s::text[]) AS f (key, hour, policy_version) RETURNING key, id",
        (run.id, run.bucket, [f.key for f in files], [f.hour for f in files], [f.policy_version for f in files]),
    )
    ids: dict[str, int] = dict(await cursor.fetchall())
    # Not by COPY: a process paused inside of one would keep its transaction open for ever.
    members = [(ids[file.key], ordinal, id_) for file in files for ordinal, id_ in enumerate(file.members)]
    await connection.execute(
        "INSERT INTO pipeline.delivery_members (file_id, ordinal, processed_object_id)"
        " SELECT * FROM unnest(%s::bigint[], %s::integer[], %s::bigint[])",
        [list(column) for column in zip(*members, strict=True)],
    )
    return planned


async def take_replacements(
    connection: AsyncConnection, run: Run, *, first_hour: datetime | None = None, last_hour: datetime | None = None
) -> int:
    """Let `run` build the client's files anew whose members were superseded; how many those are.

    Inside the caller's transaction. A file keeps its key below the prefix; bucket and prefix are those of the run.
    """
    cursor = await connection.execute(
        "UPDATE pipeline.delivery_replacements p SET run_id = %(run)s, bucket = %(bucket)s,"
        " key = %(prefix)s || substring(f.key from 'events/dt=[0-9-]+/hr=[0-9]+/[^/]+$')"
        " FROM pipeline.delivery_files f JOIN pipeline.sync_runs r ON r.id = f.run_id"
        " WHERE f.id = p.file_id AND p.state = 'open' AND p.run_id IS NULL AND r.client_id = %(client_id)s"
        " AND f.hour >= coalesce(%(first)s::timestamptz, '-infinity')"
        " AND f.hour <= coalesce(%(last)s::timestamptz, 'infinity')",
        {
            "run": run.id,
            "bucket": run.bucket,
            "prefix": run.prefix,
            "client_id": run.client_id,
            "first": first_hour,
            "last": last_hour,
        },
    )
    return cursor.rowcount
