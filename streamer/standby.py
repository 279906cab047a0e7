"""Standing by: a slot has one reader, so the slot is the lock. While it does not exist, an advisory lock stands in."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any

import psycopg

from database import source
from database.ledger import connected
from database.ledger import stream as ledger
from pipeline import logs
from streamer import resume
from streamer.replica import Replica
from streamer.replication import SlotBusyError

log = logs.get(__name__)

STANDBY_SECONDS = 1.0


async def take_slot(replica: Replica) -> resume.Plan | None:
    """Stand by until the slot is ours, or the right to make it; None when `stop` came first."""
    while not replica.stop.is_set():
        plan, active = await _decide(replica)
        if plan.start is resume.Start.SNAPSHOT:
            if await _try_lock(replica.db, replica.slot):
                # Whoever held the lock may have made the slot meanwhile: look again, now that nobody can.
                plan, _ = await _decide(replica)
                if plan.start is resume.Start.SNAPSHOT:
                    return plan
                await unlock(replica.db, replica.slot)
                continue
        elif not active:  # asking for a slot that is taken would write an error to the server's log every second
            with suppress(SlotBusyError):
                await replica.connection.start(replica.slot, replica.settings.publication, plan.begin_lsn)
                return plan
        if replica.status.state != "standby":
            log.info("streamer.standby.entered", slot=replica.slot)
        replica.status.state = "standby"
        replica.health.turned()
        with suppress(TimeoutError):
            async with asyncio.timeout(STANDBY_SECONDS):
                await replica.stop.wait()
    return None


async def _decide(replica: Replica) -> tuple[resume.Plan, bool]:
    """How to begin, and whether another process reads the slot."""
    found = await source.find_slot(replica.db, replica.slot)  # before the ledger, see resume.decide
    async with connected(replica.pool) as connection:
        state = await ledger.stream_state(connection, replica.slot)
    plan = resume.decide(found, state, replica.epochs, await source.wal_end(replica.db))
    return plan, found is not None and found.active


async def _try_lock(db: psycopg.AsyncConnection, slot: str) -> bool:
    cursor = await db.execute("SELECT pg_try_advisory_lock(hashtext('events_pipeline'), hashtext(%s))", (slot,))
    row: Any = await cursor.fetchone()
    return bool(row[0])


async def unlock(db: psycopg.AsyncConnection, slot: str) -> None:
    """Give the right to make the slot back."""
    await db.execute("SELECT pg_advisory_unlock(hashtext('events_pipeline'), hashtext(%s))", (slot,))
