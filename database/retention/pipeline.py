"""One run of retention, from the youngest limits to the oldest."""

from __future__ import annotations

import argparse
import asyncio
import json
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from datetime import datetime, timedelta
from typing import Any

from psycopg import AsyncConnection

from database import preflight
from database.ledger import Pool, audit, connected, open_pool
from database.ledger.cleanup import clock
from database.retention import ledger, objects, orphans
from database.retention.orphans import Orphans
from database.retention.report import Amount, Report
from database.retention.settings import RetentionSettings
from pipeline import logs
from pipeline.errors import ConfigError
from pipeline.s3 import ObjectStore, open_bucket

log = logs.get(__name__)

_LOCK = 0x7265_7465_6E74  # one run at a time; any constant does


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of the command."""
    parser.add_argument("--dry-run", action="store_true", help="count what would be deleted, delete nothing")
    parser.add_argument("--json", action="store_true", help="one JSON document instead of lines")


def main(options: argparse.Namespace) -> int:
    """Exit status: 1 when something was left because it can't be right."""
    settings = RetentionSettings.load()
    logs.configure("retention", settings.log_level)
    report = asyncio.run(retain(settings, dry_run=options.dry_run))
    print(json.dumps(report.to_json(), indent=2) if options.json else "\n".join(report.lines()))  # noqa: T201
    return 1 if report.problems else 0


async def retain(settings: RetentionSettings, *, dry_run: bool = False) -> Report:
    """Delete what is too old. Raises ConfigError when another one is at work, TransientError when a part is away."""
    await preflight.require(None, settings.ledger_dsn)
    async with AsyncExitStack() as stack:
        pool = await stack.enter_async_context(open_pool(settings.ledger_dsn))
        raw = await stack.enter_async_context(open_bucket(settings.raw_bucket))
        processed = await stack.enter_async_context(open_bucket(settings.processed_bucket))
        await preflight.require_bucket(raw, "RAW_S3_BUCKET")
        await preflight.require_bucket(processed, "PROCESSED_S3_BUCKET")
        async with connected(pool) as lock:
            cursor = await lock.execute("SELECT pg_try_advisory_lock(%s)", (_LOCK,))
            row = await cursor.fetchone()
            if row is None or not row[0]:
                raise ConfigError("another retention run is at work")
            try:
                report = await _Run(settings, pool, raw, processed, await clock(lock), dry_run=dry_run).run()
            finally:
                await lock.execute("SELECT pg_advisory_unlock(%s)", (_LOCK,))
    log.info("database.retention.finished", **report.to_json())
    return report


