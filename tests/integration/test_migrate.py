"""Upgrades: all migrations on a database that is in use, and what the runner does when it is in somebody's way."""

from __future__ import annotations

import asyncio
import re
import time
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from importlib import resources

import psycopg
import pytest
from psycopg import sql

from database import migrate as runner
from database.migrate import migrate
from local.postgres import Postgres
from local.stack import Stack
from pipeline.errors import ConfigError, TransientError

FOLDER = resources.files("database") / "migrations"
LONGEST_WAIT_SECONDS = 4.0
"""The runner's patience is less than half a second; the rest is for a loaded machine."""


@asynccontextmanager
async def database(server: Postgres) -> AsyncIterator[str]:
    """An empty database; its address."""
    name = f"migrate_{uuid.uuid4().hex[:10]}"
    admin_dsn = server.dsn_for("postgres", user="postgres")
    async with await psycopg.AsyncConnection.connect(admin_dsn, autocommit=True) as admin:
        await admin.execute(sql.SQL("CREATE DATABASE {} OWNER pipeline").format(sql.Identifier(name)))
        try:
            yield server.dsn_for(name)
        finally:
            await admin.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


@pytest.fixture
async def dsn(stack: Stack) -> AsyncIterator[str]:
    async with database(stack.postgres) as address:
        yield address


async def first_state(dsn: str, rows: int) -> None:
    """The first migration of each part alone, as the first release left it, with rows in every large table."""
    async with await psycopg.AsyncConnection.connect(dsn, autocommit=True) as connection:
        await connection.execute("SET search_path = public")
        for name in ("source/0001_events_log.sql", "ledger/0001_ledger.sql"):
            await connection.execute((FOLDER / name).read_text().encode())
        await connection.execute(
            "CREATE TABLE pipeline.migrations"
            " (name text PRIMARY KEY, sha256 text NOT NULL, ran_at timestamptz NOT NULL DEFAULT now())"
        )
        for name in ("source/0001_events_log.sql", "ledger/0001_ledger.sql"):
            await connection.execute(
                "INSERT INTO pipeline.migrations (name, sha256) VALUES (%s, encode(sha256(%s), 'hex'))",
                (name, (FOLDER / name).read_bytes()),
            )
        await connection.execute(
            "INSERT INTO pipeline.epochs (system_identifier, timeline, begins_at_lsn) VALUES ('1', 1, '0/0')"
        )
        await connection.execute(
            "INSERT INTO pipeline.consumer_positions (topic, partition, next_offset, last_sequence, last_position)"
            " VALUES ('t', 0, 0, -1, '00000001-0000000000000001-00000000000000000000')"
        )
        for number in range(rows):
            await step(connection, number)


async def step(connection: psycopg.AsyncConnection, number: int) -> None:
    """What a pipeline of the first release writes for a few events: source row, raw object, chunk, run."""
    position = f"00000001-{number + 1:016X}-00000000000000000000"
    values = {"n": number, "position": position, "key": f"k{number}"}
    async with connection.transaction():
        await connection.execute("INSERT INTO public.events_log (event_type) VALUES ('pageview')")
    async with connection.transaction():
        await connection.execute(
            "WITH o AS (INSERT INTO pipeline.raw_objects (bucket, key, first_position, last_position,"
            " kafka_end_offsets, kafka_end_sequences, events, bytes, sha256, min_commit_time, max_commit_time)"
            " VALUES ('b', %(key)s, %(position)s, %(position)s, '{}', '{}', 1, 1, 'x', now(), now()) RETURNING id)"
            " INSERT INTO pipeline.raw_counts SELECT id, date_trunc('hour', now()), 'c', 1 FROM o",
            values,
        )
    async with connection.transaction():
        await connection.execute("UPDATE pipeline.consumer_positions SET next_offset = next_offset + 1")
        await connection.execute(
            "WITH k AS (INSERT INTO pipeline.chunks (id, topic, partition, generation, first_offset, next_offset,"
            " first_position, last_position) VALUES (gen_random_uuid(), 't', 0, 1, %(n)s, %(n)s + 1, %(position)s,"
            " %(position)s) RETURNING id), c AS (INSERT INTO pipeline.chunk_counts"
            " SELECT id, date_trunc('hour', now()), 'c', 'c', 'out', 1 FROM k)"
            " INSERT INTO pipeline.processed_objects (chunk_id, kind, client_id, hour, bucket, key, events, bytes,"
            " sha256, privacy_level, policy_version, min_commit_time, max_commit_time) SELECT id, 'client', 'c',"
            " date_trunc('hour', now()), 'b', %(key)s, 1, 1, 'x', 'gdpr', 'v', now(), now() FROM k",
            values,
        )
    async with connection.transaction():
        await connection.execute(
            "WITH r AS (INSERT INTO pipeline.sync_runs (client_id, run_key, frequency, status, bucket, prefix,"
            " manifest, manifest_sha256, finished_at)"
            " VALUES ('c', %(key)s, 'hourly', 'finished', 'b', '', '{}', 'x', now())"
            " RETURNING id), f AS (INSERT INTO pipeline.delivery_files (run_id, bucket, key, hour, state, events,"
            " bytes, sha256) SELECT id, 'b', %(key)s, now(), 'delivered', 1, 1, 'x' FROM r RETURNING id)"
            " INSERT INTO pipeline.delivery_members SELECT f.id, 0, o.id FROM f, pipeline.processed_objects o"
            " WHERE o.key = %(key)s",
            values,
        )


