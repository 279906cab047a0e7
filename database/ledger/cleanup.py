"""What the cleaner reads and writes: which raw objects are verified, stamped and deleted, and what is wrong with them.

The three dates are set in this order, each once, by the ledger's clock. A cleaner holds an advisory lock on the object
that it works on; that only saves work: every statement here compares what it relies on.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from psycopg import AsyncConnection
from psycopg.rows import class_row

_LOCKS = 0x636C_6561  # the first of an advisory lock's two keys; any constant does


@dataclass(frozen=True, slots=True, kw_only=True)
class CleanupObject:
    """A raw object whose rows may still be in events_log."""

    id: int
    bucket: str
    key: str
    first_position: str
    last_position: str
    events: int
    counted: int
    """Its events by raw_counts: must be the same number."""
    bytes: int
    sha256: str
    max_commit_time: datetime
    exported_at: datetime
    verified_at: datetime | None
    stamped_at: datetime | None


_OBJECT = """
    SELECT o.id, o.bucket, o.key, o.first_position, o.last_position, o.events, o.bytes, o.sha256, o.max_commit_time,
           o.exported_at, o.verified_at, o.stamped_at,
           (SELECT coalesce(sum(c.events), 0)::bigint FROM pipeline.raw_counts c
             WHERE c.raw_object_id = o.id) AS counted
    FROM pipeline.raw_objects o
"""
_OPEN = "o.deleted_at IS NULL AND (o.cleanup_tried_at IS NULL OR o.cleanup_tried_at < %(retry_before)s)"


async def clock(connection: AsyncConnection) -> datetime:
    """The ledger's clock, by which delays are measured."""
    return (await _row(await connection.execute("SELECT clock_timestamp()")))[0]  # type: ignore[no-any-return]


async def is_snapshot_under_way(connection: AsyncConnection) -> bool:
    """Whether a streamer reads the whole table just now; then nothing may become stamped, see `set_stamped`."""
    cursor = await connection.execute("SELECT EXISTS (SELECT FROM pipeline.stream_state WHERE state = 'snapshot')")
    return bool((await _row(cursor))[0])


async def open_objects(
    connection: AsyncConnection,
    *,
    stamped_before: datetime,
    retry_before: datetime,
    after: str,
    may_stamp: bool,
    stamp_before: datetime,
    limit: int,
) -> list[CleanupObject]:
    """Objects with something to do, oldest first, behind the position text `after`.

    To do: not read back yet; or not stamped yet (with `may_stamp`, when committed before `stamp_before`); or stamped
    before `stamped_before`. Refused ones are left out until `retry_before` has passed them.
    """
    async with connection.cursor(row_factory=class_row(CleanupObject)) as cursor:
        await cursor.execute(
            f"{_OBJECT} WHERE {_OPEN} AND o.first_position > %(after)s"
            " AND (o.verified_at IS NULL OR (o.stamped_at IS NULL AND %(may_stamp)s"
            " AND o.max_commit_time < %(stamp_before)s)"
            " OR o.stamped_at <= %(stamped_before)s) ORDER BY o.first_position LIMIT %(limit)s",
            {
                "retry_before": retry_before,
                "stamped_before": stamped_before,
                "after": after,
                "may_stamp": may_stamp,
                "stamp_before": stamp_before,
                "limit": limit,
            },
        )
        return await cursor.fetchall()


async def objects_of_commits(
    connection: AsyncConnection, since: datetime | None, until: datetime
) -> list[CleanupObject]:
    """Objects with rows to delete and commits in that time (None: from the beginning), oldest first."""
    async with connection.cursor(row_factory=class_row(CleanupObject)) as cursor:
        await cursor.execute(
            f"{_OBJECT} WHERE o.deleted_at IS NULL AND o.min_commit_time < %s"
            " AND o.max_commit_time >= coalesce(%s, '-infinity'::timestamptz) ORDER BY o.first_position",
            (until, since),
        )
        return await cursor.fetchall()


async def reread(connection: AsyncConnection, object_id: int) -> CleanupObject | None:
    """The object as it stands now; None when it is deleted by now, or not in the ledger any more."""
    async with connection.cursor(row_factory=class_row(CleanupObject)) as cursor:
        await cursor.execute(f"{_OBJECT} WHERE o.id = %s AND o.deleted_at IS NULL", (object_id,))
        return await cursor.fetchone()


async def try_lock(connection: AsyncConnection, object_id: int) -> bool:
    """Keep other cleaners from this object while `connection` lives, or until `unlock`. False: one has it."""
    cursor = await connection.execute("SELECT pg_try_advisory_lock(%s, %s)", (_LOCKS, object_id & 0x7FFF_FFFF))
    return bool((await _row(cursor))[0])


async def unlock(connection: AsyncConnection, object_id: int) -> None:
    """Let others have it."""
    await connection.execute("SELECT pg_advisory_unlock(%s, %s)", (_LOCKS, object_id & 0x7FFF_FFFF))


async def set_verified(connection: AsyncConnection, found: CleanupObject) -> bool:
    """The object was read back and is what the ledger says. False when the ledger says something else by now."""
    cursor = await connection.execute(
        "UPDATE pipeline.raw_objects SET verified_at = coalesce(verified_at, clock_timestamp()),"
        " cleanup_problem = NULL, cleanup_tried_at = NULL WHERE id = %s AND sha256 = %s AND deleted_at IS NULL",
        (found.id, found.sha256),
    )
    return cursor.rowcount == 1


