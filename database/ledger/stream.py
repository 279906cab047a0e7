"""What the streamer writes: epochs, its state, topic layouts, raw objects."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal, LiteralString

from psycopg import AsyncConnection
from psycopg.rows import class_row
from psycopg.types.json import Jsonb

from pipeline.errors import FencedError
from pipeline.position import ZERO, Lsn, Position

_PAGE = 1000

HourCount = Mapping[tuple[datetime, str], int]
"""Events by (hour of commit_time, source_client_id)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamState:
    """How far the ledger is with one slot."""

    slot: str
    epoch: int
    state: Literal["snapshot", "streaming"]
    confirmed_lsn: Lsn
    last_position: Position | None


@dataclass(frozen=True, slots=True, kw_only=True)
class KafkaTail:
    """The end of one partition as of some event: the offset after it, and its sequence (-1: no event yet)."""

    next_offset: int
    last_sequence: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RawObject:
    """A raw file that was written and whose events Kafka has acknowledged."""

    bucket: str
    key: str
    previous_position: Position | None
    first_position: Position
    last_position: Position
    kafka_tails: Mapping[int, KafkaTail]
    events: int
    bytes: int
    sha256: str
    min_commit_time: datetime
    max_commit_time: datetime
    counts: HourCount


async def epoch_of(connection: AsyncConnection, system_identifier: str, timeline: int, begins_at: Lsn) -> int:
    """The number of a history, a new one if it was never seen.

    `begins_at` tells two histories apart that took the same timeline: copies restored without a common archive.
    """
    values = (system_identifier, timeline, str(begins_at))
    await connection.execute(
        "INSERT INTO pipeline.epochs (system_identifier, timeline, begins_at_lsn) SELECT %s, %s, %s"
        " WHERE NOT EXISTS (SELECT FROM pipeline.epochs"  # a number is not spent on each start
        " WHERE system_identifier = %s AND timeline = %s AND begins_at_lsn = %s) ON CONFLICT DO NOTHING",
        values + values,
    )
    cursor = await connection.execute(
        "SELECT epoch FROM pipeline.epochs WHERE system_identifier = %s AND timeline = %s AND begins_at_lsn = %s",
        values,
    )
    row = await cursor.fetchone()
    assert row is not None
    return int(row[0])


async def stream_state(connection: AsyncConnection, slot: str) -> StreamState | None:
    """The state of `slot`; None when the ledger has never heard of it."""
    cursor = await connection.execute(
        "SELECT epoch, state, confirmed_lsn::text, last_position FROM pipeline.stream_state WHERE slot = %s", (slot,)
    )
    row = await cursor.fetchone()
    if row is None:
        return None
    return StreamState(
        slot=slot,
        epoch=row[0],
        state=row[1],
        confirmed_lsn=Lsn.parse(row[2]),
        last_position=Position.parse(row[3]) if row[3] else None,
    )


async def begin_snapshot(connection: AsyncConnection, slot: str, epoch: int) -> None:
    """Record the intent to make `slot`, before it is made: whoever finds this state begins the snapshot anew.

    A slot that the ledger has never heard of goes on at the end of what there is.
    """
    await connection.execute(
        "INSERT INTO pipeline.stream_state (slot, epoch, state, confirmed_lsn, last_position)"
        " VALUES (%s, %s, 'snapshot', '0/0', (SELECT max(last_position COLLATE \"C\") FROM pipeline.raw_objects))"
        " ON CONFLICT (slot) DO UPDATE SET epoch = excluded.epoch, state = 'snapshot', updated_at = now()",
        (slot, epoch),
    )


async def finish_snapshot(connection: AsyncConnection, slot: str, epoch: int, consistent_point: Lsn) -> None:
    """The snapshot is complete in raw objects: from here on the slot alone tells what is new.

    Raises FencedError when another streamer works in another epoch.
    """
    cursor = await connection.execute(
        "UPDATE pipeline.stream_state SET state = 'streaming', confirmed_lsn = %s, updated_at = now()"
        " WHERE slot = %s AND epoch = %s",
        (str(consistent_point), slot, epoch),
    )
    _one(cursor.rowcount)


async def enter_epoch(connection: AsyncConnection, slot: str, epoch: int, confirmed_lsn: Lsn) -> None:
    """The stream goes on in a later history of the same database, whose slot has survived; LSNs count from there."""
    await connection.execute(
        "UPDATE pipeline.stream_state SET epoch = %s, confirmed_lsn = %s, updated_at = now() WHERE slot = %s",
        (epoch, str(confirmed_lsn), slot),
    )


async def distrust_stamps(connection: AsyncConnection, since: datetime) -> int:
    """Take stamps of raw objects back that the source may have forgotten: in another history rows can lack them.

    `since`: the time of the last stamp that the source still has. The hour before it allows for clocks that differ.
    The cleaner stamps anew what is there. Returns how many objects.
    """
    cursor = await connection.execute(
        "UPDATE pipeline.raw_objects SET stamped_at = NULL, deleted_at = NULL"
        " WHERE stamped_at >= %s::timestamptz - interval '1 hour'",
        (since,),
    )
    return cursor.rowcount


async def confirm(connection: AsyncConnection, slot: str, epoch: int, lsn: Lsn, caught_up_at: datetime | None) -> None:
    """Record that everything before `lsn` is safe; written before the server is told, so the slot never leads.

    `caught_up_at`: every commit before that time is in a raw object, when the caller knows such a time. Raises
    FencedError when the slot was begun anew meanwhile: LSNs of another history must not be mixed with its own.
    """
    cursor = await connection.execute(
        "UPDATE pipeline.stream_state SET confirmed_lsn = greatest(confirmed_lsn, %s::pg_lsn),"
        " caught_up_at = greatest(caught_up_at, %s), updated_at = now()"
        " WHERE slot = %s AND epoch = %s AND state = 'streaming'",
        (str(lsn), caught_up_at, slot, epoch),
    )
    _one(cursor.rowcount)


