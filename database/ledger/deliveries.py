"""Delivery runs: who owns one, where it goes, how it ends. Plans and files: `delivery_plans`, `delivery_files`.

A run is owned by one process at a time. The owner's token is compared by every statement that changes the run or its
files, under a lock on the run's row, so a process that was paused beyond its lease changes nothing any more. What it
may still do is a PUT. Therefore the content of a file is announced here before its first PUT: as long as all attempts
announced the same bytes a PUT creates the key and never overwrites it; only after differing ones (the client's policy
has changed in between) the owner overwrites.
"""

# ruff: noqa: S608 - the parts of the queries that are put together are constants of this module
from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from psycopg import AsyncConnection
from psycopg.rows import class_row

from pipeline.errors import FencedError, TransientError


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


async def retarget(connection: AsyncConnection, run: Run, bucket: str, prefix: str) -> Run:
    """Let `run` go to where the client's settings point now; files already delivered stay where they are."""
    async with connection.transaction():
        await own(connection, run)
        for table, state in (("delivery_files", "planned"), ("delivery_replacements", "open")):
            await connection.execute(
                f"UPDATE pipeline.{table} SET bucket = %s, key = %s || substr(key, %s), sha256 = NULL,"
                " rewritten = false WHERE run_id = %s AND state = %s",
                (bucket, prefix, len(run.prefix) + 1, run.id, state),
            )
        async with connection.cursor(row_factory=class_row(Run)) as cursor:
            await cursor.execute(
                f"UPDATE pipeline.sync_runs SET bucket = %s, prefix = %s WHERE id = %s RETURNING {_RUN}",
                (bucket, prefix, run.id),
            )
            moved = await cursor.fetchone()
            assert moved is not None
            return moved


async def renew(connection: AsyncConnection, run: Run, lease_seconds: float) -> None:
    """Prolong the lease. Raises FencedError when another process owns the run."""
    cursor = await connection.execute(
        f"UPDATE pipeline.sync_runs SET lease_until = {_LEASE}"
        " WHERE id = %(id)s AND owner = %(owner)s AND status = 'running'",
        {"lease_seconds": lease_seconds, "id": run.id, "owner": run.owner},
    )
    if cursor.rowcount != 1:
        raise fenced()


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


async def newest_run_keys(connection: AsyncConnection, client_ids: Collection[str]) -> dict[str, str]:
    """The last run of each of these clients, of whatever state; run keys rise."""
    cursor = await connection.execute(
        'SELECT client_id, max(run_key COLLATE "C") FROM pipeline.sync_runs WHERE client_id = ANY(%s) GROUP BY 1',
        (list(client_ids),),
    )
    return dict(await cursor.fetchall())


async def announce_manifest(connection: AsyncConnection, run: Run, manifest: str, sha256: str) -> None:
    """Fix the text of the manifest before its first PUT: every attempt writes the same bytes."""
    async with connection.transaction():
        await own(connection, run)
        cursor = await connection.execute(
            "UPDATE pipeline.sync_runs SET manifest = %s::json, manifest_sha256 = %s"
            " WHERE id = %s AND manifest IS NULL"
            " AND NOT EXISTS (SELECT FROM pipeline.delivery_files WHERE run_id = %s AND state = 'planned')"
            " AND NOT EXISTS (SELECT FROM pipeline.delivery_replacements WHERE run_id = %s AND state = 'open')",
            (manifest, sha256, run.id, run.id, run.id),
        )
        if cursor.rowcount != 1:
            raise fenced()


async def finish(connection: AsyncConnection, run: Run) -> None:
    """The run is done: all of its files and its manifest are in the client's bucket."""
    async with connection.transaction():
        await own(connection, run)
        await connection.execute(
            "UPDATE pipeline.sync_runs SET status = 'finished', finished_at = clock_timestamp(), error_class = NULL,"
            " error = NULL, owner = NULL, lease_until = NULL WHERE id = %s",
            (run.id,),
        )


async def own(connection: AsyncConnection, run: Run) -> None:
    """Lock the run's row and make sure that it is ours. The lease may be over, as long as nobody took the run."""
    cursor = await connection.execute(
        "SELECT FROM pipeline.sync_runs WHERE id = %s AND owner = %s AND status = 'running' FOR UPDATE",
        (run.id, run.owner),
    )
    if cursor.rowcount != 1:
        raise fenced()


def fenced() -> FencedError:
    return FencedError("the run has another owner", hint="this process lets go of it; the other one finishes it")
