"""What the services ask of the source database, over an ordinary connection."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime

import psycopg
from psycopg.conninfo import conninfo_to_dict

from database.ledger import CONNECTION_OPTIONS
from pipeline.errors import ConfigError, TransientError
from pipeline.position import Lsn


@dataclass(frozen=True, slots=True, kw_only=True)
class Slot:
    """The replication slot as the server sees it."""

    confirmed_flush: Lsn
    active: bool
    wal_status: str
    """reserved, extended, unreserved or lost."""
    lag_bytes: int
    """From what is confirmed to the end of WAL: what the streamer has not finished."""
    retained_bytes: int
    """WAL that the server keeps for the slot: more than the lag while a long transaction is open."""
    safe_wal_bytes: int | None
    """How much WAL may still be written before the slot can be lost; None without a limit."""

    @property
    def danger(self) -> str | None:
        """Why the slot may be lost soon, in one line; None while there is room."""
        if self.wal_status in ("unreserved", "lost"):
            return f"wal_status is {self.wal_status}"
        if self.safe_wal_bytes is not None and self.safe_wal_bytes < self.retained_bytes / 3:
            return f"only {self.safe_wal_bytes} bytes of WAL are left before the slot can be lost"
        return None


# Our locks go within seconds when the network is cut without a word; by default the server waits for two hours.
_DEAD_PEER = "-c tcp_keepalives_idle=5 -c tcp_keepalives_interval=2 -c tcp_keepalives_count=3 -c tcp_user_timeout=10000"


def _options(dsn: str) -> str:
    given = conninfo_to_dict(dsn).get("options")
    return " ".join(filter(None, (str(given or ""), "-c timezone=UTC", _DEAD_PEER)))


@asynccontextmanager
async def connect(dsn: str) -> AsyncIterator[psycopg.AsyncConnection]:
    """An autocommit connection to the source. Raises TransientError when the server can't be reached."""
    try:
        connection = await psycopg.AsyncConnection.connect(
            dsn,
            autocommit=True,
            application_name="pipeline",
            client_encoding="UTF8",
            **(CONNECTION_OPTIONS | {"options": _options(dsn)}),
        )
    except psycopg.OperationalError as error:
        raise TransientError(f"DATABASE_URL: can't connect: {error}") from None
    try:
        yield connection
    finally:
        await connection.close()


async def find_slot(connection: psycopg.AsyncConnection, name: str) -> Slot | None:
    """The slot called `name`; None when there is none. Raises ConfigError when the name belongs to a slot of others."""
    cursor = await connection.execute(
        "SELECT coalesce(confirmed_flush_lsn, '0/0')::text, active, coalesce(wal_status, 'lost'),"
        " (pg_current_wal_lsn() - coalesce(confirmed_flush_lsn, '0/0'))::bigint,"
        " (pg_current_wal_lsn() - coalesce(restart_lsn, pg_current_wal_lsn()))::bigint, safe_wal_size,"
        " slot_type = 'logical' AND plugin = 'pgoutput' AND database = current_database()"
        " FROM pg_replication_slots WHERE slot_name = %s",
        (name,),
    )
    row = await cursor.fetchone()
    if row is None:
        return None
    if not row[6]:
        raise ConfigError(
            f"REPLICATION_SLOT is wrong: slot {name} belongs to another database or another program",
            hint="name another slot; this one is left alone",
        )
    return Slot(
        confirmed_flush=Lsn.parse(row[0]),
        active=row[1],
        wal_status=row[2],
        lag_bytes=row[3],
        retained_bytes=row[4],
        safe_wal_bytes=row[5],
    )


async def wal_end(connection: psycopg.AsyncConnection) -> Lsn:
    """The end of the server's WAL as it stands on disk."""
    row = await (await connection.execute("SELECT pg_current_wal_flush_lsn()::text")).fetchone()
    assert row is not None
    return Lsn.parse(row[0])


async def made_types(connection: psycopg.AsyncConnection) -> dict[int, tuple[int, int, bytes]]:
    """Domains and arrays: (base type, 0, comma) or (0, element type, delimiter) by OID."""
    cursor = await connection.execute(
        "SELECT t.oid::bigint, t.typbasetype::bigint, CASE WHEN t.typtype = 'd' THEN 0 ELSE t.typelem::bigint END,"
        " coalesce(e.typdelim, ',')::text FROM pg_type t LEFT JOIN pg_type e ON e.oid = t.typelem"
        " WHERE t.typtype = 'd' OR t.typoutput = 'pg_catalog.array_out'::regproc"
    )
    return {oid: (base, element, delimiter.encode()) for oid, base, element, delimiter in await cursor.fetchall()}


async def last_stamp(connection: psycopg.AsyncConnection) -> datetime | None:
    """The time of the last stamp that events_log holds; without one, of its first row; None for an empty table.

    Reads the whole table: for the rare case that the table may have been set back.
    """
    row = await (
        await connection.execute("SELECT coalesce(max(raw_exported_at), min(created_at)) FROM events_log")
    ).fetchone()
    assert row is not None
    found: datetime | None = row[0]
    return found