async def kafka_tails(connection: AsyncConnection) -> dict[int, KafkaTail]:
    """Where each partition ended as of the last raw object; empty before the first."""
    cursor = await connection.execute(
        "SELECT kafka_end_offsets, kafka_end_sequences FROM pipeline.raw_objects ORDER BY last_position DESC LIMIT 1"
    )
    row = await cursor.fetchone()
    if row is None:
        return {}
    offsets, sequences = row
    return {int(p): KafkaTail(next_offset=offsets[p], last_sequence=sequences[p]) for p in offsets}


async def recorded_ends(connection: AsyncConnection) -> tuple[Position, dict[int, int]] | None:
    """The last position in raw objects, and the sequence of each partition's last event there; None: no object yet."""
    cursor = await connection.execute(
        "SELECT last_position, kafka_end_sequences FROM pipeline.raw_objects ORDER BY last_position DESC LIMIT 1"
    )
    row = await cursor.fetchone()
    return None if row is None else (Position.parse(row[0]), {int(p): sequence for p, sequence in row[1].items()})


async def commit_raw_object(connection: AsyncConnection, slot: str, epoch: int, raw: RawObject) -> int:
    """Let `raw` exist; returns its id. Raises FencedError when its predecessor is not the ledger's tail.

    Or when another streamer works in a later `epoch`: it reads another history of the database.

    One transaction: the tail moves, the object and its counts appear, or nothing does.
    """
    async with connection.transaction():
        cursor = await connection.execute(
            "UPDATE pipeline.stream_state SET last_position = %s, updated_at = now()"
            " WHERE slot = %s AND epoch = %s AND last_position IS NOT DISTINCT FROM %s",
            (str(raw.last_position), slot, epoch, _text(raw.previous_position)),
        )
        _one(cursor.rowcount)
        return await insert_raw_object(connection, raw)


async def insert_raw_object(connection: AsyncConnection, raw: RawObject, exported_at: datetime | None = None) -> int:
    """Enter `raw` and its counts, inside the caller's transaction; returns its id. `exported_at`: None is now."""
    offsets, sequences = tail_columns(raw.kafka_tails)
    cursor = await connection.execute(
        "INSERT INTO pipeline.raw_objects (bucket, key, previous_position, first_position, last_position,"
        " kafka_end_offsets, kafka_end_sequences, events, bytes, sha256, min_commit_time, max_commit_time, exported_at)"
        " VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, coalesce(%s, now())) RETURNING id",
        (
            raw.bucket,
            raw.key,
            _text(raw.previous_position),
            str(raw.first_position),
            str(raw.last_position),
            offsets,
            sequences,
            raw.events,
            raw.bytes,
            raw.sha256,
            raw.min_commit_time,
            raw.max_commit_time,
            exported_at,
        ),
    )
    row = await cursor.fetchone()
    assert row is not None
    counts = [(hour, client, events) for (hour, client), events in raw.counts.items()]
    await connection.execute(
        "INSERT INTO pipeline.raw_counts (raw_object_id, hour, source_client_id, events)"
        " SELECT %s, * FROM unnest(%s::timestamptz[], %s::text[], %s::bigint[])",
        (row[0], *([count[column] for count in counts] for column in range(3))),
    )
    return int(row[0])


def tail_columns(tails: Mapping[int, KafkaTail]) -> tuple[Jsonb, Jsonb]:
    """`tails` as the columns kafka_end_offsets and kafka_end_sequences."""
    return (
        Jsonb({str(p): tail.next_offset for p, tail in tails.items()}),
        Jsonb({str(p): tail.last_sequence for p, tail in tails.items()}),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class RawObjectRef:
    """Where a raw object lies and what it must look like."""

    id: int
    bucket: str
    key: str
    first_position: str
    last_position: str
    events: int
    sha256: str


async def raw_object_refs(
    connection: AsyncConnection, condition: LiteralString, values: Sequence[object], *, limit: int | None = None
) -> list[RawObjectRef]:
    """Raw objects, in order, for which `condition` holds: SQL about the row `o`, with a placeholder for each value."""
    async with connection.cursor(row_factory=class_row(RawObjectRef)) as cursor:
        await cursor.execute(
            "SELECT o.id, o.bucket, o.key, o.first_position, o.last_position, o.events, o.sha256"  # noqa: S608 - literals
            f" FROM pipeline.raw_objects o WHERE {condition} ORDER BY o.first_position LIMIT %s",
            (*values, limit),
        )
        return await cursor.fetchall()


async def unstamped_objects(connection: AsyncConnection) -> AsyncIterator[RawObjectRef]:
    """Raw objects whose rows don't carry raw_exported_at yet, oldest first; no transaction is open between two."""
    after = str(ZERO)
    while True:
        page = await raw_object_refs(
            connection, "o.stamped_at IS NULL AND o.first_position > %s", (after,), limit=_PAGE
        )
        for ref in page:
            yield ref
        if len(page) < _PAGE:
            return
        after = page[-1].first_position


def _one(rows: int) -> None:
    if rows != 1:
        raise FencedError(
            "the ledger's tail has moved: another streamer wrote there",
            hint="this process stops; the one that holds the slot goes on",
        )


def _text(position: Position | None) -> str | None:
    return None if position is None else str(position)