async def set_stamped(connection: AsyncConnection, found: CleanupObject, rows: int) -> bool:
    """All rows of the object carry the stamp; from now on the delay counts. False when that can't be recorded now.

    Never while a snapshot is under way: it leaves out rows by their stamps or, for objects without stamped_at, by
    reading the object. If the stamps came after its view of the table and this date before its look at the ledger, it
    would export the rows again.
    """
    cursor = await connection.execute(
        "UPDATE pipeline.raw_objects SET stamped_at = clock_timestamp(), stamped_rows = %s,"
        " cleanup_problem = NULL, cleanup_tried_at = NULL"
        " WHERE id = %s AND sha256 = %s AND verified_at IS NOT NULL AND stamped_at IS NULL AND deleted_at IS NULL"
        " AND NOT EXISTS (SELECT FROM pipeline.stream_state WHERE state = 'snapshot')",
        (rows, found.id, found.sha256),
    )
    return cursor.rowcount == 1


async def add_deleted(connection: AsyncConnection, object_id: int, rows: int) -> None:
    """Count rows that are deleted, for the status; a kill between deletion and this makes it too small."""
    await connection.execute(
        "UPDATE pipeline.raw_objects SET deleted_rows = deleted_rows + %s WHERE id = %s", (rows, object_id)
    )


async def set_deleted(connection: AsyncConnection, found: CleanupObject) -> bool:
    """No row of the object is left. What the cleaner did not delete, somebody else had: `gone_rows`."""
    cursor = await connection.execute(
        "UPDATE pipeline.raw_objects SET deleted_at = clock_timestamp(),"
        " gone_rows = greatest(0, events - deleted_rows),"
        " cleanup_problem = NULL, cleanup_tried_at = NULL"
        " WHERE id = %s AND sha256 = %s AND stamped_at IS NOT NULL AND deleted_at IS NULL",
        (found.id, found.sha256),
    )
    return cursor.rowcount == 1


async def set_problem(connection: AsyncConnection, object_id: int, problem: str) -> None:
    """Nothing is deleted on the strength of this object until somebody mended it: an alert."""
    await connection.execute(
        "UPDATE pipeline.raw_objects SET cleanup_problem = %s, cleanup_tried_at = clock_timestamp()"
        " WHERE id = %s AND deleted_at IS NULL",
        (problem, object_id),
    )


async def forget_retries(connection: AsyncConnection) -> None:
    """Look at refused objects again at once."""
    await connection.execute(
        "UPDATE pipeline.raw_objects SET cleanup_tried_at = NULL"
        " WHERE cleanup_tried_at IS NOT NULL AND deleted_at IS NULL"
    )


async def problems(connection: AsyncConnection) -> list[dict[str, Any]]:
    """Refused objects: key, positions, problem, events and since when, oldest first; at most 1000."""
    cursor = await connection.execute(
        "SELECT bucket, key, first_position, last_position, events, cleanup_problem, cleanup_tried_at"
        " FROM pipeline.raw_objects WHERE deleted_at IS NULL AND cleanup_problem IS NOT NULL"
        " ORDER BY first_position LIMIT 1000"
    )
    names = ("bucket", "key", "first_position", "last_position", "events", "problem", "tried_at")
    return [dict(zip(names, row, strict=True)) for row in await cursor.fetchall()]


async def problem_counts(connection: AsyncConnection) -> dict[str, int]:
    """Refused objects by problem."""
    cursor = await connection.execute(
        "SELECT cleanup_problem, count(*) FROM pipeline.raw_objects"
        " WHERE deleted_at IS NULL AND cleanup_problem IS NOT NULL GROUP BY 1"
    )
    return dict(await cursor.fetchall())


async def summary(connection: AsyncConnection, delay_seconds: float) -> dict[str, Any]:
    """Objects and events by how far the clean-up is with them, and how old the oldest is that isn't cleaned."""
    cursor = await connection.execute(
        "SELECT count(*) FILTER (WHERE verified_at IS NULL), count(*) FILTER (WHERE stamped_at IS NULL),"
        " count(*) FILTER (WHERE stamped_at > clock_timestamp() - make_interval(secs => %(delay)s)),"
        " count(*) FILTER (WHERE stamped_at <= clock_timestamp() - make_interval(secs => %(delay)s)),"
        " count(*) FILTER (WHERE cleanup_problem IS NOT NULL), coalesce(sum(events), 0)::bigint,"
        " extract(epoch FROM clock_timestamp() - min(exported_at))::float8, min(stamped_at)"
        " FROM pipeline.raw_objects WHERE deleted_at IS NULL",
        {"delay": delay_seconds},
    )
    names = ("unverified", "unstamped", "waiting", "due", "refused", "events", "oldest_seconds", "oldest_stamped_at")
    return dict(zip(names, await _row(cursor), strict=True))


async def known_epochs(connection: AsyncConnection) -> list[tuple[int, str, int, str]]:
    """(epoch, system identifier, timeline, LSN at which it begins) of every history that a streamer has met."""
    cursor = await connection.execute(
        "SELECT epoch, system_identifier, timeline, begins_at_lsn::text FROM pipeline.epochs"
    )
    return [(row[0], row[1], row[2], row[3]) for row in await cursor.fetchall()]


async def current_epoch(connection: AsyncConnection, slot: str) -> int | None:
    """The epoch that the streamer of `slot` works in; None when the ledger has never heard of it."""
    cursor = await connection.execute("SELECT epoch FROM pipeline.stream_state WHERE slot = %s", (slot,))
    row = await cursor.fetchone()
    return None if row is None else int(row[0])


async def _row(cursor: Any) -> tuple[Any, ...]:
    row = await cursor.fetchone()
    assert row is not None
    return tuple(row)
