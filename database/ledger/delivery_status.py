"""How deliveries stand, client by client: for due decisions and for people."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from psycopg import AsyncConnection
from psycopg.rows import class_row, dict_row


@dataclass(frozen=True, slots=True, kw_only=True)
class SyncState:
    """What decides whether a client is due."""

    client_id: str
    last_finished_key: str | None
    open: bool
    """A run is unfinished."""
    under_way: bool
    """Somebody delivers it just now."""
    failed: bool
    """The unfinished run failed at its last attempt."""


async def sync_states(connection: AsyncConnection) -> dict[str, SyncState]:
    """By client id; clients without any run are missing."""
    async with connection.cursor(row_factory=class_row(SyncState)) as cursor:
        await cursor.execute(
            """
            WITH RECURSIVE clients AS (  -- one index probe per client, however many runs there are
                (SELECT client_id FROM pipeline.sync_runs ORDER BY client_id LIMIT 1)
                UNION ALL
                SELECT (SELECT r.client_id FROM pipeline.sync_runs r WHERE r.client_id > c.client_id
                        ORDER BY r.client_id LIMIT 1)
                FROM clients c WHERE c.client_id IS NOT NULL)
            SELECT c.client_id,
                   (SELECT r.run_key FROM pipeline.sync_runs r
                    WHERE r.client_id = c.client_id AND r.status = 'finished' ORDER BY r.id DESC LIMIT 1)
                       AS last_finished_key,
                   o.client_id IS NOT NULL AS open,
                   coalesce(o.owner IS NOT NULL AND o.lease_until > clock_timestamp(), false) AS under_way,
                   coalesce(o.status = 'failed', false) AS failed
            FROM clients c
            LEFT JOIN pipeline.sync_runs o ON o.client_id = c.client_id AND o.status <> 'finished'
            WHERE c.client_id IS NOT NULL
            """
        )
        return {state.client_id: state for state in await cursor.fetchall()}


async def last_runs(connection: AsyncConnection, client_ids: Sequence[str]) -> dict[str, dict[str, Any]]:
    """The newest run of each client, with the sums of its files; by client id."""
    async with connection.cursor(row_factory=dict_row) as cursor:
        await cursor.execute(
            """
            SELECT c.client_id, r.run_key, r.status, r.attempts, r.error_class, r.error, r.complete_through,
                   r.started_at, r.finished_at, f.files, f.files_delivered, f.events, f.bytes, f.dropped_at_delivery
            FROM unnest(%s::text[]) AS c (client_id)
            CROSS JOIN LATERAL (SELECT * FROM pipeline.sync_runs s WHERE s.client_id = c.client_id
                                ORDER BY s.id DESC LIMIT 1) r
            CROSS JOIN LATERAL (
                SELECT count(*)::bigint AS files,
                       count(*) FILTER (WHERE state = 'delivered')::bigint AS files_delivered,
                       coalesce(sum(events) FILTER (WHERE state = 'delivered'), 0)::bigint AS events,
                       coalesce(sum(bytes) FILTER (WHERE state = 'delivered'), 0)::bigint AS bytes,
                       coalesce(sum(dropped_at_delivery) FILTER (WHERE state = 'delivered'), 0)::bigint
                           AS dropped_at_delivery
                FROM pipeline.delivery_files d WHERE d.run_id = r.id) f
            """,
            (list(client_ids),),
        )
        return {row.pop("client_id"): row for row in await cursor.fetchall()}


async def pending_counts(connection: AsyncConnection) -> dict[str, dict[str, int]]:
    """What lies processed and undelivered, by client id: objects, events, bytes."""
    async with connection.cursor(row_factory=dict_row) as cursor:
        await cursor.execute(
            """
            SELECT o.client_id, count(*)::bigint AS objects, sum(o.events)::bigint AS events,
                   sum(o.bytes)::bigint AS bytes
            FROM pipeline.processed_objects o
            LEFT JOIN pipeline.delivery_members m ON m.processed_object_id = o.id
            LEFT JOIN pipeline.delivery_files f ON f.id = m.file_id
            WHERE o.kind = 'client' AND o.superseded_by IS NULL AND coalesce(f.state, 'planned') = 'planned'
            GROUP BY o.client_id
            """
        )
        return {row.pop("client_id"): row for row in await cursor.fetchall()}