@pytest.mark.timeout(180)
async def test_all_migrations_run_on_a_database_in_use_and_nobody_waits_for_long(dsn: str) -> None:
    """GIVEN the first release's tables with rows, services that go on writing to them, and readers that hold their
    locks for seconds, THEN every migration runs, no write waits for long, and no row is lost."""
    await first_state(dsn, 200)
    stop = asyncio.Event()
    waits: list[float] = []
    written = 200

    async def write() -> None:
        nonlocal written
        async with await psycopg.AsyncConnection.connect(dsn, autocommit=True) as connection:
            while not stop.is_set():
                began = time.monotonic()
                with suppress(psycopg.errors.DeadlockDetected):  # as the services do: tried again
                    await step(connection, written)
                    written += 1
                waits.append(time.monotonic() - began)

    async def read() -> None:
        async with await psycopg.AsyncConnection.connect(dsn, autocommit=True) as connection:
            while not stop.is_set():
                async with connection.transaction():
                    for table in ("public.events_log", "pipeline.chunk_counts", "pipeline.processed_objects"):
                        await connection.execute(sql.SQL("SELECT count(*) FROM {}").format(sql.SQL(table)))
                    with suppress(TimeoutError):
                        await asyncio.wait_for(stop.wait(), 1.5)

    users = [asyncio.create_task(work()) for work in (write, read)]
    try:
        ran = await migrate(dsn, dsn)
    finally:
        stop.set()
        await asyncio.gather(*users)
    expected = sum(1 for part in ("source", "ledger") for _ in (FOLDER / part).iterdir()) - 2
    assert len(ran) == expected
    assert await migrate(dsn, dsn) == []
    assert max(waits) < LONGEST_WAIT_SECONDS
    async with await psycopg.AsyncConnection.connect(dsn) as connection:
        for table in ("public.events_log", "pipeline.raw_counts", "pipeline.chunk_counts", "pipeline.delivery_members"):
            cursor = await connection.execute(sql.SQL("SELECT count(*) FROM {}").format(sql.SQL(table)))
            assert await cursor.fetchone() == (written,), table
        cursor = await connection.execute("SELECT count(*) FROM pg_index WHERE NOT indisvalid")
        assert await cursor.fetchone() == (0,)


async def test_a_lock_that_is_never_free_ends_the_migration_and_leaves_nothing_behind(
    dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runner, "ATTEMPTS", 2)
    monkeypatch.setattr(runner, "LOCK_TIMEOUT", "50ms")
    await first_state(dsn, 0)
    async with await psycopg.AsyncConnection.connect(dsn) as holder:
        await holder.execute("LOCK TABLE pipeline.raw_objects IN ACCESS SHARE MODE")
        with pytest.raises(TransientError, match="0010_cleaner"):
            await migrate(dsn, dsn)
        cursor = await holder.execute("SELECT count(*) FROM pipeline.migrations WHERE name LIKE '%0010%'")
        assert await cursor.fetchone() == (0,)
    assert "ledger/0010_cleaner.sql" in await migrate(dsn, dsn)


