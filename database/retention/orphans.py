"""Objects in the buckets that no row of the ledger names: uploaded and never committed, or marked as removed.

Only what the ledger has gone past is an orphan. An object behind the ledger's end may be about to be committed, or the
ledger may have been set back: then it is what a rebuild needs.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime

from psycopg import AsyncConnection

from database.ledger.records import CHUNKS, LAYOUTS
from pipeline.s3 import Listed, ObjectStore

RAW = "raw-events/"
PROCESSED = ("processed-events/", "held/", "quarantine/", "dead-letters/", CHUNKS)
BATCH = 1000

MOST_SHARE = 0.2
FEWEST = 100
"""More orphans than this share of all that was listed, and than this number, can't be: the ledger is another one's."""

_RAW_KEY = re.compile(r".*/([0-9A-F]{8}-[0-9A-F]{16}-[0-9]{20})-[0-9A-F]{8}-[0-9A-F]{16}-[0-9]{20}\.ndjson\.gz")
_UUID = r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"
_OBJECT_KEY = re.compile(rf".*/hr=\d\d/(.+)-(\d+)-(\d{{20}})-({_UUID})\.ndjson\.gz")
_RECORD_KEY = re.compile(rf"{CHUNKS}(.+)/(\d+)/(\d{{20}})-({_UUID})\.json\.gz")


@dataclass(kw_only=True)
class Orphans:
    """What a bucket holds beside the ledger."""

    listed: int = 0
    found: list[Listed] = field(default_factory=list)

    @property
    def is_credible(self) -> bool:
        """So many can be orphans."""
        return len(self.found) <= max(FEWEST, MOST_SHARE * self.listed)


async def raw_orphans(connection: AsyncConnection, bucket: ObjectStore, before: datetime) -> Orphans:
    """Raw objects before the ledger's end that are none of its objects."""
    cursor = await connection.execute("SELECT max(last_position::text) FROM pipeline.raw_objects")
    row = await cursor.fetchone()
    tail = row[0] if row else None
    orphans = Orphans()
    batch: list[Listed] = []
    async for item in bucket.list(RAW):
        orphans.listed += 1
        match = _RAW_KEY.fullmatch(item.key)
        if tail and match and match[1] <= tail and not item.key.startswith(LAYOUTS) and item.modified_at < before:
            batch.append(item)
        if len(batch) >= BATCH:
            orphans.found += await _unknown(connection, "raw_objects", batch)
            batch = []
    orphans.found += await _unknown(connection, "raw_objects", batch)
    return orphans


async def processed_orphans(connection: AsyncConnection, bucket: ObjectStore, before: datetime) -> Orphans:
    """Objects and records of chunks that were never committed, of partitions that stand behind them by now."""
    cursor = await connection.execute("SELECT topic, partition, next_offset FROM pipeline.consumer_positions")
    stands = {(row[0], row[1]): row[2] for row in await cursor.fetchall()}
    orphans = Orphans()
    for prefix in PROCESSED:
        batch: list[Listed] = []
        async for item in bucket.list(prefix):
            orphans.listed += 1
            match = (_RECORD_KEY if prefix == CHUNKS else _OBJECT_KEY).fullmatch(item.key)
            if match is None or item.modified_at >= before:
                continue
            if int(match[3]) < stands.get((match[1], int(match[2])), 0):
                batch.append(item)
            if len(batch) >= BATCH:
                orphans.found += await _of_chunks(connection, prefix, batch)
                batch = []
        orphans.found += await _of_chunks(connection, prefix, batch)
    return orphans


async def _of_chunks(connection: AsyncConnection, prefix: str, batch: Sequence[Listed]) -> list[Listed]:
    if prefix != CHUNKS:
        return await _unknown(connection, "processed_objects", batch)
    ids = {item.key: match[4] for item in batch if (match := _RECORD_KEY.fullmatch(item.key))}
    cursor = await connection.execute(
        "SELECT id::text FROM pipeline.chunks WHERE id = ANY(%s::uuid[])", (list(ids.values()),)
    )
    known = {row[0] for row in await cursor.fetchall()}
    return [item for item in batch if ids[item.key] not in known]


async def _unknown(connection: AsyncConnection, table: str, batch: Sequence[Listed]) -> list[Listed]:
    """Those that no row names, or a row that is marked as removed: its deletion was cut short."""
    cursor = await connection.execute(
        f"SELECT key FROM pipeline.{table} WHERE key = ANY(%s) AND removed_at IS NULL",  # noqa: S608 - a constant
        ([item.key for item in batch],),
    )
    known = {row[0] for row in await cursor.fetchall()}
    return [item for item in batch if item.key not in known]
