"""Whole partitions: a day of events_log is dropped at once when each row in it is what a verified object holds.

Costs the source next to nothing: no stamp, no deletion, no index entry. Nobody is locked out while the day is compared:
a trigger on that partition alone counts what is written to it, and the short lock of the drop looks at the counter.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime, timedelta

import psycopg
from psycopg import AsyncConnection, sql

from database.cleaner.history import History
from database.cleaner.record import RecordError
from database.cleaner.source import SourceRows
from database.cleaner.verify import Problem, batches, differs, misplaced
from database.ledger import cleanup
from database.ledger.cleanup import CleanupObject
from database.partition import LOCK_TIMEOUT, Day, days
from database.translate import translated
from pipeline import logs
from pipeline.errors import PermanentError, TransientError
from pipeline.s3 import ObjectStore

log = logs.get(__name__)

COMMIT_SLACK = timedelta(hours=6)
"""How much later than its created_at a row may be committed and still be looked for in the day's objects."""

RETRY = timedelta(hours=1)

DROP_LOCK_TIMEOUT = "300ms"
"""Everybody who uses events_log waits behind us for so long; then they have their turn."""

DROP_ATTEMPTS = 60
DROP_PAUSE_SECONDS = 1.0


class IdSet:
    """Ids of rows, a bit each where they are dense: a day of 100 million takes 13 MB."""

    def __init__(self) -> None:
        self._pages: dict[int, bytearray] = {}

    def add(self, id_: int) -> None:
        """Remember `id_`, which may be negative."""
        page = self._pages.get(id_ >> 16)
        if page is None:
            page = self._pages[id_ >> 16] = bytearray(8192)
        page[(id_ & 0xFFFF) >> 3] |= 1 << (id_ & 7)

    def __len__(self) -> int:
        return sum(int.from_bytes(page).bit_count() for page in self._pages.values())


class Sweep:
    """Drops days that are over. `released_before`: what was committed earlier goes row by row."""

    def __init__(
        self, bucket: ObjectStore, *, delay_seconds: float, batch_rows: int, stop: asyncio.Event,
        turned: Callable[[], None],
    ) -> None:  # fmt: skip
        self._bucket = bucket
        self._delay = timedelta(seconds=delay_seconds)
        self._batch_rows = batch_rows
        self._stop = stop
        self._turned = turned
        self._not_before: dict[str, datetime] = {}
        self._failed_until: datetime | None = None

    async def released_before(self, rows: SourceRows) -> datetime | None:
        """Commits before that time lie in no day that may still be dropped; None while there is no such time."""
        with translated("DATABASE_URL"):
            bounds = [day.lower for day in await days(rows.connection)]
        oldest = min((bound for bound in bounds if bound is not None), default=None) if None not in bounds else None
        return max((time for time in (oldest, self._failed_until) if time is not None), default=None)

    async def turn(
        self, rows: SourceRows, ledger: AsyncConnection, history: History, now: datetime, *, dry_run: bool = False
    ) -> dict[str, int]:
        """Drop what may be dropped; rows by partition. `now`: the trusted time. Raises TransientError."""
        dropped: dict[str, int] = {}
        with translated("DATABASE_URL"):
            over = [day for day in await days(rows.connection) if day.upper + self._delay < now]
        for day in over:
            if self._stop.is_set() or now < self._not_before.get(day.name, now):
                continue
            count, reason = await self._try(day, rows, ledger, history, now, dry_run=dry_run)
            if reason is None:
                dropped[day.name] = count
                continue
            self._not_before[day.name] = now + RETRY
            log.warning("cleaner.partition.kept", partition=day.name, reason=reason, rows=count)
        return dropped

    async def _try(
        self, day: Day, rows: SourceRows, ledger: AsyncConnection, history: History, now: datetime, *, dry_run: bool
    ) -> tuple[int, str | None]:
        """(rows, None) when it was dropped, else (rows that are in the way, why not)."""
        candidates = await cleanup.objects_of_commits(ledger, day.lower, day.upper + COMMIT_SLACK)
        for found in candidates:
            if found.verified_at is None or found.exported_at > now - self._delay:
                return 0, "objects of the day wait to be verified, or for the delay"
        child = sql.SQL(day.name)
        touched = None if dry_run else await guard(rows.connection, child)
        verified, changed = IdSet(), 0
        for found in candidates:
            if self._stop.is_set():
                return 0, "the cleaner stops"
            changed += await self._compare(found, day, rows, ledger, history, verified)
            self._turned()
        with translated("DATABASE_URL"):
            cursor = await rows.connection.execute(sql.SQL("SELECT count(*) FROM {}").format(child))
            counted = await cursor.fetchone()
        assert counted is not None
        if counted[0] != len(verified):
            self._failed_until = max(self._failed_until or day.upper, day.upper)
            return counted[0] - len(verified), f"rows that no verified object holds ({changed} changed)"
        if touched is not None:
            reason = await self._drop(rows.connection, child, touched)
            if reason is not None:
                return 0, reason
            log.info("cleaner.partition.dropped", partition=day.name, rows=counted[0], objects=len(candidates))
        return counted[0], None

    async def _drop(self, connection: AsyncConnection, child: sql.SQL, touched: int) -> str | None:
        """Drop the partition, between other people's transactions; None, or why it was not."""
        for _ in range(DROP_ATTEMPTS):
            try:
                with translated("DATABASE_URL"):
                    return None if await drop(connection, child, touched) else "it was written to meanwhile"
            except TransientError as error:
                if not isinstance(error.__cause__, psycopg.errors.LockNotAvailable):
                    raise
            self._turned()
            with suppress(TimeoutError):
                await asyncio.wait_for(self._stop.wait(), DROP_PAUSE_SECONDS)
                break
        return "the table is always in use"

    async def _compare(
        self,
        found: CleanupObject,
        day: Day,
        rows: SourceRows,
        ledger: AsyncConnection,
        history: History,
        verified: IdSet,
    ) -> int:
        """Read the object back once more; note rows of the day that are what it holds; returns how many are not."""
        problem = misplaced(found, self._bucket.bucket, history)
        changed = 0
        if problem is None:
            try:
                body = await self._bucket.get(found.key)
            except PermanentError:
                return 0  # the turn names it
            problem = await asyncio.to_thread(differs, found, body)
        if problem is not None:
            return 0
        try:
            for lines in batches(body, self._batch_rows):
                same, there = await rows.unchanged_in(lines, day.name)
                changed += there - len(same)
                for id_ in same:
                    verified.add(id_)
                self._turned()
        except RecordError:
            return 0
        if changed:
            await cleanup.set_problem(ledger, found.id, Problem.ROWS_CHANGED)
        return changed