async def test_an_index_whose_building_was_cut_short_is_built_anew(dsn: str) -> None:
    await migrate(dsn, dsn)
    async with await psycopg.AsyncConnection.connect(dsn, autocommit=True) as connection:
        await connection.execute("DELETE FROM pipeline.migrations WHERE name LIKE '%0026%'")
        await connection.execute("DROP INDEX pipeline.chunks_by_position")
        await break_index(connection)
        assert await migrate(dsn, dsn) == ["ledger/0026_chunks_by_position.sql"]
        cursor = await connection.execute(
            "SELECT indisvalid, indisunique FROM pg_index WHERE indexrelid = 'pipeline.chunks_by_position'::regclass"
        )
        assert await cursor.fetchone() == (True, False)


async def break_index(connection: psycopg.AsyncConnection) -> None:
    """An invalid index under the name that the migration will use, as a cancelled or failed build leaves it."""
    for number in range(2):
        await connection.execute(
            "INSERT INTO pipeline.chunks (id, topic, partition, generation, first_offset, next_offset, first_position,"
            " last_position) VALUES (gen_random_uuid(), 't', 0, 1, %s, %s,"
            " '00000001-0000000000000001-00000000000000000000', '00000001-0000000000000001-00000000000000000000')",
            (number, number + 1),
        )
    with pytest.raises(psycopg.errors.UniqueViolation):
        await connection.execute("CREATE UNIQUE INDEX CONCURRENTLY chunks_by_position ON pipeline.chunks (topic)")


async def test_a_table_that_exists_is_adopted_whatever_schema_comes_first(dsn: str) -> None:
    """GIVEN the collector's own events_log with rows, and a user whose search path begins with the ledger's schema,
    THEN that table gets the pipeline's columns, and there is no second one; also when the ledger is made anew."""
    async with await psycopg.AsyncConnection.connect(dsn, autocommit=True) as connection:
        await connection.execute("CREATE TABLE public.events_log (id bigint PRIMARY KEY, event_type text)")
        await connection.execute("INSERT INTO events_log VALUES (1, 'pageview')")
        for _ in range(2):
            await migrate(dsn, dsn)
            cursor = await connection.execute(
                "SELECT relnamespace::regnamespace::text FROM pg_class WHERE relname = 'events_log'"
            )
            assert await cursor.fetchall() == [("public",)]
            cursor = await connection.execute("SELECT count(*), min(export_status) FROM events_log")
            assert await cursor.fetchone() == (1, "pending")
            await connection.execute("DROP SCHEMA pipeline CASCADE")


async def test_a_migration_that_was_changed_after_it_ran_is_an_error(dsn: str) -> None:
    await migrate(dsn, dsn)
    async with await psycopg.AsyncConnection.connect(dsn, autocommit=True) as connection:
        await connection.execute("UPDATE pipeline.migrations SET sha256 = 'x' WHERE name = 'ledger/0001_ledger.sql'")
    with pytest.raises(ConfigError, match="was changed after it ran"):
        await migrate(dsn, dsn)


LARGE = {
    f"pipeline.{table}"
    for table in ("raw_objects", "raw_counts", "chunks", "chunk_counts", "processed_objects", "delivery_files",
                  "delivery_members")
}  # fmt: skip


def test_no_migration_builds_an_index_on_a_table_in_use_while_others_wait() -> None:
    """The rule of `database.migrate`, for tables that grow with the events."""
    for file in sorted((FOLDER / "ledger").iterdir(), key=lambda f: f.name):
        text = re.sub(r"--.*", "", file.read_text()) if not file.read_text().startswith(runner.CONCURRENTLY) else ""
        made_here = set(re.findall(r"CREATE TABLE (?:IF NOT EXISTS )?([\w.]+)", text))
        indexed = set(re.findall(r"CREATE (?:UNIQUE )?INDEX [\w ]+? ON ([\w.]+)", text))
        assert not (indexed - made_here) & LARGE or file.name == "0010_cleaner.sql", file.name
