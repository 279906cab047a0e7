"""The traffic generator against a real PostgreSQL: its record is exactly what was committed, whatever breaks."""

from __future__ import annotations

import asyncio
import contextlib
import time
import uuid
from collections.abc import AsyncIterator, Iterator
from importlib import resources
from pathlib import Path
from typing import Any

import psycopg
import pytest

from local.stack import Stack
from local.traffic import run_traffic
from local.traffic_record import COLUMNS, RAW_DIGEST_SQL, columns_digest, read_record
from pipeline.errors import PermanentError, TransientError

CLIENTS = ("alpha", "beta", "gamma")
_TIME = """to_char({} AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')"""


@pytest.fixture(scope="module")
def database(stack: Stack) -> Iterator[str]:
    name = f"traffic_{uuid.uuid4().hex[:8]}"
    with psycopg.connect(stack.postgres.admin_dsn, autocommit=True) as admin:
        admin.execute(f"CREATE DATABASE {name} OWNER pipeline".encode())
        dsn = stack.postgres.dsn_for(name)
        with psycopg.connect(dsn, autocommit=True) as connection:
            migration = resources.files("database") / "migrations" / "source" / "0001_events_log.sql"
            connection.execute(migration.read_bytes())
    yield dsn
    # A test may have killed the server: a new connection.
    with psycopg.connect(stack.postgres.admin_dsn, autocommit=True) as admin:
        admin.execute(f"DROP DATABASE {name} WITH (FORCE)".encode())


@pytest.fixture
async def events(database: str) -> AsyncIterator[psycopg.AsyncConnection[Any]]:
    async with await psycopg.AsyncConnection.connect(database, autocommit=True) as connection:
        await connection.execute("TRUNCATE events_log")
        yield connection


async def inserted(events: psycopg.AsyncConnection[Any]) -> dict[str, tuple[str, str]]:
    """event_id to the digests of its columns and of its document, computed from the table."""
    names = ", ".join(
        {
            "timestamp": _TIME.format("timestamp"),
            "created_at": _TIME.format("created_at"),
            "ip_address": "host(ip_address)",
        }.get(name, name if name == "id" else f"{name}::text")
        for name in COLUMNS
    )
    cursor = await events.execute(f"SELECT {names}, {RAW_DIGEST_SQL} FROM events_log".encode())
    found = {}
    async for *values, raw in cursor:
        columns = dict(zip(COLUMNS, values, strict=True))
        found[columns["event_id"]] = (columns_digest(columns), raw)
    return found


def recorded(path: Path) -> dict[str, tuple[str, str]]:
    entries = list(read_record(path))
    found = {entry.event_id: (entry.columns, entry.raw) for entry in entries}
    assert len(found) == len(entries), "a row was recorded twice"
    return found


async def test_record_is_what_was_committed_and_rolled_back_rows_are_nowhere(
    events: psycopg.AsyncConnection[Any], database: str, tmp_path: Path
) -> None:
    path = tmp_path / "record"
    told: list[int] = []
    count = await run_traffic(
        database, rate=1500, seconds=3, record=path, clients=CLIENTS, seed=11, stop=None, progress=told.append
    )
    assert told[-1] == count
    assert count == pytest.approx(4500, rel=0.2)
    assert recorded(path) == await inserted(events)
    cursor = await events.execute("SELECT max(id) - count(*), count(DISTINCT client_id) FROM events_log")
    row = await cursor.fetchone()
    assert row is not None
    assert row[0] > 0, "rolled back rows leave gaps in the ids"


async def test_stop_ends_it_at_once_and_leaves_the_callers_event_alone(
    events: psycopg.AsyncConnection[Any], database: str, tmp_path: Path
) -> None:
    stop, started = asyncio.Event(), time.monotonic()
    count = await run_traffic(
        database,
        rate=50,
        seconds=600,
        record=tmp_path / "record",
        clients=CLIENTS,
        stop=stop,
        progress=lambda count: stop.set() if count > 5 else None,
    )
    assert time.monotonic() - started < 10
    assert recorded(tmp_path / "record").keys() == (await inserted(events)).keys()
    assert count == len(await inserted(events))


