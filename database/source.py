"""What the services ask of the source database, over an ordinary connection."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import psycopg

from database.ledger import CONNECTION_OPTIONS
from pipeline.errors import TransientError
from pipeline.position import Lsn


@dataclass(frozen=True, slots=True, kw_only=True)
class Slot:
    """The replication slot as the server sees it."""

    confirmed_flush: Lsn
    active: bool
    wal_status: str
    """reserved, extended, unreserved or lost."""
    lag_bytes: int
    safe_wal_bytes: int | None
    """How much WAL may still be written before the slot can be lost; None without a limit."""


@asynccontextmanager
async def connect(dsn: str) -> AsyncIterator[psycopg.AsyncConnection]:
    """An autocommit connection to the source. Raises TransientError when the server can't be reached."""
    try:
        connection = await psycopg.AsyncConnection.connect(
            dsn, autocommit=True, application_name="pipeline", **CONNECTION_OPTIONS
        )
    except psycopg.OperationalError as error:
        raise TransientError(f"DATABASE_URL: can't connect: {error}") from None
    try:
        yield connection
    finally:
        await connection.close()


async def find_slot(connection: psycopg.AsyncConnection, name: str) -> Slot | None:
    """The slot called `name`; None when there is none."""
    cursor = await connection.execute(
        "SELECT coalesce(confirmed_flush_lsn, '0/0')::text, active, coalesce(wal_status, 'lost'),"
        " (pg_current_wal_lsn() - coalesce(confirmed_flush_lsn, '0/0'))::bigint, safe_wal_size"
        " FROM pg_replication_slots WHERE slot_name = %s AND database = current_database()",
        (name,),
    )
    row = await cursor.fetchone()
    if row is None:
        return None
    return Slot(
        confirmed_flush=Lsn.parse(row[0]), active=row[1], wal_status=row[2], lag_bytes=row[3], safe_wal_bytes=row[4]
    )
