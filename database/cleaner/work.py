"""One turn of the cleaner: every raw object with something to do, one step or two, and on to the next.

An object that is missing, changed or misplaced is refused: written down, reported, left alone, and others go on.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from botocore.exceptions import ClientError
from psycopg import AsyncConnection

from database import source
from database.cleaner.history import Epoch, History
from database.cleaner.pace import Pace, TrustedClock
from database.cleaner.record import RecordError
from database.cleaner.settings import CleanerSettings
from database.cleaner.source import SourceRows
from database.cleaner.sweep import Sweep
from database.cleaner.verify import Problem, batches, differs, misplaced
from database.ledger import Pool, cleanup
from database.ledger.cleanup import CleanupObject
from database.translate import translated
from pipeline import failpoints, logs, metrics
from pipeline.errors import PermanentError
from pipeline.position import Lsn
from pipeline.s3 import ObjectStore

log = logs.get(__name__)

LIST_OBJECTS = 100

_EVER = datetime.min.replace(tzinfo=UTC)
_NEVER = datetime.max.replace(tzinfo=UTC)


@dataclass(kw_only=True)
class Report:
    """What a turn did, or in a dry run would have done."""

    objects: Counter[str] = field(default_factory=Counter)
    rows: Counter[str] = field(default_factory=Counter)
    refused: list[dict[str, str]] = field(default_factory=list)
    blocked: str | None = None

    def to_json(self) -> dict[str, Any]:
        """For /cleanup/status and the dry run's answer."""
        return {
            "objects": dict(self.objects),
            "rows": dict(self.rows),
            "refused": self.refused,
            "blocked": self.blocked,
        }


