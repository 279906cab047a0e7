"""What the syncer writes: runs, their files and which processed objects are in them.

A run is owned by one process at a time. The owner's token is compared by every statement that changes the run or its
files, under a lock on the run's row, so a process that was paused beyond its lease changes nothing any more. What it
may still do is a PUT. Therefore the content of a file is announced here before its first PUT: as long as all attempts
announced the same bytes a PUT creates the key and never overwrites it; only after differing ones (the client's policy
has changed in between) the owner overwrites.
"""

# ruff: noqa: S608 - the parts of the queries that are put together are constants of this module
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from enum import Enum
from uuid import UUID

from psycopg import AsyncConnection
from psycopg.rows import class_row

from pipeline.errors import FencedError, TransientError


class Announced(Enum):
    """What the ledger knew of a file's content before this attempt."""

    FIRST = "first"
    AGAIN = "again"
    """All attempts before had the same bytes."""
    CHANGED = "changed"
    """Some attempt had other bytes."""


class RunBusyError(TransientError):
    """Another process delivers to this client just now."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """A delivery run that we own."""

    id: int
    client_id: str
    run_key: str
    owner: UUID
    bucket: str
    prefix: str
    started_at: datetime
    complete_through: datetime | None
    manifest: str | None
    manifest_sha256: str | None


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


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenFile:
    """A planned file that is not delivered."""

    id: int
    bucket: str
    key: str
    hour: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """A processed object inside a planned file, and what it must look like."""

    id: int
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
class Content:
    """What a file holds. Commit times are None when it has no member left."""

    events: int
    bytes: int
    sha256: str
    policy_version: str
    dropped: int
    first_commit_time: datetime | None
    last_commit_time: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class DeliveredFile:
    """A line of a manifest."""

    bucket: str
    key: str
    hour: datetime
    events: int
    bytes: int
    sha256: str
    policy_version: str
    first_commit_time: datetime | None
    last_commit_time: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class FinishedRun:
    """The manifest of a finished run, as the next one refers to it."""

    id: int
    run_key: str
    bucket: str
    prefix: str
    manifest: str
    manifest_sha256: str
    complete_through: datetime | None


_RUN = (
    "id, client_id, run_key, owner, bucket, prefix, started_at, complete_through, manifest::text AS manifest,"
    " manifest_sha256"
)
_LEASE = "clock_timestamp() + make_interval(secs => %(lease_seconds)s)"


async def claim(connection: AsyncConnection, client_id: str, owner: UUID, lease_seconds: float) -> Run | None:
    """Take over the client's unfinished run; None when there is none.

    Raises RunBusyError when its owner's lease still runs.
    """
    async with connection.transaction(), connection.cursor(row_factory=class_row(Run)) as cursor:
        await cursor.execute(
            "UPDATE pipeline.sync_runs SET status = 'running', owner = %(owner)s, attempts = attempts + 1,"
            f" lease_until = {_LEASE}"
            " WHERE client_id = %(client_id)s AND status <> 'finished'"
            " AND (owner IS NULL OR lease_until < clock_timestamp())"
            f" RETURNING {_RUN}",
            {"owner": owner, "lease_seconds": lease_seconds, "client_id": client_id},
        )
        run = await cursor.fetchone()
        if run is None:
            await cursor.execute(
                "SELECT FROM pipeline.sync_runs WHERE client_id = %s AND status <> 'finished'", (client_id,)
            )
            if cursor.rowcount:
                raise RunBusyError("another process delivers to this client")
    return run


async def begin(
    connection: AsyncConnection,
    *,
    client_id: str,
    run_key: str,
    frequency: str,
    bucket: str,
    prefix: str,
    owner: UUID,
    lease_seconds: float,
) -> Run | None:
    """Open a run, inside the caller's transaction, which also plans it.

    None when there is nothing to open: this run or a later one exists (a repeated or late message), or another process
    has just opened one.
    """
    async with connection.cursor(row_factory=class_row(Run)) as cursor:
        await cursor.execute(
            "INSERT INTO pipeline.sync_runs"
            " (client_id, run_key, frequency, status, attempts, bucket, prefix, owner, lease_until)"
            " SELECT %(client_id)s, %(run_key)s, %(frequency)s, 'running', 1, %(bucket)s, %(prefix)s, %(owner)s,"
            f" {_LEASE}"
            " WHERE NOT EXISTS (SELECT FROM pipeline.sync_runs"
            ' WHERE client_id = %(client_id)s AND run_key COLLATE "C" >= %(run_key)s)'
            f" ON CONFLICT DO NOTHING RETURNING {_RUN}",
            {
                "client_id": client_id,
                "run_key": run_key,
                "frequency": frequency,
                "bucket": bucket,
                "prefix": prefix,
                "owner": owner,
                "lease_seconds": lease_seconds,
            },
        )
        return await cursor.fetchone()


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


async def retarget(connection: AsyncConnection, run: Run, bucket: str, prefix: str) -> Run:
    """Let `run` go to where the client's settings point now; files already delivered stay where they are."""
    async with connection.transaction():
        await _own(connection, run)
        await connection.execute(
            "UPDATE pipeline.delivery_files SET bucket = %s, key = %s || substr(key, %s), sha256 = NULL,"
            " rewritten = false WHERE run_id = %s AND state = 'planned'",
            (bucket, prefix, len(run.prefix) + 1, run.id),
        )
        async with connection.cursor(row_factory=class_row(Run)) as cursor:
            await cursor.execute(
                f"UPDATE pipeline.sync_runs SET bucket = %s, prefix = %s WHERE id = %s RETURNING {_RUN}",
                (bucket, prefix, run.id),
            )
            moved = await cursor.fetchone()
            assert moved is not None
            return moved