async def test_cancelled_run_records_what_it_committed(
    events: psycopg.AsyncConnection[Any], database: str, tmp_path: Path
) -> None:
    some = asyncio.Event()
    run = asyncio.create_task(
        run_traffic(
            database,
            rate=2000,
            seconds=600,
            record=tmp_path / "record",
            clients=CLIENTS,
            progress=lambda count: some.set() if count > 500 else None,
        )
    )
    await some.wait()
    run.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await run
    assert run.cancelled()
    assert recorded(tmp_path / "record") == await inserted(events)


async def test_killed_connections_lose_and_repeat_nothing(
    events: psycopg.AsyncConnection[Any], database: str, tmp_path: Path
) -> None:
    path, stop, moved = tmp_path / "record", asyncio.Event(), asyncio.Event()
    run = asyncio.create_task(
        run_traffic(
            database,
            rate=3000,
            seconds=600,
            record=path,
            clients=CLIENTS,
            stop=stop,
            progress=lambda _count: moved.set(),
        )
    )
    killed = 0
    while killed < 40:
        moved.clear()
        await moved.wait()
        cursor = await events.execute(
            "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity"
            " WHERE application_name = 'traffic' AND datname = current_database()"
        )
        answer = await cursor.fetchone()
        killed += answer[0] if answer else 0
    stop.set()
    assert await run > 0
    assert recorded(path) == await inserted(events)


async def test_killed_server_loses_nothing_that_was_recorded(
    stack: Stack, events: psycopg.AsyncConnection[Any], database: str, tmp_path: Path
) -> None:
    path, stop, some, more = tmp_path / "record", asyncio.Event(), asyncio.Event(), asyncio.Event()
    before = 0

    def progress(count: int) -> None:
        if count > 1000:
            some.set()
        if before and count > before + 500:
            more.set()

    run = asyncio.create_task(
        run_traffic(database, rate=2000, seconds=600, record=path, clients=CLIENTS, stop=stop, progress=progress)
    )
    await some.wait()
    await stack.postgres.kill()
    before = len(recorded(path))
    await stack.postgres.start()
    await more.wait()
    stop.set()
    assert await run > before
    async with await psycopg.AsyncConnection.connect(database, autocommit=True) as connection:
        assert recorded(path) == await inserted(connection)


@pytest.mark.parametrize("when", ["before", "after"])
async def test_lost_answer_of_a_commit_is_found_out(
    when: str, events: psycopg.AsyncConnection[Any], database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, lost = tmp_path / "record", 0
    commit = psycopg.AsyncConnection.commit

    async def broken(self: psycopg.AsyncConnection[Any]) -> None:
        nonlocal lost
        lost += 1
        if lost % 3:
            return await commit(self)
        if when == "after":
            await commit(self)
        await self.close()
        raise psycopg.OperationalError("the connection died")

    monkeypatch.setattr(psycopg.AsyncConnection, "commit", broken)
    count = await run_traffic(database, rate=1000, seconds=1, record=path, clients=CLIENTS)
    assert lost > 10
    assert recorded(path) == await inserted(events)
    assert count == len(recorded(path))


async def test_absent_database_is_a_transient_error_at_once() -> None:
    with pytest.raises(TransientError, match="DATABASE_URL"):
        await run_traffic("postgresql://u@127.0.0.1:1/d", rate=1, seconds=1, record=None, clients=CLIENTS)


async def test_missing_table_is_a_permanent_error(stack: Stack) -> None:
    dsn = stack.postgres.dsn_for("template1")
    with pytest.raises(PermanentError, match="42P01"):
        await run_traffic(dsn, rate=100, seconds=5, record=None, clients=CLIENTS)
