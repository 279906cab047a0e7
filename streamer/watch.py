"""What an operator sees: the slot's health and lag, and rows that somehow were never exported."""

from __future__ import annotations

import asyncio
import math
import time
from dataclasses import dataclass, field

from psycopg import AsyncConnection
from psycopg.errors import QueryCanceled

from database import source
from database.balance import unexported_rows
from database.ledger import Pool, connected
from pipeline import logs, metrics
from pipeline.errors import TransientError
from streamer.recorder import Recorder
from streamer.settings import StreamerSettings
from streamer.snapshot import SnapshotProgress

log = logs.get(__name__)

WATCH_SECONDS = 1.0

COUNT_SECONDS = 300.0
"""How often the table is searched for rows that were never exported: it is read from end to end for that."""

COUNT_PATIENCE_SECONDS = 30


@dataclass
class Status:
    """What /status shows."""

    state: str = "starting"
    slot: str = ""
    epoch: int = 0
    confirmed_lsn: str = ""
    last_position: str = ""
    last_commit_time: str = ""
    slot_lag_bytes: int | None = None
    slot_safe_wal_bytes: int | None = None
    read_until: float = 0.0
    """Seconds since 1970: every commit before was read."""
    slot_lag_seconds: float | None = None
    slot_retained_wal_bytes: int | None = None
    slot_wal_status: str = ""
    slot_danger: str | None = None
    events: int = 0
    snapshot: SnapshotProgress = field(default_factory=SnapshotProgress)


async def watch(settings: StreamerSettings, pool: Pool, recorder: Recorder, status: Status) -> None:
    """Keep the slot's state in metrics and /status, for ever."""
    count_at = time.monotonic() + COUNT_SECONDS
    async with source.connect(settings.source_dsn) as db:
        await db.execute(f"SET statement_timeout = '{COUNT_PATIENCE_SECONDS}s'")
        while True:
            slot = await source.find_slot(db, settings.replication_slot)
            if slot is not None:
                _show_slot(slot, status)
            status.confirmed_lsn = str(recorder.confirmed)
            if time.monotonic() >= count_at:
                await count_unexported(db, pool, settings.replication_slot)
                count_at = time.monotonic() + COUNT_SECONDS
            await asyncio.sleep(WATCH_SECONDS)


async def count_unexported(db: AsyncConnection, pool: Pool, slot: str) -> None:
    """Rows that have been in the table for minutes and are in no raw object, as after a dropped publication."""
    try:
        async with connected(pool) as ledger:
            found = await unexported_rows(db, ledger, slot=slot)
    except TransientError as error:
        if not isinstance(error.__cause__, QueryCanceled):
            raise
        log.warning("streamer.unexported_rows.not_counted", patience_seconds=COUNT_PATIENCE_SECONDS)
        return
    rows = sum(int(item.found.split()[0]) for item in found)
    metrics.UNEXPORTED_ROWS.set(rows)
    if rows:
        log.error("streamer.unexported_rows.found", rows=rows, hint="run python -m database reconcile")


def _show_slot(slot: source.Slot, status: Status) -> None:
    metrics.SLOT_LAG_BYTES.set(slot.lag_bytes)
    metrics.WAL_END_BYTES.set(int(slot.confirmed_flush) + slot.lag_bytes)
    metrics.SLOT_RETAINED_BYTES.set(slot.retained_bytes)
    metrics.SLOT_SAFE_BYTES.set(math.inf if slot.safe_wal_bytes is None else slot.safe_wal_bytes)
    metrics.SLOT_IN_DANGER.set(slot.danger is not None)
    if slot.danger is not None and status.slot_danger is None:
        log.warning("streamer.slot.endangered", reason=slot.danger, wal_status=slot.wal_status, lag=slot.lag_bytes)
    status.slot_lag_bytes, status.slot_safe_wal_bytes = slot.lag_bytes, slot.safe_wal_bytes
    status.slot_retained_wal_bytes = slot.retained_bytes
    status.slot_wal_status, status.slot_danger = slot.wal_status, slot.danger
    if status.read_until:
        status.slot_lag_seconds = round(max(0.0, time.time() - status.read_until), 3)
        metrics.SLOT_LAG_SECONDS.set(status.slot_lag_seconds)