async def next_file(connection: AsyncConnection, run: Run) -> OpenFile | None:
    """The first file of `run` that is not delivered; None when all are."""
    async with connection.cursor(row_factory=class_row(OpenFile)) as cursor:
        await cursor.execute(
            "SELECT id, bucket, key, hour FROM pipeline.delivery_files"
            " WHERE run_id = %s AND state = 'planned' ORDER BY id LIMIT 1",
            (run.id,),
        )
        return await cursor.fetchone()


async def members_of(connection: AsyncConnection, file_id: int) -> list[Member]:
    """What goes into the file, in order; objects that a replay has superseded are left out."""
    async with connection.cursor(row_factory=class_row(Member)) as cursor:
        await cursor.execute(
            "SELECT o.id, bucket, key, events, bytes, sha256, privacy_level, policy_version, min_commit_time,"
            " max_commit_time FROM pipeline.delivery_members m JOIN pipeline.processed_objects o"
            " ON o.id = m.processed_object_id WHERE m.file_id = %s AND o.superseded_by IS NULL ORDER BY m.ordinal",
            (file_id,),
        )
        return await cursor.fetchall()


async def announce(connection: AsyncConnection, run: Run, file_id: int, content: Content) -> Announced:
    """Record what is about to be PUT. Raises FencedError when the run is no longer ours."""
    async with connection.transaction():
        await _own(connection, run)
        cursor = await connection.execute(
            "SELECT sha256, rewritten FROM pipeline.delivery_files WHERE id = %s AND state = 'planned' FOR UPDATE",
            (file_id,),
        )
        row = await cursor.fetchone()
        if row is None:
            raise _fenced()
        before, rewritten = row
        rewritten = rewritten or before not in (None, content.sha256)
        await connection.execute(
            "UPDATE pipeline.delivery_files SET rewritten = %s, events = %s, bytes = %s, sha256 = %s,"
            " policy_version = %s, dropped_at_delivery = %s, first_commit_time = %s, last_commit_time = %s"
            " WHERE id = %s",
            (
                rewritten,
                content.events,
                content.bytes,
                content.sha256,
                content.policy_version,
                content.dropped,
                content.first_commit_time,
                content.last_commit_time,
                file_id,
            ),
        )
    if rewritten:
        return Announced.CHANGED
    return Announced.FIRST if before is None else Announced.AGAIN


async def delivered(connection: AsyncConnection, run: Run, file_id: int, sha256: str, members: int) -> None:
    """The file, made of `members` objects, is in the client's bucket.

    Raises FencedError when the run is no longer ours, TransientError when a replay superseded a member meanwhile: the
    file has to be built again. (Whoever supersedes an object that is in a file locks the file's row first.)
    """
    async with connection.transaction():
        await _own(connection, run)
        cursor = await connection.execute(
            "SELECT sha256 FROM pipeline.delivery_files WHERE id = %s AND state = 'planned' FOR UPDATE", (file_id,)
        )
        row = await cursor.fetchone()
        if row is None or row[0] != sha256:
            raise _fenced()
        cursor = await connection.execute(
            "UPDATE pipeline.delivery_files SET state = 'delivered', delivered_at = clock_timestamp() WHERE id = %s"
            " AND %s = (SELECT count(*) FROM pipeline.delivery_members m JOIN pipeline.processed_objects o"
            " ON o.id = m.processed_object_id WHERE m.file_id = %s AND o.superseded_by IS NULL)",
            (file_id, members, file_id),
        )
        if cursor.rowcount != 1:
            raise TransientError("a replay superseded objects of the file while it was delivered")


