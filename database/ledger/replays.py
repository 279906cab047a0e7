"""Replays: who asked for which hours, and how far each has come.

A replay is run by one process at a time: it holds an advisory lock for as long as its connection lives, so a replay
whose process died can be taken up at once. Should two ever run the same one, revisions fence the second.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from psycopg import AsyncConnection
from psycopg.rows import class_row
from psycopg.types.json import Jsonb

Source = Literal["auto", "kafka", "raw"]
State = Literal["requested", "running", "finished", "failed"]

_LOCKS = 0x7265_706C  # the first of an advisory lock's two keys; any constant does


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What to replay: all events whose commit falls into the hours from `first_hour` to `last_hour`, both included."""

    client_id: str | None
    """None: of all clients."""
    first_hour: datetime
    last_hour: datetime
    source: Source = "auto"
    """auto: Kafka where it reaches back far enough, else raw files."""
    quarantine: bool = False
    """Events in quarantine, instead of those that have found their client."""
    dry_run: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Replay:
    """A row of the table, for the admin's page and for whoever runs it."""

    id: int
    client_id: str | None
    first_hour: datetime
    last_hour: datetime
    source: Source
    quarantine: bool
    dry_run: bool
    state: State
    requested_by: str
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    error: str | None
    cells: int
    """Cells that it is done with, the unchanged ones too."""
    summary: dict[str, Any]

    @property
    def order(self) -> Order:
        """What was asked for."""
        return Order(
            client_id=self.client_id,
            first_hour=self.first_hour,
            last_hour=self.last_hour,
            source=self.source,
            quarantine=self.quarantine,
            dry_run=self.dry_run,
        )


_REPLAY = """
    SELECT id, client_id, first_hour, last_hour, source, quarantine, dry_run, state, requested_by, created_at,
           started_at, finished_at, error, summary,
           (SELECT count(*) FROM pipeline.replay_cells c WHERE c.replay_id = r.id) AS cells
    FROM pipeline.replays r
"""


async def request(connection: AsyncConnection, order: Order, requested_by: str) -> int:
    """Ask for a replay; `python -m processor replay --requested` runs it. Returns its id."""
    cursor = await connection.execute(
        "INSERT INTO pipeline.replays"
        " (client_id, first_hour, last_hour, source, quarantine, dry_run, state, requested_by)"
        " VALUES (%s, %s, %s, %s, %s, %s, 'requested', %s) RETURNING id",
        (
            order.client_id,
            order.first_hour,
            order.last_hour,
            order.source,
            order.quarantine,
            order.dry_run,
            requested_by,
        ),
    )
    row = await cursor.fetchone()
    assert row is not None
    return int(row[0])


async def find(connection: AsyncConnection, replay_id: int) -> Replay | None:
    """The replay with that id."""
    async with connection.cursor(row_factory=class_row(Replay)) as cursor:
        await cursor.execute(f"{_REPLAY} WHERE id = %s", (replay_id,))
        return await cursor.fetchone()


async def page(connection: AsyncConnection, *, before: int | None = None, limit: int = 50) -> list[Replay]:
    """The newest replays first; `before`: older than the one with that id."""
    async with connection.cursor(row_factory=class_row(Replay)) as cursor:
        await cursor.execute(
            f"{_REPLAY} WHERE id < coalesce(%s, 9223372036854775807) ORDER BY id DESC LIMIT %s",
            (before, limit),
        )
        return await cursor.fetchall()


async def claim(connection: AsyncConnection, replay_id: int) -> Replay | None:
    """Take up a replay that isn't finished, also one that has failed, until `release` or the connection's end.

    None when another process has it, or when there is nothing to take up.
    """
    return await _claim(connection, replay_id, ("requested", "running", "failed"))


async def claim_next(connection: AsyncConnection) -> Replay | None:
    """Take up the oldest one that was requested, or that a process left behind when it died. None: there is none."""
    cursor = await connection.execute(
        "SELECT id FROM pipeline.replays WHERE state IN ('requested', 'running') ORDER BY id"
    )
    for (replay_id,) in await cursor.fetchall():
        replay = await _claim(connection, replay_id, ("requested", "running"))
        if replay is not None:
            return replay
    return None


async def _claim(connection: AsyncConnection, replay_id: int, states: Sequence[State]) -> Replay | None:
    cursor = await connection.execute("SELECT pg_try_advisory_lock(%s, %s)", (_LOCKS, replay_id & 0x7FFF_FFFF))
    row = await cursor.fetchone()
    if row is None or not row[0]:
        return None
    cursor = await connection.execute(
        "UPDATE pipeline.replays SET state = 'running', started_at = coalesce(started_at, clock_timestamp()),"
        " finished_at = NULL, error = NULL WHERE id = %s AND state = ANY(%s)",
        (replay_id, list(states)),
    )
    if not cursor.rowcount:  # it has been finished meanwhile
        await release(connection, replay_id)
        return None
    return await find(connection, replay_id)


async def release(connection: AsyncConnection, replay_id: int) -> None:
    """Let go of a claimed replay."""
    await connection.execute("SELECT pg_advisory_unlock(%s, %s)", (_LOCKS, replay_id & 0x7FFF_FFFF))


async def done_cells(connection: AsyncConnection, replay_id: int, hour: datetime) -> set[str]:
    """Clients whose cell of that hour the replay is done with; '' stands for the quarantine."""
    cursor = await connection.execute(
        "SELECT client_id FROM pipeline.replay_cells WHERE replay_id = %s AND hour = %s", (replay_id, hour)
    )
    return {row[0] for row in await cursor.fetchall()}


async def progress(
    connection: AsyncConnection, replay_id: int, client_id: str, hour: datetime, revision_id: int | None
) -> None:
    """The replay is done with a cell. In the transaction of its revision, if it has one."""
    await connection.execute(
        "INSERT INTO pipeline.replay_cells (replay_id, client_id, hour, revision_id) VALUES (%s, %s, %s, %s)"
        " ON CONFLICT (replay_id, client_id, hour) DO NOTHING",
        (replay_id, client_id, hour, revision_id),
    )


async def cell_summaries(connection: AsyncConnection, replay_id: int) -> list[dict[str, Any]]:
    """What the replay has changed so far, cell by cell."""
    cursor = await connection.execute(
        "SELECT summary FROM pipeline.cell_revisions WHERE replay_id = %s ORDER BY id", (replay_id,)
    )
    return [row[0] for row in await cursor.fetchall()]


async def finish(
    connection: AsyncConnection, replay_id: int, summary: Mapping[str, Any], *, error: str | None = None
) -> None:
    """The replay is over; with an `error` it has failed, and may be resumed."""
    await connection.execute(
        "UPDATE pipeline.replays SET state = %s, finished_at = clock_timestamp(), error = %s, summary = %s"
        " WHERE id = %s",
        ("failed" if error else "finished", error, Jsonb(dict(summary)), replay_id),
    )
