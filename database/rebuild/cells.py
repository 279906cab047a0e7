"""Revisions of cells by replays and releases: applied again, in the order of their numbers, as the first time.

A revision's record is written before its commit. Of two that supersede one object only one was committed: the one whose
own objects were delivered or superseded later, else the later one; both hold the same events.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from psycopg import AsyncConnection

from database.ledger.records import REVISIONS, RevisionRecord, decode_revision
from database.ledger.revisions import Revision, supersede
from database.rebuild.report import Report
from pipeline.errors import PermanentError, PoisonError
from pipeline.s3 import ObjectStore

READ_AT_ONCE = 32


async def read(bucket: ObjectStore, report: Report) -> list[RevisionRecord]:
    """All records of revisions, in the order of their numbers."""
    keys = [item.key async for item in bucket.list(REVISIONS)]
    slots = asyncio.Semaphore(READ_AT_ONCE)

    async def one(key: str) -> RevisionRecord | None:
        try:
            async with slots:
                return decode_revision(await bucket.get(key))
        except (PoisonError, PermanentError):
            report.doubt(f"{key} can't be read: what it replaced stays as it was")
            return None

    async with asyncio.TaskGroup() as tasks:
        reads = [tasks.create_task(one(key)) for key in keys]
    return sorted((found for task in reads if (found := task.result())), key=lambda record: record.id)


def committed(
    records: Sequence[RevisionRecord], known: frozenset[int], delivered: frozenset[str]
) -> list[RevisionRecord]:
    """Those that were committed, see the module. Pure. `known`: numbers that the ledger has."""
    used = delivered.union(*(record.superseded for record in records)) if records else delivered
    winners: dict[str, tuple[bool, int]] = {}

    def rank(record: RevisionRecord) -> tuple[bool, int]:
        return record.id in known or any(new.object.key in used for new in record.objects), record.id

    for record in records:
        for key in record.superseded:
            winners[key] = max(winners.get(key, (False, -1)), rank(record))
    return [record for record in records if all(winners[key] == rank(record) for key in record.superseded)]


async def restore(
    ledger: AsyncConnection, records: Sequence[RevisionRecord], delivered: frozenset[str], report: Report
) -> None:
    """Apply what the ledger lacks. Files with superseded members get the new ones, to be delivered again."""
    cursor = await ledger.execute("SELECT id FROM pipeline.cell_revisions")
    known = frozenset(row[0] for row in await cursor.fetchall())
    report.known["revisions"] = len(known)
    for record in committed(records, known, delivered):
        if record.id in known:
            continue
        cursor = await ledger.execute(
            "SELECT id FROM pipeline.processed_objects WHERE key = ANY(%s)", (list(record.superseded),)
        )
        ids = [row[0] for row in await cursor.fetchall()]
        revision = Revision(
            id=record.id,
            cause=record.cause,
            client_id=record.client_id,
            hour=record.hour,
            superseded=ids,
            removed=record.removed,
            added=record.added,
            objects=record.objects,
            summary=record.summary,
        )
        try:
            if len(ids) != len(record.superseded):
                raise PermanentError("objects that it replaced are not there")
            await supersede(ledger, revision)
        except PermanentError as error:
            report.doubt(f"revision {record.id} of {record.client_id} {record.hour:%Y-%m-%dT%HZ}: {error.args[0]}")
            continue
        report.restored["revisions"] += 1
    if records and not report.dry_run:  # a counter is not taken back
        await ledger.execute(
            "SELECT setval(pg_get_serial_sequence('pipeline.cell_revisions', 'id'), greatest(%s,"
            " (SELECT coalesce(max(id), 1) FROM pipeline.cell_revisions)))",
            (records[-1].id,),
        )
