"""`python -m bench cleaner`: what the clean-up costs the source database, against a bare batched DELETE.

The same rows, inserted anew for each way: WAL bytes, pages touched and time for each event. The cleaner's own code with
its records in memory and without rests; S3 is not in the way. Prints JSON.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psycopg
from psycopg import sql

from database.cleaner.source import SourceRows, open_source
from database.cleaner.sweep import drop, guard
from database.migrate import migrate
from database.partition import days, partition
from local import ports
from local.postgres import Postgres, new_password
from local.traffic_events import EventSource
from local.traffic_writer import _INSERT, _by_column
from streamer.pgoutput import Column
from streamer.rows import RowEncoder

BATCH = 1000
ROWS_PER_TRANSACTION = 100


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of this part."""
    parser.add_argument("--rows", type=int, default=20_000, help="rows for each way (default 20000)")


async def main(options: argparse.Namespace) -> dict[str, Any]:
    """The results by way."""
    with tempfile.TemporaryDirectory(prefix="bench-cleaner-") as folder:
        Path(folder).chmod(0o755)  # noqa: ASYNC240 - the server runs as another user
        port = ports.choose(("postgres",), {})["postgres"]
        settings = {"autovacuum": "off", "max_wal_size": "16GB"}
        server = Postgres(Path(folder) / "postgres", port, password=new_password(), settings=settings)
        await server.start()
        try:
            await migrate(server.dsn, server.dsn)
            return await Bench(server, options.rows).run()
        finally:
            await server.stop()


