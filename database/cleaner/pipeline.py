"""The cleaner as a service: a turn every second, status and orders over HTTP."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from datetime import UTC, datetime, timedelta

import psycopg

from database import gauges, preflight
from database.balance import KINDS, Window, by_kind, imbalances
from database.cleaner.http import add_routes
from database.cleaner.settings import CleanerSettings
from database.cleaner.source import SourceRows, open_source
from database.cleaner.status import Orders, Status
from database.cleaner.verify import Problem
from database.cleaner.work import Cleaner, Report
from database.ledger import Pool, cleanup, open_pool
from database.partition import upkeep
from database.translate import translated
from pipeline import logs, metrics
from pipeline.errors import ConfigError, PipelineError, TransientError
from pipeline.health import Health, serving
from pipeline.s3 import open_bucket

log = logs.get(__name__)

PORT = 8084

TURN_SECONDS = 1.0
"""Between two looks at the ledger: one query on an index that holds what is not deleted yet."""

MOST_BACKOFF_SECONDS = 30.0

UPKEEP_SECONDS = 600.0
BALANCE_SECONDS = 60.0
BALANCE_WINDOW = timedelta(hours=26)
"""A day and what belongs to its edges: older hours don't change any more without a replay."""


async def serve(settings: CleanerSettings, stop: asyncio.Event) -> None:
    """Run until `stop` is set; the batch at hand is finished then."""
    status, orders = Status(dry_run=settings.cleanup_dry_run), Orders()
    async with AsyncExitStack() as stack:
        await preflight.require(settings.source_dsn, settings.ledger_dsn, publication=settings.publication)
        await require_privileges(settings)
        pool = await stack.enter_async_context(open_pool(settings.ledger_dsn))
        bucket = await stack.enter_async_context(open_bucket(settings.raw_bucket))
        await preflight.require_bucket(bucket, "RAW_S3_BUCKET")
        health = Health(status=lambda: dict(vars(status)), ready=lambda: _ready(status, pool))
        app = health.app(settings, "cleaner")
        add_routes(app, settings=settings, pool=pool, status=status, orders=orders)
        await stack.enter_async_context(serving(app, settings, PORT))
        cleaner = Cleaner(settings, pool=pool, bucket=bucket, stop=stop, turned=health.turned)
        await _run(settings, cleaner, pool, status, orders, health, stop)


async def once(settings: CleanerSettings, stop: asyncio.Event) -> Report:
    """One turn, without probes and orders: for `--once` and `--dry-run`."""
    await preflight.require(settings.source_dsn, settings.ledger_dsn, publication=settings.publication)
    if not settings.cleanup_dry_run:
        await require_privileges(settings)
    async with _cleaner(settings, stop) as cleaner, open_source(settings.source_dsn) as rows:
        return await cleaner.turn(rows, dry_run=settings.cleanup_dry_run)


@asynccontextmanager
async def _cleaner(settings: CleanerSettings, stop: asyncio.Event) -> AsyncIterator[Cleaner]:
    async with open_pool(settings.ledger_dsn) as pool, open_bucket(settings.raw_bucket) as bucket:
        await preflight.require_bucket(bucket, "RAW_S3_BUCKET")
        yield Cleaner(settings, pool=pool, bucket=bucket, stop=stop)


async def require_privileges(settings: CleanerSettings) -> None:
    """Raise ConfigError unless the user may stamp and delete."""
    async with open_source(settings.source_dsn) as rows:
        with translated("DATABASE_URL"):
            cursor = await rows.connection.execute(
                "SELECT p FROM unnest(ARRAY['SELECT', 'UPDATE', 'DELETE']) AS p"
                " WHERE NOT has_table_privilege('events_log', p)"
            )
            missing = [row[0] for row in await cursor.fetchall()]
        if missing:
            names = ", ".join(missing)
            raise ConfigError(f"DATABASE_URL: the user may not {names} events_log", hint=f"GRANT {names} ON events_log")


async def _run(
    settings: CleanerSettings,
    cleaner: Cleaner,
    pool: Pool,
    status: Status,
    orders: Orders,
    health: Health,
    stop: asyncio.Event,
) -> None:
    """Turn after turn. What passes by itself is waited for: nothing is deleted meanwhile."""
    backoff = TURN_SECONDS
    while not stop.is_set():
        try:
            async with open_source(settings.source_dsn) as rows:
                while not stop.is_set():
                    report = await _turn(settings, cleaner, rows, pool, status, orders)
                    health.turned()
                    backoff = TURN_SECONDS
                    _note(status, report)
                    quiet = settings.cleanup_retry_seconds if settings.cleanup_dry_run else TURN_SECONDS
                    await _pause(quiet, orders, stop, health)
        except TransientError as error:
            status.state, status.error = "waiting", str(error)
            log.warning("cleaner.turn.failed", error=str(error), retry_seconds=backoff)
            health.turned()
            await _pause(backoff, orders, stop, health)
            backoff = min(MOST_BACKOFF_SECONDS, backoff * 2)


