"""The transaction that supersedes a cell, on a ledger alone: compared with what was read, all of it or nothing."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import psycopg
import pytest

from database.ledger import revisions
from database.ledger.chunks import ProcessedObject
from database.ledger.revisions import NewObject, Revision
from database.migrate import migrate
from local.stack import Stack
from pipeline.errors import FencedError, PermanentError
from pipeline.position import Position

HOUR = datetime(2026, 11, 23, 5, tzinfo=UTC)
CHUNK = uuid.UUID(int=7)
OUT = (CHUNK, (HOUR, "acme", "acme", "out"))
DROPPED = (CHUNK, (HOUR, "acme", "acme", "dropped_consent"))


class Ledger:
    """One chunk of ten events in one object, which is in a delivered file."""

    def __init__(self, connection: psycopg.AsyncConnection) -> None:
        self.connection = connection

    async def rows(self, query: str) -> list[tuple[Any, ...]]:
        return await (await self.connection.execute(query.encode())).fetchall()

    async def build(self) -> None:
        at = str(Position(1, 1, 0))
        await self.connection.execute(
            "INSERT INTO pipeline.chunks (id, topic, partition, generation, first_offset, next_offset, first_position,"
            " last_position) VALUES (%s, 't', 0, 1, 0, 10, %s, %s)",
            (CHUNK, at, at),
        )
        await self.connection.execute(
            "INSERT INTO pipeline.chunk_counts (chunk_id, hour, source_client_id, client_id, disposition, events)"
            " VALUES (%s, %s, 'acme', 'acme', 'out', 10)",
            (CHUNK, HOUR),
        )
        await self.connection.execute(
            "INSERT INTO pipeline.processed_objects (chunk_id, kind, client_id, hour, bucket, key, events, bytes,"
            " sha256, privacy_level, policy_version, min_commit_time, max_commit_time)"
            " VALUES (%s, 'client', 'acme', %s, 'b', 'old', 10, 1, '', 'standard', 'v1', %s, %s)",
            (CHUNK, HOUR, HOUR, HOUR),
        )
        await self.connection.execute(
            "INSERT INTO pipeline.sync_runs (client_id, run_key, frequency, status, bucket, prefix)"
            " VALUES ('acme', 'r1', 'hourly', 'running', 'c', '')"
        )
        await self.connection.execute(
            "INSERT INTO pipeline.delivery_files (run_id, bucket, key, hour, policy_version, state, events, bytes,"
            " sha256) VALUES (1, 'c', 'file', %s, 'v1', 'delivered', 10, 1, 'first')",
            (HOUR,),
        )
        await self.connection.execute("INSERT INTO pipeline.delivery_members VALUES (1, 0, 1)")

    def object(self, key: str, events: int) -> NewObject:
        return NewObject(
            chunk_id=CHUNK,
            object=ProcessedObject(
                kind="client", client_id="acme", hour=HOUR, bucket="b", key=key, events=events, bytes=1, sha256="",
                privacy_level="gdpr", policy_version="v2", min_commit_time=HOUR, max_commit_time=HOUR,
            ),
        )  # fmt: skip

    async def revision(self, key: str, **changes: Any) -> Revision:
        """Of ten events one is dropped."""
        made = Revision(
            id=await revisions.reserve(self.connection),
            cause="replay",
            client_id="acme",
            hour=HOUR,
            superseded=[1],
            removed={OUT: 10},
            added={OUT: 9, DROPPED: 1},
            objects=[self.object(key, 9)],
        )
        return replace(made, **changes)


@pytest.fixture
async def ledger(stack: Stack) -> AsyncIterator[Ledger]:
    name = f"revisions_{uuid.uuid4().hex[:8]}"
    admin = await psycopg.AsyncConnection.connect(stack.postgres.admin_dsn, autocommit=True)
    await admin.execute(f"CREATE DATABASE {name} OWNER pipeline".encode())
    dsn = stack.postgres.dsn_for(name)
    try:
        await migrate(dsn, dsn)
        async with await psycopg.AsyncConnection.connect(dsn, autocommit=True) as connection:
            made = Ledger(connection)
            await made.build()
            yield made
    finally:
        await admin.execute(f"DROP DATABASE {name} WITH (FORCE)".encode())
        await admin.close()


async def test_a_cell_goes_through_as_it_was_read_or_not_at_all_and_its_file_is_to_be_built_again(
    ledger: Ledger,
) -> None:
    everything = (
        "SELECT c::text FROM pipeline.chunk_counts c UNION ALL SELECT o::text FROM pipeline.processed_objects o"
        " UNION ALL SELECT r::text FROM pipeline.cell_revisions r UNION ALL SELECT m::text FROM"
        " pipeline.delivery_members m UNION ALL SELECT f::text FROM pipeline.delivery_files f UNION ALL"
        " SELECT p::text FROM pipeline.delivery_replacements p ORDER BY 1"
    )
    before = await ledger.rows(everything)
    refused: tuple[tuple[dict[str, Any], type[Exception]], ...] = (
        ({"removed": {OUT: 11}, "added": {OUT: 10, DROPPED: 1}}, FencedError),  # the counts were others
        ({"superseded": [1, 99]}, FencedError),  # so were the objects
        ({"objects": [ledger.object("new", 8)]}, PermanentError),  # an event would be in no object
        ({"superseded": []}, PermanentError),  # events would be in two
    )
    for changes, error in refused:
        with pytest.raises(error):
            await revisions.supersede(ledger.connection, await ledger.revision("new", **changes))
        assert await ledger.rows(everything) == before

    await revisions.supersede(ledger.connection, await ledger.revision("new"))
    assert await ledger.rows("SELECT disposition, events FROM pipeline.chunk_counts ORDER BY 1") == [
        ("dropped_consent", 1),
        ("out", 9),
    ]
    assert await ledger.rows("SELECT key FROM pipeline.processed_objects WHERE superseded_by IS NULL") == [("new",)]
    heir = "SELECT m.file_id, o.key FROM pipeline.delivery_members m JOIN pipeline.processed_objects o" \
           " ON o.id = m.processed_object_id WHERE o.superseded_by IS NULL"  # fmt: skip
    assert await ledger.rows(heir) == [(1, "new")], "a new object is where the old one was, so it is delivered once"
    replacements = "SELECT file_id, state, old_events, old_sha256 FROM pipeline.delivery_replacements"
    assert await ledger.rows(replacements) == [(1, "open", 10, "first")]

    with pytest.raises(FencedError):
        await revisions.supersede(ledger.connection, await ledger.revision("newer"))
    current = [row[0] for row in await ledger.rows("SELECT id FROM pipeline.processed_objects WHERE key = 'new'")]
    again: dict[str, Any] = {"superseded": current, "removed": {OUT: 9, DROPPED: 1}, "added": {OUT: 10}}
    again["objects"] = [ledger.object("newest", 10)]
    await revisions.supersede(ledger.connection, await ledger.revision("", **again))
    assert await ledger.rows(replacements) == [(1, "open", 10, "first")], "one rebuild covers both"
    assert await ledger.rows("SELECT revision FROM pipeline.delivery_files") == [(2,)]


async def test_a_file_of_which_retention_took_a_part_meanwhile_is_not_ordered_to_be_built_again(ledger: Ledger) -> None:
    other = uuid.uuid4()
    at = str(Position(1, 2, 0))
    await ledger.connection.execute(
        "INSERT INTO pipeline.chunks (id, topic, partition, generation, first_offset, next_offset, first_position,"
        " last_position) VALUES (%s, 't', 0, 1, 10, 11, %s, %s)",
        (other, at, at),
    )
    await ledger.connection.execute(
        "INSERT INTO pipeline.processed_objects (chunk_id, kind, client_id, hour, bucket, key, events, bytes, sha256,"
        " privacy_level, policy_version, min_commit_time, max_commit_time, removed_at)"
        " VALUES (%s, 'client', 'acme', %s, 'b', 'gone', 1, 1, '', 'standard', 'v1', %s, %s, now())",
        (other, HOUR, HOUR, HOUR),
    )
    await ledger.connection.execute("INSERT INTO pipeline.delivery_members VALUES (1, 1, 2)")
    with pytest.raises(FencedError):
        await revisions.supersede(ledger.connection, await ledger.revision("new"))
    assert await ledger.rows("SELECT FROM pipeline.delivery_replacements") == []
    await ledger.connection.execute("UPDATE pipeline.processed_objects SET removed_at = NULL")
    await revisions.supersede(ledger.connection, await ledger.revision("new"))
    assert await ledger.rows("SELECT file_id FROM pipeline.delivery_replacements") == [(1,)]
