"""Reconciliation: whether the ledger balances, as one question at one watermark. Each imbalance names its objects.

Exact wherever a number can't be in motion. Sequences are dense, so each partition's chunks must add up to its last
sequence at any time. Hours are compared by bounds: what is in raw objects that aren't processed to their end may still
come, and what Kafka has beyond the last raw object may already be processed; both are nothing for an hour that is over.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from importlib import resources
from typing import Any

from psycopg import AsyncConnection, IsolationLevel
from psycopg.rows import dict_row

from database.translate import translated

MOST_NAMED = 20
"""Examples of each kind that are named; all are counted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """Limits of the comparison by hour: `since` included, `until` not; None: no limit."""

    since: datetime | None = None
    until: datetime | None = None
    client_id: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Imbalance:
    """Something that doesn't add up."""

    kind: str
    """A word of `KINDS`."""
    subject: str
    """The object's key, the chunk, the partition, the hour and client, or the run."""
    position: str = ""
    expected: str = ""
    found: str = ""

    def __str__(self) -> str:
        where = f" at {self.position}" if self.position else ""
        return f"{self.kind}: {self.subject}{where}: {self.expected} expected, {self.found} found"


KINDS = (
    "raw_chain", "raw_overlap", "raw_tail", "raw_count", "raw_double", "raw_unsent", "partition_count", "chunk_gap",
    "chunk_overlap", "chunk_end", "chunk_object", "hour_count", "delivery_count", "delivery_unfinished",
    "delivery_changed", "manifest_count", "cleanup_refused", "deleted_unverified", "row_not_exported",
    "raw_missing", "raw_changed", "raw_events", "processed_missing", "processed_changed", "processed_double",
    "processed_unknown", "event_missing", "manifest_missing", "manifest_changed",
)  # fmt: skip


async def imbalances(connection: AsyncConnection, window: Window, *, slot: str, topic: str) -> list[Imbalance]:
    """Everything in the ledger that doesn't add up, in the order of the pipeline. Empty: it balances.

    One snapshot: what is committed meanwhile is not seen by halves. Raises TransientError.
    """
    values = {
        "slot": slot,
        "topic": topic,
        "since": window.since,
        "until": window.until,
        "client_id": window.client_id,
        "whole": window.since is None and window.until is None,
    }
    found: list[Imbalance] = []
    with translated("LEDGER_DATABASE_URL"):
        await connection.set_isolation_level(IsolationLevel.REPEATABLE_READ)
        await connection.set_read_only(True)
        try:
            async with connection.transaction(), connection.cursor(row_factory=dict_row) as cursor:
                for query in queries():
                    await cursor.execute(query.encode(), values)
                    found += [Imbalance(**row) for row in await cursor.fetchall()]
        finally:
            await connection.set_read_only(None)
            await connection.set_isolation_level(None)
    return found


def queries() -> list[str]:
    """The statements of balance.sql: each gives rows of (kind, subject, position, expected, found)."""
    text = (resources.files("database") / "balance.sql").read_text()
    return [part.strip() for part in text.split(";\n") if part.strip()]


async def unexported_rows(
    source: AsyncConnection, ledger: AsyncConnection, *, slot: str, grace_seconds: float = 300
) -> list[Imbalance]:
    """Rows of events_log that are in no raw object, though everything that was committed with them is.

    A row without a stamp is in none when it is older, by `grace_seconds`, than all that isn't stamped yet and than
    what the streamer says to have exported.
    """
    with translated("LEDGER_DATABASE_URL"):
        cursor = await ledger.execute(
            "SELECT least((SELECT caught_up_at FROM pipeline.stream_state WHERE slot = %s AND state = 'streaming'),"
            " (SELECT min(min_commit_time) FROM pipeline.raw_objects WHERE stamped_at IS NULL))"
            " - make_interval(secs => %s) WHERE EXISTS (SELECT FROM pipeline.stream_state"
            " WHERE slot = %s AND state = 'streaming' AND caught_up_at IS NOT NULL)",
            (slot, grace_seconds, slot),
        )
        row = await cursor.fetchone()
    if row is None:
        return []
    with translated("DATABASE_URL"):
        cursor = await source.execute(
            "SELECT count(*), (array_agg(id ORDER BY id))[1:%s] FROM events_log"
            " WHERE raw_exported_at IS NULL AND processed_at IS NULL AND created_at < %s",
            (MOST_NAMED, row[0]),
        )
        counted = await cursor.fetchone()
    if counted is None or not counted[0]:
        return []
    ids = ", ".join(str(id_) for id_ in counted[1])
    return [
        Imbalance(
            kind="row_not_exported", subject=f"events_log id {ids}", expected="0 rows", found=f"{counted[0]} rows"
        )
    ]


def by_kind(found: Sequence[Imbalance]) -> dict[str, int]:
    """How many there are of each kind."""
    counts: dict[str, int] = {}
    for item in found:
        counts[item.kind] = counts.get(item.kind, 0) + 1
    return counts


def to_json(found: Sequence[Imbalance]) -> list[dict[str, Any]]:
    """For GET /pipeline/status and --json."""
    return [
        {
            "kind": item.kind,
            "subject": item.subject,
            "position": item.position,
            "expected": item.expected,
            "found": item.found,
        }
        for item in found
    ]