async def _turn(
    settings: CleanerSettings, cleaner: Cleaner, rows: SourceRows, pool: Pool, status: Status, orders: Orders
) -> Report:
    dry_run, retry = orders.dry_run, orders.retry
    orders.dry_run = orders.retry = False
    orders.wake.clear()
    if retry:
        with translated("LEDGER_DATABASE_URL"):
            async with pool.connection() as connection:
                await cleanup.forget_retries(connection)
    if dry_run:
        status.last_dry_run = (await cleaner.turn(rows, dry_run=True)).to_json()
    report = await cleaner.turn(rows, dry_run=settings.cleanup_dry_run)
    await observe(pool, settings.cleanup_delay_seconds)
    now = time.monotonic()
    if now >= status.upkeep_due and not settings.cleanup_dry_run and report.blocked is None:
        status.upkeep_due = now + UPKEEP_SECONDS
        await _keep_partitions(settings, rows)
    if now >= status.balance_due:
        status.balance_due = now + BALANCE_SECONDS
        status.imbalances = await balance(settings, pool)
    return report


def _note(status: Status, report: Report) -> None:
    status.state, status.error, status.blocked = ("blocked" if report.blocked else "running"), None, report.blocked
    status.last_turn_at = datetime.now(UTC).isoformat()
    if report.objects or report.rows or report.refused:
        status.last_report = report.to_json()
    for totals, counts in ((status.objects, report.objects), (status.rows, report.rows)):
        for name, count in counts.items():
            totals[name] = totals.get(name, 0) + count


async def observe(pool: Pool, delay_seconds: float) -> None:
    """Set the gauges that alerts watch."""
    with translated("LEDGER_DATABASE_URL"):
        async with pool.connection() as connection:
            summary = await cleanup.summary(connection, delay_seconds)
            refused = await cleanup.problem_counts(connection)
    metrics.CLEANUP_OLDEST_SECONDS.set(summary["oldest_seconds"] or 0)
    for problem in Problem:
        metrics.CLEANUP_REFUSED.labels(problem).set(refused.get(problem, 0))


async def _keep_partitions(settings: CleanerSettings, rows: SourceRows) -> None:
    """Without the owner's rights rows are deleted all the same, and the operator hears that days are running out."""
    try:
        await upkeep(rows.connection, days_ahead=settings.cleanup_partition_days, now=datetime.now(UTC))
    except PipelineError as error:
        log.warning("cleaner.partitions.failed", error=str(error))


async def balance(settings: CleanerSettings, pool: Pool) -> dict[str, int]:
    """Reconcile the last hours, for the alert; `python -m database reconcile` names what is wrong."""
    window = Window(since=datetime.now(UTC) - BALANCE_WINDOW)
    with translated("LEDGER_DATABASE_URL"):
        async with pool.connection() as connection:
            found = await imbalances(connection, window, slot=settings.replication_slot, topic=settings.kafka_raw_topic)
            await gauges.show(connection, slot=settings.replication_slot, topic=settings.kafka_raw_topic)
    for item in found[:10]:
        log.error("ledger.imbalance.found", kind=item.kind, subject=item.subject, position=item.position)
    counts = by_kind(found)
    for kind in KINDS:
        metrics.LEDGER_IMBALANCES.labels(kind).set(counts.get(kind, 0))
    return counts


async def _pause(seconds: float, orders: Orders, stop: asyncio.Event, health: Health) -> None:
    """Rest, but end at once for an order or the end."""
    waits = [asyncio.create_task(event.wait()) for event in (orders.wake, stop)]
    loop = asyncio.get_running_loop()
    until = loop.time() + seconds
    try:
        while (left := until - loop.time()) > 0 and not any(task.done() for task in waits):
            await asyncio.wait(waits, timeout=min(left, 5.0), return_when=asyncio.FIRST_COMPLETED)
            health.turned()
    finally:
        for task in waits:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task


async def _ready(status: Status, pool: Pool) -> str | None:
    try:
        async with pool.connection(timeout=3) as connection:
            await connection.execute("SELECT 1")
    except psycopg.Error as error:
        return f"LEDGER_DATABASE_URL: {type(error).__name__}"
    if status.blocked or status.error:
        return status.blocked or status.error
    return None if status.state == "running" else f"state is {status.state}"
