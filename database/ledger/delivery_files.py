"""The files of a run, one after the other: what goes into the next one, what is about to be PUT, what has arrived.

Every statement here compares the run's owner, and the file's revision, which rises whenever a file gets other members
(a replay) or may no longer hold what we last wrote (a late writer): what was built before is void then.
"""

# ruff: noqa: S608 - the parts of the queries that are put together are constants of this module
from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from typing import Any

from psycopg import AsyncConnection
from psycopg.rows import class_row

from database.ledger.deliveries import Run, fenced, own
from pipeline.errors import TransientError

_REPLACEMENTS = "SELECT * FROM pipeline.delivery_replacements p WHERE p.file_id = f.id AND p.state = 'delivered'"
_NEWEST = "ORDER BY p.id DESC LIMIT 1"


class Announced(Enum):
    """What the ledger knew of a file's content before this attempt."""

    FIRST = "first"
    AGAIN = "again"
    """All attempts before had the same bytes."""
    CHANGED = "changed"
    """The key may hold other bytes: those of an attempt, or of the file that is replaced."""


class RevisedError(TransientError):
    """The file's members are others now: build it again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenFile:
    """A file that this run has yet to deliver, for the first time or again."""

    id: int
    replacement_id: int | None
    """Set when the file was delivered before and is built again."""
    bucket: str
    key: str
    hour: datetime
    revision: int


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
class ReplacedFile(DeliveredFile):
    """A file that was built again, and what it takes the place of."""

    old_bucket: str
    old_key: str
    old_events: int
    old_sha256: str


async def next_files(connection: AsyncConnection, run: Run, *, limit: int) -> list[OpenFile]:
    """The first files of `run` that are not delivered, then the first ones that are to be replaced."""
    async with connection.cursor(row_factory=class_row(OpenFile)) as cursor:
        await cursor.execute(
            "SELECT id, NULL::bigint AS replacement_id, bucket, key, hour, revision FROM pipeline.delivery_files"
            " WHERE run_id = %s AND state = 'planned' ORDER BY id LIMIT %s",
            (run.id, limit),
        )
        files = await cursor.fetchall()
        if len(files) < limit:
            await cursor.execute(
                "SELECT f.id, p.id AS replacement_id, p.bucket, p.key, f.hour, f.revision"
                " FROM pipeline.delivery_replacements p JOIN pipeline.delivery_files f ON f.id = p.file_id"
                " WHERE p.run_id = %s AND p.state = 'open' ORDER BY p.id LIMIT %s",
                (run.id, limit - len(files)),
            )
            files += await cursor.fetchall()
        return files


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


async def announce(connection: AsyncConnection, run: Run, file: OpenFile, content: Content) -> Announced:
    """Record what is about to be PUT. Raises FencedError when the run is no longer ours, RevisedError."""
    async with connection.transaction():
        before, rewritten = await _lock(connection, run, file)
        rewritten = rewritten or before not in (None, content.sha256)
        await connection.execute(
            f"UPDATE pipeline.{_table(file)} SET rewritten = %s, events = %s, bytes = %s, sha256 = %s,"
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
                file.replacement_id or file.id,
            ),
        )
    if rewritten or file.replacement_id is not None:
        return Announced.CHANGED
    return Announced.FIRST if before is None else Announced.AGAIN


async def delivered(connection: AsyncConnection, run: Run, file: OpenFile, sha256: str) -> None:
    """The file is in the client's bucket. Raises FencedError when the run is no longer ours, RevisedError."""
    async with connection.transaction():
        announced, _ = await _lock(connection, run, file)
        if announced != sha256:
            raise fenced()
        await connection.execute(
            f"UPDATE pipeline.{_table(file)} SET state = 'delivered', delivered_at = clock_timestamp() WHERE id = %s",
            (file.replacement_id or file.id,),
        )


async def void(connection: AsyncConnection, file: OpenFile, sha256: str) -> None:
    """We lost the run and may have written these bytes over what its new owner wrote: let the file be built again.

    Nothing happens when the ledger says that the file holds just these bytes.
    """
    async with connection.transaction():
        cursor = await connection.execute(
            "SELECT f.state, coalesce(p.sha256, f.sha256) FROM pipeline.delivery_files f LEFT JOIN LATERAL ("
            " SELECT r.sha256 FROM pipeline.delivery_replacements r WHERE r.file_id = f.id AND r.sha256 IS NOT NULL"
            " ORDER BY r.id DESC LIMIT 1) p ON true WHERE f.id = %s FOR UPDATE OF f",
            (file.id,),
        )
        row = await cursor.fetchone()
        if row is None or row[1] == sha256:
            return
        await connection.execute("UPDATE pipeline.delivery_files SET revision = revision + 1 WHERE id = %s", (file.id,))
        if row[0] == "delivered":
            await connection.execute(
                "INSERT INTO pipeline.delivery_replacements (file_id, old_events, old_bytes, old_sha256)"
                " SELECT f.id, coalesce(p.events, f.events), coalesce(p.bytes, f.bytes), coalesce(p.sha256, f.sha256)"
                f" FROM pipeline.delivery_files f LEFT JOIN LATERAL ({_REPLACEMENTS} {_NEWEST}) p ON true"
                " WHERE f.id = %s ON CONFLICT (file_id) WHERE state = 'open' DO NOTHING",
                (file.id,),
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


async def replaced_files(connection: AsyncConnection, run: Run) -> list[ReplacedFile]:
    """The files that `run` has built again, in order, for its manifest."""
    async with connection.cursor(row_factory=class_row(ReplacedFile)) as cursor:
        await cursor.execute(
            "SELECT r.bucket, r.key, f.hour, r.events, r.bytes, r.sha256, r.policy_version, r.first_commit_time,"
            " r.last_commit_time, coalesce(p.bucket, f.bucket) AS old_bucket, coalesce(p.key, f.key) AS old_key,"
            " r.old_events, r.old_sha256 FROM pipeline.delivery_replacements r"
            " JOIN pipeline.delivery_files f ON f.id = r.file_id"
            f" LEFT JOIN LATERAL ({_REPLACEMENTS} AND p.id < r.id {_NEWEST}) p ON true"
            " WHERE r.run_id = %s AND r.state = 'delivered' ORDER BY r.id",
            (run.id,),
        )
        return await cursor.fetchall()


def _table(file: OpenFile) -> str:
    return "delivery_files" if file.replacement_id is None else "delivery_replacements"


async def _lock(connection: AsyncConnection, run: Run, file: OpenFile) -> tuple[str | None, bool]:
    """Lock the file's row; (digest of the attempt before, whether attempts differed)."""
    await own(connection, run)
    # Whoever gives a file other members locks its row first: database/ledger/revisions.py.
    query = "SELECT revision, sha256, rewritten, run_id, state FROM pipeline.delivery_files WHERE id = %s FOR UPDATE"
    cursor = await connection.execute(query, (file.id,))
    row: Any = await cursor.fetchone()
    if row is None or row[0] != file.revision:
        raise RevisedError("the file's members were replaced while it was delivered")
    _, *state = row
    if file.replacement_id is not None:
        cursor = await connection.execute(
            "SELECT sha256, rewritten, run_id, state FROM pipeline.delivery_replacements WHERE id = %s",
            (file.replacement_id,),
        )
        state = await cursor.fetchone()
    sha256, rewritten, run_id, at = state
    if (run_id, at) != (run.id, "planned" if file.replacement_id is None else "open"):
        raise fenced()
    return sha256, rewritten
