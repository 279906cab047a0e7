"""Rows of the ledger that are too old: the beginning of each chain, once all that it speaks of is gone.

What remains still balances: a partition's retired events are kept as one number, and hours before the horizon are not
compared any more. Each function deletes at most a batch, in one transaction of the caller's.
"""

from __future__ import annotations

from datetime import datetime

from psycopg import AsyncConnection

from database.ledger.records import chunk_key, manifest_key, plan_key

BATCH = 200
"""Chunks, objects or runs of one transaction: with a hundred counts each it takes a third of a second."""


async def set_horizon(connection: AsyncConnection, horizon: datetime) -> None:
    """Hours before `horizon` are no longer whole. It never goes back."""
    await connection.execute(
        "INSERT INTO pipeline.retention AS r (horizon) VALUES (%s)"
        " ON CONFLICT (only_row) DO UPDATE SET horizon = greatest(r.horizon, excluded.horizon)",
        (horizon,),
    )


async def retire_deliveries(connection: AsyncConnection, horizon: datetime) -> tuple[int, list[str]]:
    """Finished runs whose files' objects are gone, but each client's last: (how many, keys of their records in S3)."""
    cursor = await connection.execute(
        "SELECT s.id, s.client_id, s.run_key FROM pipeline.sync_runs s"
        " WHERE s.status = 'finished' AND s.finished_at < %s"
        " AND EXISTS (SELECT FROM pipeline.sync_runs n WHERE n.client_id = s.client_id AND n.id > s.id"
        "             AND n.status = 'finished')"
        " AND NOT EXISTS (SELECT FROM pipeline.delivery_files f JOIN pipeline.delivery_members m ON m.file_id = f.id"
        "                 JOIN pipeline.processed_objects o ON o.id = m.processed_object_id"
        "                 WHERE f.run_id = s.id AND o.removed_at IS NULL)"
        " AND NOT EXISTS (SELECT FROM pipeline.delivery_replacements p JOIN pipeline.delivery_files f"
        "                 ON f.id = p.file_id WHERE p.run_id = s.id AND f.run_id <> s.id)"
        " ORDER BY s.id LIMIT %s",
        (horizon, BATCH),
    )
    rows = await cursor.fetchall()
    ids = [row[0] for row in rows]
    for query in (
        "DELETE FROM pipeline.delivery_replacements p USING pipeline.delivery_files f"
        " WHERE f.id = p.file_id AND f.run_id = ANY(%s)",
        "DELETE FROM pipeline.delivery_members m USING pipeline.delivery_files f"
        " WHERE f.id = m.file_id AND f.run_id = ANY(%s)",
        "DELETE FROM pipeline.delivery_files WHERE run_id = ANY(%s)",
        "DELETE FROM pipeline.sync_runs WHERE id = ANY(%s)",
    ):
        await connection.execute(query, (ids,))
    keys = [key for _, client, run in rows for key in (plan_key(client, run), manifest_key(client, run))]
    return len(ids), keys


async def retire_chunks(connection: AsyncConnection, horizon: datetime) -> tuple[int, int, list[str]]:
    """The oldest chunks of each partition, never its last: (how many, events, keys of their records in S3)."""
    cursor = await connection.execute(
        "SELECT id, topic, partition, first_offset FROM ("
        " SELECT k.id, k.topic, k.partition, k.first_offset, k.next_offset, bool_and("
        "   NOT EXISTS (SELECT FROM pipeline.chunk_counts n WHERE n.chunk_id = k.id AND n.hour >= %(horizon)s)"
        "   AND NOT EXISTS (SELECT FROM pipeline.processed_objects o WHERE o.chunk_id = k.id AND (o.removed_at IS NULL"
        "     OR EXISTS (SELECT FROM pipeline.delivery_members m WHERE m.processed_object_id = o.id))))"
        '   OVER (PARTITION BY k.topic, k.partition ORDER BY k.last_position::text COLLATE "C", k.next_offset) AS old'
        " FROM pipeline.chunks k WHERE k.committed_at < %(horizon)s) k"
        " WHERE old AND EXISTS (SELECT FROM pipeline.consumer_positions c WHERE c.topic = k.topic"
        " AND c.partition = k.partition AND c.next_offset > k.next_offset) LIMIT %(limit)s",
        {"horizon": horizon, "limit": BATCH},
    )
    rows = await cursor.fetchall()
    ids = [row[0] for row in rows]
    cursor = await connection.execute(
        "WITH gone AS (SELECT k.topic, k.partition, sum(n.events)::bigint AS events FROM pipeline.chunks k"
        " JOIN pipeline.chunk_counts n ON n.chunk_id = k.id"
        " WHERE k.id = ANY(%s) AND n.disposition <> 'repeat' GROUP BY 1, 2),"
        " kept AS (INSERT INTO pipeline.retired_counts AS r (topic, partition, events) SELECT * FROM gone"
        " ON CONFLICT (topic, partition) DO UPDATE SET events = r.events + excluded.events)"
        " SELECT coalesce(sum(events), 0)::bigint FROM gone",
        (ids,),
    )
    counted = await cursor.fetchone()
    for table, column in (("processed_objects", "chunk_id"), ("chunk_counts", "chunk_id"), ("chunks", "id")):
        await connection.execute(f"DELETE FROM pipeline.{table} WHERE {column} = ANY(%s)", (ids,))  # noqa: S608
    return len(ids), counted[0] if counted else 0, [chunk_key(row[1], row[2], row[3], row[0]) for row in rows]


async def retire_raw_objects(connection: AsyncConnection, horizon: datetime) -> tuple[int, int]:
    """The oldest raw objects, never the last: (how many, events)."""
    cursor = await connection.execute(
        "SELECT id, events FROM (SELECT id, events, first_position, bool_and(removed_at IS NOT NULL"
        " AND max_commit_time < %s) OVER (ORDER BY first_position) AS old FROM pipeline.raw_objects) r"
        " WHERE old AND first_position < (SELECT max(first_position::text) FROM pipeline.raw_objects)"
        " ORDER BY first_position LIMIT %s",
        (horizon, BATCH),
    )
    rows = await cursor.fetchall()
    ids = [row[0] for row in rows]
    await connection.execute("DELETE FROM pipeline.raw_counts WHERE raw_object_id = ANY(%s)", (ids,))
    await connection.execute("DELETE FROM pipeline.raw_objects WHERE id = ANY(%s)", (ids,))
    return len(ids), sum(row[1] for row in rows)
