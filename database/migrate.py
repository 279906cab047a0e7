"""Migrations: plain SQL files, run in order, each in one transaction, once; on databases in use.

`migrations/source` belongs to DATABASE_URL, `migrations/ledger` to LEDGER_DATABASE_URL; both may be one database. What
ran stands in `pipeline.migrations` with the file's SHA-256, so that a changed file is noticed.

A migration waits at most LOCK_TIMEOUT for each lock, since whoever comes after it waits behind it; then it is taken
back and tried again. Rules for files: a statement on a table with data changes the catalogue only (new columns are
nullable or have a constant default, constraints are NOT VALID or known to hold); an index on a table that an earlier
file made is built by a file of its own whose first line is `-- concurrently`, run outside of a transaction.
"""

from __future__ import annotations

import asyncio
import hashlib
from importlib import resources
from typing import Literal

import psycopg
from psycopg import sql

from pipeline.errors import ConfigError, TransientError
from pipeline.logs import get

log = get(__name__)

Part = Literal["source", "ledger"]

LOCK_TIMEOUT = "400ms"
"""Well below deadlock_timeout (1 s): where a service waits for us and we for it, we give way, not the service."""

ATTEMPTS = 150
PAUSE_SECONDS = 0.4
"""Between two tries: what waited behind us gets its turn."""

CONCURRENTLY = "-- concurrently\n"

_LOCK = 0x6576_5F6C_6F67  # one migration at a time; any constant does


async def migrate(source_dsn: str, ledger_dsn: str, *, publication: str = "events_pipeline") -> list[str]:
    """Bring both databases up to date; returns the names of the migrations that ran, e.g. `ledger/0001_ledger.sql`.

    Safe to run at any time and by several at once. Raises ConfigError when a migration that ran earlier was changed
    since, or when a privilege is missing.
    """
    try:
        async with await psycopg.AsyncConnection.connect(source_dsn, autocommit=True) as connection:
            ran = await _run(connection, "source")
            await _publish(connection, publication)
        async with await psycopg.AsyncConnection.connect(ledger_dsn, autocommit=True) as connection:
            ran += await _run(connection, "ledger")
    except psycopg.errors.InsufficientPrivilege as error:
        raise ConfigError(
            f"DATABASE_URL: the user may not migrate: {error.diag.message_primary}",
            hint="run migrate as the owner of the database and of events_log",
        ) from error
    return ran


async def _run(connection: psycopg.AsyncConnection, part: Part) -> list[str]:
    ran = []
    await connection.execute("SELECT pg_advisory_lock(%s)", (_LOCK,))
    try:
        await connection.execute("CREATE SCHEMA IF NOT EXISTS pipeline")
        await connection.execute(
            "CREATE TABLE IF NOT EXISTS pipeline.migrations"
            " (name text PRIMARY KEY, sha256 text NOT NULL, ran_at timestamptz NOT NULL DEFAULT now())"
        )
        cursor = await connection.execute("SELECT name, sha256 FROM pipeline.migrations")
        done: dict[str, str] = dict(await cursor.fetchall())
        folder = resources.files("database") / "migrations" / part
        for file in sorted(folder.iterdir(), key=lambda f: f.name):
            name, text = f"{part}/{file.name}", file.read_text()
            sha256 = hashlib.sha256(text.encode()).hexdigest()
            if name not in done:
                await _patiently(connection, part, name, text, sha256)
                log.info("database.migration.ran", name=name)
                ran.append(name)
            elif done[name] != sha256:
                raise ConfigError(f"migration {name} was changed after it ran", hint="add a new migration instead")
    finally:
        await connection.execute("SELECT pg_advisory_unlock(%s)", (_LOCK,))
    return ran


async def _patiently(connection: psycopg.AsyncConnection, part: Part, name: str, text: str, sha256: str) -> None:
    """Run one file, again and again while others hold what it needs. Raises TransientError when they never let go."""
    for attempt in range(ATTEMPTS):
        try:
            if text.startswith(CONCURRENTLY):
                return await _concurrently(connection, name, text, sha256)
            async with connection.transaction():
                await connection.execute(sql.SQL("SET LOCAL lock_timeout = {}").format(sql.Literal(LOCK_TIMEOUT)))
                await _apply(connection, part, name, text, sha256)
            return None
        except (psycopg.errors.LockNotAvailable, psycopg.errors.DeadlockDetected) as error:
            if attempt == ATTEMPTS - 1:
                raise TransientError(
                    f"migration {name}: the locks that it needs were never free", hint="try in a quieter moment"
                ) from error
            log.info("database.migration.delayed", name=name, attempt=attempt + 1)
            await asyncio.sleep(PAUSE_SECONDS)
    return None


async def _apply(connection: psycopg.AsyncConnection, part: Part, name: str, text: str, sha256: str) -> None:
    if part == "source":
        # A table that exists is found as the services find it, and nothing is made in schema pipeline, the first in
        # the search path of a user called pipeline: IF NOT EXISTS looks there alone.
        await connection.execute(
            "SELECT set_config('search_path', coalesce((SELECT quote_ident(nspname) FROM pg_class c"
            " JOIN pg_namespace n ON n.oid = relnamespace WHERE c.oid = to_regclass('events_log')), 'public'), true)"
        )
    await connection.execute(text.encode())
    await _record(connection, name, sha256)


async def _concurrently(connection: psycopg.AsyncConnection, name: str, text: str, sha256: str) -> None:
    """Indexes while others write: CREATE INDEX CONCURRENTLY IF NOT EXISTS statements in schema pipeline.

    A try that was cut short leaves an index that nobody uses and IF NOT EXISTS believes in: it goes first.
    """
    cursor = await connection.execute(
        "SELECT indexrelid::regclass::text FROM pg_index JOIN pg_class c ON c.oid = indexrelid"
        " WHERE NOT indisvalid AND relnamespace = 'pipeline'::regnamespace"
    )
    for (index,) in await cursor.fetchall():
        await connection.execute(sql.SQL("DROP INDEX CONCURRENTLY {}").format(sql.SQL(index)))
    for statement in text.split(";\n"):
        if statement.strip():
            await connection.execute(statement.encode())
    await _record(connection, name, sha256)


async def _record(connection: psycopg.AsyncConnection, name: str, sha256: str) -> None:
    await connection.execute("INSERT INTO pipeline.migrations (name, sha256) VALUES (%s, %s)", (name, sha256))


async def _publish(connection: psycopg.AsyncConnection, publication: str) -> None:
    """Inserts only, under the root's name where events_log is partitioned: stamps and deletes cost no messages."""
    cursor = await connection.execute("SELECT 1 FROM pg_publication WHERE pubname = %s", (publication,))
    if await cursor.fetchone() is None:
        await connection.execute(
            sql.SQL(
                "CREATE PUBLICATION {} FOR TABLE events_log"
                " WITH (publish = 'insert', publish_via_partition_root = true)"
            ).format(sql.Identifier(publication))
        )
        log.info("database.publication.created", publication=publication)
