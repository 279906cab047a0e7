"""Writes planned transactions into events_log, and knows what was committed - also when the answer was lost."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg import pq

from local.traffic_events import Row
from local.traffic_plan import Plan, Way
from local.traffic_record import RAW_DIGEST_SQL, Stored
from pipeline.errors import PermanentError, TransientError

Connection = psycopg.AsyncConnection[tuple[Any, ...]]

RECONNECT_SECONDS = 120.0
"""How long a database may be away; longer than a restart with recovery takes."""

_COLUMNS = (
    "event_id, event_type, session_id, visitor_id, site_id, timestamp, url, path, user_agent, ip_address,"
    " raw_event_data, client_id, batch_id"
)
_TYPES = ("uuid", *["text"] * 4, "timestamptz", *["text"] * 6, "uuid")
_UTC = """to_char({} AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')"""
_STORED = (
    f"id, event_id, {_UTC.format('timestamp')}, host(ip_address), {_UTC.format('created_at')}, {RAW_DIGEST_SQL},"
    " pg_current_xact_id()::text"
)
_INSERT = f"""
    INSERT INTO events_log ({_COLUMNS})
    SELECT c1, c2, c3, c4, c5, c6, c7, c8, c9, c10::inet, c11::jsonb, c12, c13
    FROM unnest({", ".join(f"%s::{name}[]" for name in _TYPES)}) AS t({", ".join(f"c{n + 1}" for n in range(13))})
    RETURNING {_STORED}
"""  # noqa: S608 - made of constants
_INSERT_ONE = f"""
    INSERT INTO events_log ({_COLUMNS}) VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s) RETURNING {_STORED}
"""  # noqa: S608 - made of constants
_COPY = f"COPY events_log ({_COLUMNS}) FROM STDIN"
# COPY returns nothing. Its rows are those of our transaction with ids above the sequence's value before it.
_BEFORE = "SELECT coalesce(pg_sequence_last_value(pg_get_serial_sequence('events_log', 'id')::regclass), 0)"
_COPIED = f"SELECT {_STORED} FROM events_log WHERE id > %s AND xmin = pg_current_xact_id()::xid"  # noqa: S608
_FOUND = """
    SELECT count(*) FROM events_log e
    WHERE EXISTS (SELECT FROM unnest(%s::bigint[], %s::uuid[]) AS u(id, event_id)
                  WHERE u.id = e.id AND u.event_id = e.event_id) AND e.id = ANY(%s::bigint[])
"""


@dataclass(frozen=True, slots=True)
class Pending:
    """A transaction whose COMMIT was sent or is about to be: enough to ask for it on another connection."""

    transaction_id: str
    stored: list[Stored]
    event_ids: list[Any]


class _StoppedError(Exception):
    """`stop` was set while the database was away."""


class Writer:
    """One connection that writes one transaction after another. Waits for a database that is being restarted."""

    def __init__(self, dsn: str, stop: asyncio.Event) -> None:
        """Once `stop` is set, a database that went away is not waited for, unless a commit is in doubt."""
        self._dsn = dsn
        self._stop = stop
        self._connection: Connection | None = None

    async def connect(self) -> None:
        """Raises TransientError when the database can't be reached now."""
        try:
            self._connection = await psycopg.AsyncConnection.connect(
                self._dsn, connect_timeout=5, application_name="traffic", keepalives_idle=5, tcp_user_timeout=10_000
            )
        except psycopg.OperationalError as error:
            raise TransientError("DATABASE_URL: no connection to the database") from error

    async def close(self) -> None:
        """Give the connection back; repeatable."""
        if self._connection is not None:
            await self._connection.close()
            self._connection = None

    async def write(self, plan: Plan, rows: Sequence[Row], aborted: Sequence[Row] = ()) -> list[Stored] | None:
        """Perform `plan` with `rows`, after `aborted` in a savepoint that is undone.

        Returns what the server stored, in the order of `rows`, once that is known to be committed; None when nothing
        was: the plan rolls back, or `stop` was set. A broken connection is replaced; what was not committed is written
        again. Raises TransientError when the database stays away, PermanentError when it refuses the rows.
        """
        give_up = asyncio.get_running_loop().time() + RECONNECT_SECONDS
        while True:
            pending: Pending | None = None
            try:
                connection = self._connection or await self._reconnect()
                pending = await self._perform(connection, plan, rows, aborted)
                if plan.rolled_back:
                    await connection.rollback()
                    return None
                await connection.commit()
                return pending.stored
            except (psycopg.OperationalError, psycopg.InterfaceError) as error:
                await self.close()
                if pending is not None and not plan.rolled_back and await self._was_committed(pending):
                    return pending.stored
                if self._stop.is_set():
                    return None
                if asyncio.get_running_loop().time() > give_up:
                    raise TransientError(f"events_log takes no rows (SQLSTATE {error.sqlstate})") from error
                await asyncio.sleep(0.1)
            except _StoppedError:
                return None
            except psycopg.Error as error:
                await self.close()
                raise PermanentError(f"events_log refused the rows (SQLSTATE {error.sqlstate})") from error

    async def _perform(
        self, connection: Connection, plan: Plan, rows: Sequence[Row], aborted: Sequence[Row]
    ) -> Pending:
        if aborted:
            await connection.execute("SAVEPOINT undone")
            await connection.execute(_INSERT, _by_column(aborted))
            await connection.execute("ROLLBACK TO SAVEPOINT undone")
        if plan.way is Way.COPY:
            cursor = await connection.execute(_BEFORE)
            before = await cursor.fetchone()
            async with connection.cursor().copy(_COPY) as copy:
                for row in rows:
                    await copy.write_row(_values(row))
            cursor = await connection.execute(_COPIED, before)
        elif plan.way is Way.SINGLE:
            cursor = await connection.execute(_INSERT_ONE, _values(rows[0]))
        else:
            cursor = await connection.execute(_INSERT, _by_column(rows))
        answers = {answer[1]: answer for answer in await cursor.fetchall()}
        if answers.keys() != {row.event_id for row in rows}:
            raise PermanentError("events_log did not keep the rows as they were written", hint="is there a trigger?")
        ordered = [answers[row.event_id] for row in rows]
        stored = [Stored(id_, timestamp, ip, created, raw) for id_, _, timestamp, ip, created, raw, _ in ordered]
        return Pending(ordered[0][6], stored, [row.event_id for row in rows])

    async def _was_committed(self, pending: Pending) -> bool:
        """Whether a commit whose answer was lost took place."""
        while True:
            try:
                connection = self._connection or await self._reconnect(in_doubt=True)
                # The old server process may not have noticed yet that we are gone; there is no signal to wait for.
                while await self._is_in_progress(connection, pending.transaction_id):  # noqa: ASYNC110
                    await asyncio.sleep(0.05)
                # By rows and not by the transaction's status: after a crash its number may belong to another one.
                ids = [stored.id for stored in pending.stored]
                cursor = await connection.execute(_FOUND, (ids, pending.event_ids, ids))
                answer = await cursor.fetchone()
                await connection.rollback()
                return answer is not None and answer[0] > 0
            except (psycopg.OperationalError, psycopg.InterfaceError):
                await self.close()

    async def _is_in_progress(self, connection: Connection, transaction_id: str) -> bool:
        try:
            cursor = await connection.execute("SELECT pg_xact_status(%s::xid8)", (transaction_id,))
            answer = await cursor.fetchone()
        except psycopg.DataError:
            answer = None  # a crash forgot the number: nothing of it was committed
        finally:
            if connection.info.transaction_status != pq.TransactionStatus.UNKNOWN:
                await connection.rollback()  # each question needs a snapshot of its own
        return answer is not None and answer[0] == "in progress"

    async def _reconnect(self, *, in_doubt: bool = False) -> Connection:
        pause, loop = 0.1, asyncio.get_running_loop()
        give_up = loop.time() + RECONNECT_SECONDS
        while self._connection is None:
            if self._stop.is_set() and not in_doubt:
                raise _StoppedError
            try:
                await self.connect()
            except TransientError:
                if loop.time() > give_up:
                    raise
                await asyncio.sleep(pause)
                pause = min(2.0, pause * 2)
        return self._connection


def _values(row: Row) -> tuple[Any, ...]:
    return (
        row.event_id,
        row.event_type,
        row.session_id,
        row.visitor_id,
        row.site_id,
        row.timestamp,
        row.url,
        row.path,
        row.user_agent,
        row.ip_address,
        row.raw_event_data.decode() if row.raw_event_data is not None else None,
        row.client_id,
        row.batch_id,
    )


def _by_column(rows: Sequence[Row]) -> list[list[Any]]:
    return [list(column) for column in zip(*map(_values, rows), strict=True)]