class _Run:
    def __init__(
        self,
        settings: RetentionSettings,
        pool: Pool,
        raw: ObjectStore,
        processed: ObjectStore,
        now: datetime,
        *,
        dry_run: bool,
    ) -> None:
        """`now`: by the ledger's clock, by which its rows were dated."""
        self._settings = settings
        self._pool = pool
        self._raw = raw
        self._processed = processed
        self._now = now
        self._dry_run = dry_run
        self._report = Report(dry_run=dry_run)
        self._expired: set[str] = set()
        """Keys that are counted already."""

    async def run(self) -> Report:
        await self._set_aside()
        await self._objects()
        await self._orphans()
        await self._ledger()
        if not self._dry_run and any(amount.count for amount in self._report.deleted.values()):
            async with connected(self._pool) as connection, connection.transaction():
                await audit.append(
                    connection,
                    actor="retention",
                    action="retention.applied",
                    client_id=None,
                    details=self._report.to_json(),
                )
        return self._report

    def _before(self, days: float) -> datetime:
        return self._now - timedelta(days=days)

    async def _set_aside(self) -> None:
        """What nobody got in its time expires; `_objects` deletes it."""
        settings, deleted = self._settings, self._report.deleted
        limits = {
            "held": settings.held_retention_days,
            "quarantine": settings.quarantine_retention_days,
            "dead_letter": settings.dead_letter_retention_days,
            "client": settings.undelivered_retention_days,
        }
        for kind, days in limits.items():
            if days is None:
                continue
            async with connected(self._pool) as connection:
                expired = await objects.expire(
                    connection, self._processed, kind, self._before(days), dry_run=self._dry_run
                )
            self._expired |= {item.key for item in expired}
            for item in expired:
                deleted["undelivered" if kind == "client" else kind].add(size=item.bytes, events=item.events)

    async def _objects(self) -> None:
        settings = self._settings
        before = self._before(settings.raw_retention_days)
        await self._mark_and_delete(
            "raw",
            self._raw,
            lambda connection: objects.mark_raw(
                connection, bucket=self._raw.bucket, topic=settings.kafka_raw_topic, before=before
            ),
        )
        before = self._before(settings.processed_retention_days)
        await self._mark_and_delete(
            "processed",
            self._processed,
            lambda connection: objects.mark_processed(connection, bucket=self._processed.bucket, before=before),
        )
        async with connected(self._pool) as connection:
            count, size, events = await objects.undelivered(connection, before)
        if count and settings.undelivered_retention_days is None:
            self._report.kept["processed, not delivered"] = Amount(count, size, events)

    async def _mark_and_delete(
        self, name: str, bucket: ObjectStore, mark: Callable[[AsyncConnection], Awaitable[list[objects.Removed]]]
    ) -> None:
        """Batch by batch; in a dry run all batches in one transaction that is taken back."""
        async with connected(self._pool) as connection, AsyncExitStack() as stack:
            if self._dry_run:
                await stack.enter_async_context(connection.transaction(force_rollback=True))
            while removed := await mark(connection):
                for item in removed:
                    if item.key in self._expired:
                        continue
                    self._report.deleted[name].add(size=item.bytes, events=item.events)
                await self._delete(bucket, [item.key for item in removed])

    async def _orphans(self) -> None:
        before = self._before(self._settings.orphan_retention_days)
        for bucket, find in ((self._raw, orphans.raw_orphans), (self._processed, orphans.processed_orphans)):
            async with connected(self._pool) as connection:
                found: Orphans = await find(connection, bucket, before)
            if not found.is_credible:
                self._report.problems.append(
                    f"s3://{bucket.bucket}: {len(found.found)} of {found.listed} objects are in no row of the ledger:"
                    " nothing of that is deleted (is it the right ledger? was it set back? rebuild-ledger)"
                )
                continue
            for item in found.found:
                self._report.deleted["orphans"].add(size=item.bytes)
            await self._delete(bucket, [item.key for item in found.found])

    async def _ledger(self) -> None:
        horizon = self._before(self._settings.ledger_retention_days).replace(minute=0, second=0, microsecond=0)
        deleted = self._report.deleted
        async with connected(self._pool) as connection, AsyncExitStack() as stack:
            if self._dry_run:
                await stack.enter_async_context(connection.transaction(force_rollback=True))
            while True:
                async with connection.transaction():
                    runs, keys = await ledger.retire_deliveries(connection, horizon)
                    chunks, events, more = await ledger.retire_chunks(connection, horizon)
                    raw, raw_events = await ledger.retire_raw_objects(connection, horizon)
                    if runs or chunks or raw:
                        await ledger.set_horizon(connection, horizon)
                if not (runs or chunks or raw):
                    break
                deleted["ledger_deliveries"].add(count=runs)
                deleted["ledger_chunks"].add(count=chunks, events=events)
                deleted["ledger_raw_objects"].add(count=raw, events=raw_events)
                await self._delete(self._processed, keys + more)

    async def _delete(self, bucket: ObjectStore, keys: Sequence[Any]) -> None:
        if not self._dry_run:
            for at in range(0, len(keys), objects.BATCH):
                await bucket.delete(keys[at : at + objects.BATCH])