class Bench:
    """One server, one table, several ways to empty it."""

    def __init__(self, server: Postgres, rows: int) -> None:
        self._server, self._rows = server, rows

    async def run(self) -> dict[str, Any]:
        """All ways, one after the other."""
        results: dict[str, Any] = {}
        async with await psycopg.AsyncConnection.connect(self._server.dsn, autocommit=True) as connection:
            await self._fill(connection)  # warms up
            results["bare_delete"] = await self._empty(connection, self._bare)
            results["cleaner"] = await self._empty(connection, self._cleaner(mark=False))
            results["cleaner_with_mark"] = await self._empty(connection, self._cleaner(mark=True))
            await self._partition(connection)
            results["partition_drop"] = await self._empty(connection, self._drop)
        return {"rows": self._rows, "wal_level": "logical", **results}

    async def _empty(
        self, connection: psycopg.AsyncConnection, way: Callable[[psycopg.AsyncConnection], Awaitable[dict[str, Any]]]
    ) -> dict[str, Any]:
        await connection.execute("TRUNCATE events_log")
        await self._checkpoint()
        before = await self._look(connection)
        insert = await self._fill(connection)
        cost = {"insert": self._cost(before, await self._look(connection), insert)}
        await self._checkpoint()
        return {**cost, **await way(connection)}

    async def _fill(self, connection: psycopg.AsyncConnection) -> float:
        source = EventSource(["bench-1", "bench-2", "bench-3"], seed=1)
        batches = [
            _by_column(source.rows(ROWS_PER_TRANSACTION, datetime.now(UTC)))
            for _ in range(self._rows // ROWS_PER_TRANSACTION)
        ]
        began = time.monotonic()
        for batch in batches:
            await connection.execute(_INSERT, batch)
        return time.monotonic() - began

    async def _bare(self, connection: psycopg.AsyncConnection) -> dict[str, Any]:
        cursor = await connection.execute("SELECT id FROM events_log ORDER BY id")
        ids = [row[0] for row in await cursor.fetchall()]
        before, began = await self._look(connection), time.monotonic()
        for at in range(0, len(ids), BATCH):
            await connection.execute("DELETE FROM events_log WHERE id = ANY(%s)", (ids[at : at + BATCH],))
        return {"delete": self._cost(before, await self._look(connection), time.monotonic() - began)}

    def _cleaner(self, *, mark: bool) -> Callable[[psycopg.AsyncConnection], Awaitable[dict[str, Any]]]:
        async def way(_: psycopg.AsyncConnection) -> dict[str, Any]:
            async with open_source(self._server.dsn) as rows:
                await rows.look()
                lines = await records(rows)
                batches = [lines[at : at + BATCH] for at in range(0, len(lines), BATCH)]
                first, began = await self._look(rows.connection), time.monotonic()
                for batch in batches:
                    await rows.stamp(batch)
                second, stamped = await self._look(rows.connection), time.monotonic()
                deleted = 0
                for batch in batches:
                    deleted += (await rows.delete(batch, mark=mark)).deleted
                took = time.monotonic() - stamped
                assert deleted == len(lines) == self._rows
                return {
                    "stamp": self._cost(first, second, stamped - began),
                    "delete": self._cost(second, await self._look(rows.connection), took),
                    "rows_per_second_in_all": round(self._rows / (time.monotonic() - began)),
                }

        return way

    async def _partition(self, connection: psycopg.AsyncConnection) -> None:
        """events_log by day, of which everything so far is one part."""
        await connection.execute("TRUNCATE events_log")
        await partition(connection, days_ahead=2)

    async def _drop(self, _: psycopg.AsyncConnection) -> dict[str, Any]:
        """Compare every row with its record, then drop the whole partition: what the cleaner does with a day."""
        async with open_source(self._server.dsn) as rows:
            await rows.look()
            lines = await records(rows)
            day = (await days(rows.connection))[0]
            child = sql.SQL(day.name)
            before, began = await self._look(rows.connection), time.monotonic()
            touched = await guard(rows.connection, child)
            same = 0
            for at in range(0, len(lines), BATCH):
                same += len((await rows.unchanged_in(lines[at : at + BATCH], day.name))[0])
            assert same == self._rows
            assert await drop(rows.connection, child, touched)
            took = time.monotonic() - began
            after = await self._look(rows.connection)
        return {"compare_and_drop": self._cost(before, (after[0], before[1]), took)}

    async def _look(self, connection: psycopg.AsyncConnection) -> tuple[int, int]:
        """(WAL position, pages of events_log and its index and TOAST that were asked for)."""
        await connection.execute("SELECT pg_stat_force_next_flush()")
        cursor = await connection.execute(
            "SELECT (pg_current_wal_insert_lsn() - '0/0')::bigint, (coalesce(heap_blks_read, 0)"
            " + coalesce(heap_blks_hit, 0) + coalesce(idx_blks_read, 0) + coalesce(idx_blks_hit, 0)"
            " + coalesce(toast_blks_read, 0) + coalesce(toast_blks_hit, 0))::bigint"
            " FROM pg_statio_user_tables WHERE relname LIKE 'events_log%' AND relname <> 'events_log_default'"
            " ORDER BY 2 DESC LIMIT 1"
        )
        row = await cursor.fetchone()
        assert row is not None
        return row[0], row[1]

    def _cost(self, before: tuple[int, int], after: tuple[int, int], seconds: float) -> dict[str, float]:
        return {
            "wal_bytes_per_event": round((after[0] - before[0]) / self._rows),
            "pages_per_event": round((after[1] - before[1]) / self._rows, 1),
            "microseconds_per_event": round(seconds / self._rows * 1e6, 1),
            "rows_per_second": round(self._rows / seconds),
        }

    async def _checkpoint(self) -> None:
        """So that each way pays for its own full-page images."""
        dsn = self._server.dsn_for("events", user="postgres")
        async with await psycopg.AsyncConnection.connect(dsn, autocommit=True) as admin:
            await admin.execute("CHECKPOINT")


async def records(rows: SourceRows) -> list[bytes]:
    """The table's rows as the streamer writes them."""
    cursor = await rows.connection.execute(
        "SELECT attname, atttypid::bigint FROM pg_attribute WHERE attrelid = 'events_log'::regclass AND attnum > 0"
        " AND NOT attisdropped ORDER BY attnum"
    )
    encoder = RowEncoder([Column(name=name, type_oid=type_oid) for name, type_oid in await cursor.fetchall()])
    lines = []
    async with (
        rows.connection.cursor() as reading,
        reading.copy("COPY (SELECT * FROM events_log ORDER BY id) TO STDOUT") as copy,
    ):
        async for row in copy.rows():
            lines.append(encoder.encode_values([None if value is None else value.encode() for value in row])[2])
    return lines