class Cleaner:
    """Works on one source and one bucket. `turned` is called between batches."""

    def __init__(
        self,
        settings: CleanerSettings,
        *,
        pool: Pool,
        bucket: ObjectStore,
        stop: asyncio.Event,
        turned: Callable[[], None] = lambda: None,
        monotonic: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] | None = None,
    ) -> None:
        self._settings = settings
        self._pool = pool
        self._bucket = bucket
        self._stop = stop
        self._turned = turned
        self._monotonic = monotonic
        self._rest = sleep or self._wait
        self._clock = TrustedClock(settings.cleanup_delay_seconds)
        self._sweep: Sweep | None = None
        if settings.cleanup_by_partition:
            self._sweep = Sweep(
                bucket,
                delay_seconds=settings.cleanup_delay_seconds,
                batch_rows=settings.cleanup_batch_rows,
                stop=stop,
                turned=turned,
            )
        self._stamping, self._deleting = Pace(), Pace()

    async def turn(self, rows: SourceRows, *, dry_run: bool = False) -> Report:
        """Look at every open object once. Raises TransientError when a database or S3 does not answer.

        With `dry_run` nothing is written anywhere, and delays don't count.
        """
        report = Report()
        async with self._ledger() as ledger:
            history, report.blocked = await self._history(rows, ledger)
            metrics.CLEANUP_BLOCKED.set(report.blocked is not None)
            if report.blocked is not None:
                log.error("cleaner.turn.blocked", reason=report.blocked)
                return report
            table = await rows.look()
            now = self._clock.now(await cleanup.clock(ledger), self._monotonic())
            after = ""
            stamp_before = _NEVER
            if self._sweep is not None and table.partition_key is not None:
                count = sum((await self._sweep.turn(rows, ledger, history, now, dry_run=dry_run)).values())
                if dry_run:
                    report.rows["would_be_dropped"] += count
                else:
                    _count_rows(report, "dropped", count)
                stamp_before = await self._sweep.released_before(rows) or _EVER
            while not self._stop.is_set():
                may_stamp = not await cleanup.is_snapshot_under_way(ledger)
                found = await cleanup.open_objects(
                    ledger,
                    stamped_before=now - timedelta(seconds=0 if dry_run else self._settings.cleanup_delay_seconds),
                    retry_before=now - timedelta(seconds=0 if dry_run else self._settings.cleanup_retry_seconds),
                    after=after,
                    may_stamp=may_stamp,
                    stamp_before=stamp_before,
                    limit=LIST_OBJECTS,
                )
                for item in found:
                    if self._stop.is_set() or not await cleanup.try_lock(ledger, item.id):
                        continue
                    try:
                        current = await cleanup.reread(ledger, item.id)
                        if current is not None and dry_run:
                            await self._try_dry(current, rows, history, report)
                        elif current is not None:
                            released = current.max_commit_time < stamp_before
                            await self._clean(current, rows, history, ledger, report, may_stamp=may_stamp and released)
                    finally:
                        if not ledger.closed:
                            await cleanup.unlock(ledger, item.id)
                    self._turned()
                if len(found) < LIST_OBJECTS:
                    return report
                after = found[-1].first_position
        return report

    async def _history(self, rows: SourceRows, ledger: AsyncConnection) -> tuple[History, str | None]:
        server = await rows.server()
        epochs = [
            Epoch(epoch=epoch, system_identifier=system, timeline=timeline, begins_at=Lsn.parse(begins_at))
            for epoch, system, timeline, begins_at in await cleanup.known_epochs(ledger)
        ]
        history = History(epochs, server, await cleanup.current_epoch(ledger, self._settings.replication_slot))
        if server.in_recovery:
            return history, "DATABASE_URL is a standby"
        if not history.is_known and epochs:
            return history, "DATABASE_URL is a server, or a timeline of one, that the streamer does not work on"
        return history, None

    async def _clean(
        self,
        found: CleanupObject,
        rows: SourceRows,
        history: History,
        ledger: AsyncConnection,
        report: Report,
        *,
        may_stamp: bool,
    ) -> None:
        problem, body = await self._read(found, history)
        if problem is None:
            try:
                problem = await self._step(found, body, rows, ledger, report, may_stamp=may_stamp)
            except RecordError:
                problem = Problem.DAMAGED
        if problem is not None:
            await cleanup.set_problem(ledger, found.id, problem)
            self._refuse(found, problem, report)

    async def _step(
        self,
        found: CleanupObject,
        body: bytes,
        rows: SourceRows,
        ledger: AsyncConnection,
        report: Report,
        *,
        may_stamp: bool,
    ) -> Problem | None:
        """What the object's dates ask for next."""
        if found.verified_at is None:
            if not await cleanup.set_verified(ledger, found):
                return None
            _count(report, "verified")
            failpoints.reach("cleaner.after_verify")
        if found.stamped_at is None:
            if may_stamp:
                await self._stamp(found, body, rows, ledger, report)
            return None
        return await self._delete(found, body, rows, ledger, report)

    async def _read(self, found: CleanupObject, history: History) -> tuple[Problem | None, bytes]:
        problem = misplaced(found, self._bucket.bucket, history)
        if problem is not None:
            return problem, b""
        try:
            body = await self._bucket.get(found.key)
        except PermanentError as error:
            code = _code(error)
            if code in ("NoSuchKey", "404"):
                return Problem.MISSING, b""
            if code in ("InvalidObjectState", "AccessDenied"):
                await self._bucket.check()  # the whole bucket refuses us: no fault of this object
                return Problem.UNREADABLE, b""
            raise
        return await asyncio.to_thread(differs, found, body), body

    async def _stamp(
        self, found: CleanupObject, body: bytes, rows: SourceRows, ledger: AsyncConnection, report: Report
    ) -> None:
        stamped = 0
        for lines in batches(body, self._settings.cleanup_batch_rows):
            if self._stop.is_set():
                return
            with _timed() as took:
                count = await rows.stamp(lines)
            stamped += count
            _count_rows(report, "stamped", count)
            failpoints.reach("cleaner.after_stamp")
            await self._pause(self._stamping, rows, len(lines), took[0])
        if await cleanup.set_stamped(ledger, found, stamped):
            _count(report, "stamped")
            log.info("cleaner.object.stamped", key=found.key, rows=stamped, events=found.events)

    async def _delete(
        self, found: CleanupObject, body: bytes, rows: SourceRows, ledger: AsyncConnection, report: Report
    ) -> Problem | None:
        changed = 0
        for lines in batches(body, self._settings.cleanup_batch_rows):
            # The ledger must answer before each batch, and still say the same.
            if self._stop.is_set() or await cleanup.reread(ledger, found.id) != found:
                return None
            with _timed() as took:
                done = await rows.delete(lines, mark=self._settings.cleanup_mark_processed)
            failpoints.reach("cleaner.after_delete")
            changed += done.changed
            for outcome in ("deleted", "gone", "changed"):
                _count_rows(report, outcome, getattr(done, outcome))
            await cleanup.add_deleted(ledger, found.id, done.deleted)
            await self._pause(self._deleting, rows, len(lines), took[0])
        if changed:
            return Problem.ROWS_CHANGED
        if await cleanup.set_deleted(ledger, found):
            _count(report, "deleted")
            log.info("cleaner.object.deleted", key=found.key, events=found.events)
        return None

    async def _try_dry(self, found: CleanupObject, rows: SourceRows, history: History, report: Report) -> None:
        problem, body = await self._read(found, history)
        if problem is None:
            changed = 0
            try:
                for lines in batches(body, self._settings.cleanup_batch_rows):
                    if self._stop.is_set():
                        return
                    done = await rows.would_delete(lines)
                    changed += done.changed
                    for outcome in ("deleted", "gone", "changed"):
                        report.rows[f"would_be_{outcome}" if outcome == "deleted" else outcome] += getattr(
                            done, outcome
                        )
                    self._turned()
            except RecordError:
                problem = Problem.DAMAGED
            report.objects["examined"] += 1
            if changed:
                problem = Problem.ROWS_CHANGED
        if problem is not None:
            self._refuse(found, problem, report)

    def _refuse(self, found: CleanupObject, problem: Problem, report: Report) -> None:
        report.refused.append({"bucket": found.bucket, "key": found.key, "problem": str(problem)})
        log.error("cleaner.object.refused", bucket=found.bucket, key=found.key, problem=str(problem))

    async def _pause(self, pace: Pace, rows: SourceRows, count: int, took_seconds: float) -> None:
        self._turned()
        with translated("DATABASE_URL"):
            slot = await source.find_slot(rows.connection, self._settings.replication_slot)
        rest = pace.rest_seconds(count, took_seconds, slot.lag_bytes if slot else 0)
        metrics.CLEANUP_REST_SECONDS.set(rest)
        await self._rest(rest)

    async def _wait(self, seconds: float) -> None:
        try:
            await asyncio.wait_for(self._stop.wait(), seconds)
        except TimeoutError:
            return

    @asynccontextmanager
    async def _ledger(self) -> AsyncIterator[AsyncConnection]:
        with translated("LEDGER_DATABASE_URL"):
            async with self._pool.connection() as connection:
                yield connection


@contextmanager
def _timed() -> Iterator[list[float]]:
    """The seconds that the block took, as the list's one element."""
    began = time.monotonic()
    took = [0.0]
    yield took
    took[0] = time.monotonic() - began
    metrics.CLEANUP_BATCH_SECONDS.observe(took[0])


def _code(error: PermanentError) -> str:
    cause = error.__cause__
    return str(cause.response.get("Error", {}).get("Code", "")) if isinstance(cause, ClientError) else ""


def _count(report: Report, step: str) -> None:
    report.objects[step] += 1
    metrics.CLEANED_OBJECTS.labels(step).inc()


def _count_rows(report: Report, outcome: str, count: int) -> None:
    if count:
        report.rows[outcome] += count
        metrics.CLEANED_ROWS.labels(outcome).inc(count)
