"""Migrations: plain SQL files, run in order, each in one transaction, once.

`migrations/source` belongs to DATABASE_URL, `migrations/ledger` to LEDGER_DATABASE_URL; both may be one database. What
ran stands in `pipeline.migrations` with the file's SHA-256, so that a changed file is noticed.
"""

from __future__ import annotations

import hashlib
from importlib import resources
from typing import Literal

import psycopg
from psycopg import sql

from pipeline.errors import ConfigError
from pipeline.logs import get

log = get(__name__)

Part = Literal["source", "ledger"]

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
                async with connection.transaction():
                    if part == "source":
                        # A table that exists is found as the services find it, and nothing is made in schema pipeline,
                        # the first in the search path of a user called pipeline: IF NOT EXISTS looks there alone.
                        await connection.execute(
                            "SELECT set_config('search_path', coalesce((SELECT quote_ident(nspname) FROM pg_class c"
                            " JOIN pg_namespace n ON n.oid = relnamespace WHERE c.oid = to_regclass('events_log')),"
                            " 'public'), true)"
                        )
                    await connection.execute(text.encode())
                    await connection.execute(
                        "INSERT INTO pipeline.migrations (name, sha256) VALUES (%s, %s)", (name, sha256)
                    )
                log.info("database.migration.ran", name=name)
                ran.append(name)
            elif done[name] != sha256:
                raise ConfigError(f"migration {name} was changed after it ran", hint="add a new migration instead")
    finally:
        await connection.execute("SELECT pg_advisory_unlock(%s)", (_LOCK,))
    return ran


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
