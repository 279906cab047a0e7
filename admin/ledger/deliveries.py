"""Deliveries of one client, for people who ask what arrived, and why not."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from psycopg import AsyncConnection
from psycopg.rows import class_row


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """A delivery: one manifest and its files. `files` are planned, `files_delivered` arrived; bytes are compressed."""

    run_key: str
    frequency: str
    status: str
    attempts: int
    error_class: str | None
    error: str | None
    bucket: str
    prefix: str
    complete_through: datetime | None
    started_at: datetime
    finished_at: datetime | None
    files: int
    files_delivered: int
    events: int
    bytes: int
    dropped_at_delivery: int
    id: int

    @property
    def manifest_key(self) -> str | None:
        """Where the client finds the manifest; None before the run is finished."""
        return f"{self.prefix}manifests/{self.run_key}.json" if self.status == "finished" else None


@dataclass(frozen=True, slots=True, kw_only=True)
class File:
    """A file of a delivery. Sizes and digest are known once it was built."""

    key: str
    hour: datetime
    state: str
    events: int | None
    bytes: int | None
    sha256: str | None
    policy_version: str | None
    dropped_at_delivery: int
    delivered_at: datetime | None


_RUNS = """
    SELECT r.id, r.run_key, r.frequency, r.status, r.attempts, r.error_class, r.error, r.bucket, r.prefix,
           r.complete_through, r.started_at, r.finished_at, f.*
    FROM pipeline.sync_runs r
    CROSS JOIN LATERAL (
        SELECT count(*)::bigint AS files, count(*) FILTER (WHERE state = 'delivered')::bigint AS files_delivered,
               coalesce(sum(events) FILTER (WHERE state = 'delivered'), 0)::bigint AS events,
               coalesce(sum(bytes) FILTER (WHERE state = 'delivered'), 0)::bigint AS bytes,
               coalesce(sum(dropped_at_delivery) FILTER (WHERE state = 'delivered'), 0)::bigint AS dropped_at_delivery
        FROM pipeline.delivery_files d WHERE d.run_id = r.id) f
    WHERE r.client_id = %(client_id)s
"""


async def runs(connection: AsyncConnection, client_id: str, *, before: int | None, limit: int) -> list[Run]:
    """The client's runs, newest first, with ids below `before`."""
    async with connection.cursor(row_factory=class_row(Run)) as cursor:
        await cursor.execute(
            _RUNS.encode()
            + b" AND r.id < coalesce(%(before)s, 9223372036854775807) ORDER BY r.id DESC LIMIT %(limit)s",
            {"client_id": client_id, "before": before, "limit": limit},
        )
        return await cursor.fetchall()


async def run(connection: AsyncConnection, client_id: str, run_key: str) -> Run | None:
    """One run."""
    async with connection.cursor(row_factory=class_row(Run)) as cursor:
        await cursor.execute(
            _RUNS.encode() + b" AND r.run_key = %(run_key)s", {"client_id": client_id, "run_key": run_key}
        )
        return await cursor.fetchone()


async def files(connection: AsyncConnection, run_id: int, *, limit: int) -> list[File]:
    """The files of a run, by hour and key."""
    async with connection.cursor(row_factory=class_row(File)) as cursor:
        await cursor.execute(
            "SELECT key, hour, state, events, bytes, sha256, policy_version, dropped_at_delivery, delivered_at"
            " FROM pipeline.delivery_files WHERE run_id = %s ORDER BY hour, key LIMIT %s",
            (run_id, limit),
        )
        return await cursor.fetchall()


async def manifest(connection: AsyncConnection, run_id: int) -> Any:
    """The manifest as it was delivered; None before."""
    cursor = await connection.execute("SELECT manifest FROM pipeline.sync_runs WHERE id = %s", (run_id,))
    row = await cursor.fetchone()
    return row[0] if row else None
