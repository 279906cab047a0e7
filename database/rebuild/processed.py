"""Chunks: found by their records in the processed bucket, put into their order, and entered into the ledger."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from psycopg import AsyncConnection

from database.ledger import chunks
from database.ledger.chunks import ChunkCommit, ConsumerPosition
from database.ledger.records import CHUNKS, decode_chunk
from database.rebuild.choose import Step, choose
from database.rebuild.report import Report
from pipeline import logs
from pipeline.errors import PermanentError, PoisonError
from pipeline.s3 import ObjectStore

log = logs.get(__name__)

READ_AT_ONCE = 64

TopicPartition = tuple[str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class ChunkFound:
    """A chunk's record and when it was written."""

    key: str
    modified_at: datetime
    commit: ChunkCommit


async def restore(
    ledger: AsyncConnection, bucket: ObjectStore, delivered: frozenset[str], report: Report
) -> list[ChunkFound]:
    """Enter every chunk that was committed and where its partition stands after the last; returns those entered.

    `delivered`: keys of processed objects that stand in the plan of a delivery, which proves their chunk.
    """
    cursor = await ledger.execute("SELECT id FROM pipeline.chunks")
    known = {row[0] for row in await cursor.fetchall()}
    report.known["chunks"] = len(known)
    by_partition: dict[TopicPartition, list[ChunkFound]] = defaultdict(list)
    for found in await _found(bucket, report):
        by_partition[found.commit.topic, found.commit.partition].append(found)
    stands = {topic: await chunks.stands(ledger, topic) for topic in {topic for topic, _ in by_partition}}
    entered: list[ChunkFound] = []
    for partition, records in sorted(by_partition.items()):
        taken, stand = _committed(partition, records, known, delivered, report)
        for found in taken:
            if found.commit.id not in known:
                await chunks.insert_chunk(ledger, found.commit, found.modified_at)
                entered.append(found)
        before = stands[partition[0]].get(partition[1])
        if before is None:
            await _set_retired(ledger, partition, taken[0].commit.before.last_sequence + 1)
        if before is None or _order(_place(stand)) > _order(_place(before)):  # repeats move the offset alone
            await _set_stand(ledger, partition, stand)
    report.restored["chunks"] = len(entered)
    report.restored["processed objects"] = sum(len(found.commit.objects) for found in entered)
    return entered


def _committed(
    partition: TopicPartition,
    records: Sequence[ChunkFound],
    known: set[UUID],
    delivered: frozenset[str],
    report: Report,
) -> tuple[list[ChunkFound], ConsumerPosition]:
    """The partition's chunks on the way from its first to its last, and where it stands then."""
    steps = [
        Step(
            item=found,
            before=_place(found.commit.before),
            after=_place(found.commit.after),
            is_proven=found.commit.id in known or any(item.key in delivered for item in found.commit.objects),
        )
        for found in records
    ]
    way = choose(steps, order=_order)
    name = f"{partition[0]}-{partition[1]}"
    for found in way.left:
        report.never_committed += [found.key, *(item.key for item in found.commit.objects)]
    for found in way.conflicts:
        report.doubt(f"{name}: chunk {found.commit.id} was committed, but lies on no way with the others")
    for end, begin in way.gaps:
        report.doubt(
            f"{name}: no record of the chunks between (offset, sequence) {end} and {begin}; they count as processed:"
            " a replay of their hours makes good for what is missing"
        )
    taken = list(way.taken)
    return taken, taken[-1].commit.after


def _place(stand: ConsumerPosition) -> Hashable:
    return stand.next_offset, stand.last_sequence


def _order(place: Any) -> tuple[int, int]:
    next_offset, last_sequence = place
    return last_sequence, next_offset


async def _found(bucket: ObjectStore, report: Report) -> list[ChunkFound]:
    listed = [item async for item in bucket.list(CHUNKS)]
    slots = asyncio.Semaphore(READ_AT_ONCE)

    async def read(key: str, modified_at: datetime) -> ChunkFound | None:
        try:
            async with slots:
                return ChunkFound(key=key, modified_at=modified_at, commit=decode_chunk(await bucket.get(key)))
        except (PoisonError, PermanentError):
            report.doubt(f"{key} can't be read: its chunk is not restored")
            return None

    async with asyncio.TaskGroup() as tasks:
        reads = [tasks.create_task(read(item.key, item.modified_at)) for item in listed]
    log.info("database.rebuild.chunks", records=len(reads))
    return [found for task in reads if (found := task.result()) is not None]


async def _set_retired(ledger: AsyncConnection, partition: TopicPartition, events: int) -> None:
    """What retention took before the first chunk of which there is a record."""
    if events > 0:
        await ledger.execute(
            "INSERT INTO pipeline.retired_counts (topic, partition, events) VALUES (%s, %s, %s)", (*partition, events)
        )


async def _set_stand(ledger: AsyncConnection, partition: TopicPartition, stand: ConsumerPosition) -> None:
    await ledger.execute(
        "INSERT INTO pipeline.consumer_positions (topic, partition, next_offset, last_sequence, last_position)"
        " VALUES (%s, %s, %s, %s, %s) ON CONFLICT (topic, partition) DO UPDATE SET next_offset = excluded.next_offset,"
        " last_sequence = excluded.last_sequence, last_position = excluded.last_position, updated_at = now()",
        (*partition, stand.next_offset, stand.last_sequence, str(stand.last_position)),
    )
