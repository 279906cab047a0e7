"""Export, processing, delivery and clean-up in one document, with the lag of every stage: for GET /pipeline/status."""

from __future__ import annotations

from typing import Any

from psycopg import AsyncConnection
from psycopg.rows import dict_row

from database.balance import Window, by_kind, imbalances, to_json
from database.translate import translated

_STAGES = {
    "export": """
        SELECT count(*) AS objects, coalesce(sum(events), 0)::bigint AS events,
               max(max_commit_time) AS until, max(exported_at) AS last_at,
               (SELECT state FROM pipeline.stream_state WHERE slot = %(slot)s) AS state,
               (SELECT extract(epoch FROM clock_timestamp() - caught_up_at)::float8
                  FROM pipeline.stream_state WHERE slot = %(slot)s) AS lag_seconds
          FROM pipeline.raw_objects""",
    "processing": """
        SELECT (SELECT count(*) FROM pipeline.chunks) AS chunks,
               coalesce(sum(events) FILTER (WHERE disposition <> 'repeat'), 0)::bigint AS events,
               coalesce(sum(events) FILTER (WHERE disposition = 'out'), 0)::bigint AS out,
               coalesce(sum(events) FILTER (WHERE disposition = 'dropped_consent'), 0)::bigint AS dropped_consent,
               coalesce(sum(events) FILTER (WHERE disposition = 'quarantine'), 0)::bigint AS quarantine,
               coalesce(sum(events) FILTER (WHERE disposition = 'held'), 0)::bigint AS held,
               coalesce(sum(events) FILTER (WHERE disposition = 'dead_letter'), 0)::bigint AS dead_letter,
               coalesce(sum(events) FILTER (WHERE disposition = 'expired'), 0)::bigint AS expired,
               coalesce(sum(events) FILTER (WHERE disposition = 'repeat'), 0)::bigint AS repeat,
               (SELECT max(committed_at) FROM pipeline.chunks) AS last_at,
               coalesce((SELECT extract(epoch FROM clock_timestamp() - min(r.min_commit_time))::float8
                  FROM pipeline.raw_objects r
                 WHERE EXISTS (SELECT FROM jsonb_each_text(r.kafka_end_sequences) AS e (partition, last_sequence)
                       LEFT JOIN pipeline.consumer_positions c
                         ON c.topic = %(topic)s AND c.partition = e.partition::int
                       WHERE e.last_sequence::bigint > coalesce(c.last_sequence, -1))), 0) AS lag_seconds
          FROM pipeline.chunk_counts""",
    "delivery": """
        SELECT count(*) FILTER (WHERE f.state = 'delivered') AS files,
               coalesce(sum(f.events) FILTER (WHERE f.state = 'delivered'), 0)::bigint AS events,
               coalesce(sum(f.dropped_at_delivery) FILTER (WHERE f.state = 'delivered'), 0)::bigint AS dropped,
               (SELECT count(*) FROM pipeline.sync_runs WHERE status = 'failed') AS failed_runs,
               (SELECT max(finished_at) FROM pipeline.sync_runs) AS last_at, p.events AS pending_events,
               coalesce(extract(epoch FROM clock_timestamp() - p.oldest)::float8, 0) AS lag_seconds
          FROM (SELECT coalesce(sum(o.events), 0)::bigint AS events, min(o.min_commit_time) AS oldest
                  FROM pipeline.processed_objects o
                 WHERE o.kind = 'client' AND o.superseded_by IS NULL
                   AND NOT EXISTS (SELECT FROM pipeline.delivery_members m JOIN pipeline.delivery_files d
                                   ON d.id = m.file_id
                                   WHERE m.processed_object_id = o.id AND d.state = 'delivered')) p
          LEFT JOIN pipeline.delivery_files f ON true GROUP BY p.events, p.oldest""",
    "cleanup": """
        SELECT count(*) FILTER (WHERE verified_at IS NULL) AS unverified,
               count(*) FILTER (WHERE verified_at IS NOT NULL AND stamped_at IS NULL) AS unstamped,
               count(*) FILTER (WHERE stamped_at IS NOT NULL AND deleted_at IS NULL) AS waiting,
               count(*) FILTER (WHERE cleanup_problem IS NOT NULL AND deleted_at IS NULL) AS refused,
               coalesce(sum(deleted_rows), 0)::bigint AS deleted_events, max(deleted_at) AS last_at,
               coalesce(extract(epoch FROM clock_timestamp()
                   - min(exported_at) FILTER (WHERE deleted_at IS NULL))::float8, 0) AS lag_seconds
          FROM pipeline.raw_objects""",
}


async def pipeline_status(connection: AsyncConnection, *, slot: str, topic: str, window: Window) -> dict[str, Any]:
    """The stages and the balance. Times are datetimes, lags seconds (None: nobody can tell). Raises TransientError.

    `lag_seconds`: export, since everything that was committed is in raw objects; processing and delivery, age of the
    oldest event that waits for it; clean-up, age of the oldest raw object whose rows are not deleted.
    """
    status: dict[str, Any] = {}
    with translated("LEDGER_DATABASE_URL"):
        async with connection.transaction(), connection.cursor(row_factory=dict_row) as cursor:
            await cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
            for stage, query in _STAGES.items():
                await cursor.execute(query.encode(), {"slot": slot, "topic": topic})
                status[stage] = await cursor.fetchone()
    found = await imbalances(connection, window, slot=slot, topic=topic)
    status["balance"] = {"balances": not found, "kinds": by_kind(found), "imbalances": to_json(found[:100])}
    return status