async def guard(connection: AsyncConnection, child: sql.SQL) -> int:
    """Count what is written to the partition from now on; the counter as it stands while nobody writes."""
    with translated("DATABASE_URL"):
        async with connection.transaction():
            await connection.execute(sql.SQL("SET LOCAL lock_timeout = {}").format(sql.Literal(LOCK_TIMEOUT)))
            await connection.execute(sql.SQL("LOCK TABLE {} IN SHARE ROW EXCLUSIVE MODE").format(child))
            await connection.execute(
                sql.SQL(
                    "CREATE OR REPLACE TRIGGER events_log_touched AFTER INSERT OR UPDATE OR DELETE ON {}"
                    " FOR EACH ROW EXECUTE FUNCTION pipeline.events_log_touch()"
                ).format(child)
            )
            # Else it would not see what a subscription applies: that runs with session_replication_role = replica.
            await connection.execute(sql.SQL("ALTER TABLE {} ENABLE ALWAYS TRIGGER events_log_touched").format(child))
            return await _touched(connection)


async def drop(connection: AsyncConnection, child: sql.SQL, touched: int) -> bool:
    """Drop the partition unless it was written to since; waits for the locks no longer than others may wait for us."""
    async with connection.transaction():
        await connection.execute(sql.SQL("SET LOCAL lock_timeout = {}").format(sql.Literal(DROP_LOCK_TIMEOUT)))
        await connection.execute(sql.SQL("LOCK TABLE events_log, {} IN ACCESS EXCLUSIVE MODE").format(child))
        if await _touched(connection) != touched:
            return False
        await connection.execute(sql.SQL("DROP TABLE {}").format(child))
    return True


async def _touched(connection: AsyncConnection) -> int:
    cursor = await connection.execute(
        "SELECT CASE WHEN is_called THEN last_value ELSE 0 END FROM pipeline.events_log_touched"
    )
    row = await cursor.fetchone()
    if row is None:
        raise TransientError("pipeline.events_log_touched has no row")
    return int(row[0])