async def renew(connection: AsyncConnection, run: Run, lease_seconds: float) -> None:
    """Prolong the lease. Raises FencedError when another process owns the run."""
    cursor = await connection.execute(
        f"UPDATE pipeline.sync_runs SET lease_until = {_LEASE}"
        " WHERE id = %(id)s AND owner = %(owner)s AND status = 'running'",
        {"lease_seconds": lease_seconds, "id": run.id, "owner": run.owner},
    )
    if cursor.rowcount != 1:
        raise _fenced()


async def release(connection: AsyncConnection, run: Run) -> None:
    """Hand the run back, unfinished: the next one may take it at once. Nothing happens when it isn't ours."""
    await connection.execute(
        "UPDATE pipeline.sync_runs SET owner = NULL, lease_until = NULL WHERE id = %s AND owner = %s",
        (run.id, run.owner),
    )


async def fail(connection: AsyncConnection, run: Run, error_class: str, error: str) -> None:
    """Mark the run as failed, with words for the operator, and hand it back. Nothing happens when it isn't ours."""
    await connection.execute(
        "UPDATE pipeline.sync_runs SET status = 'failed', error_class = %s, error = %s, owner = NULL,"
        " lease_until = NULL WHERE id = %s AND owner = %s AND status = 'running'",
        (error_class, error, run.id, run.owner),
    )


async def delivered_files(connection: AsyncConnection, run: Run) -> list[DeliveredFile]:
    """The files of `run` in the order of the plan, for its manifest."""
    async with connection.cursor(row_factory=class_row(DeliveredFile)) as cursor:
        await cursor.execute(
            "SELECT bucket, key, hour, events, bytes, sha256, policy_version, first_commit_time, last_commit_time"
            " FROM pipeline.delivery_files WHERE run_id = %s AND state = 'delivered' ORDER BY id",
            (run.id,),
        )
        return await cursor.fetchall()


async def last_finished(connection: AsyncConnection, client_id: str) -> FinishedRun | None:
    """The newest finished run of the client: what latest.json shows, and what the next manifest refers to.

    Runs of a client are opened and finished one after the other, so the order of ids is that of the chain.
    """
    async with connection.cursor(row_factory=class_row(FinishedRun)) as cursor:
        await cursor.execute(
            "SELECT id, run_key, bucket, prefix, manifest::text AS manifest, manifest_sha256, complete_through"
            " FROM pipeline.sync_runs WHERE client_id = %s AND status = 'finished' ORDER BY id DESC LIMIT 1",
            (client_id,),
        )
        return await cursor.fetchone()


async def announce_manifest(connection: AsyncConnection, run: Run, manifest: str, sha256: str) -> None:
    """Fix the text of the manifest before its first PUT: every attempt writes the same bytes."""
    async with connection.transaction():
        await _own(connection, run)
        cursor = await connection.execute(
            "UPDATE pipeline.sync_runs SET manifest = %s::json, manifest_sha256 = %s"
            " WHERE id = %s AND manifest IS NULL"
            " AND NOT EXISTS (SELECT FROM pipeline.delivery_files WHERE run_id = %s AND state = 'planned')",
            (manifest, sha256, run.id, run.id),
        )
        if cursor.rowcount != 1:
            raise _fenced()


async def finish(connection: AsyncConnection, run: Run) -> None:
    """The run is done: all of its files and its manifest are in the client's bucket."""
    async with connection.transaction():
        await _own(connection, run)
        await connection.execute(
            "UPDATE pipeline.sync_runs SET status = 'finished', finished_at = clock_timestamp(), error_class = NULL,"
            " error = NULL, owner = NULL, lease_until = NULL WHERE id = %s",
            (run.id,),
        )


async def _own(connection: AsyncConnection, run: Run) -> None:
    """Lock the run's row and make sure that it is ours. The lease may be over, as long as nobody took the run."""
    cursor = await connection.execute(
        "SELECT FROM pipeline.sync_runs WHERE id = %s AND owner = %s AND status = 'running' FOR UPDATE",
        (run.id, run.owner),
    )
    if cursor.rowcount != 1:
        raise _fenced()


def _fenced() -> FencedError:
    return FencedError("the run has another owner", hint="this process lets go of it; the other one finishes it")
