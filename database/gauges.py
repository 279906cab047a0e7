"""What the ledger alone can tell, for alerts: lags, waiting events, failing deliveries. Shown by the cleaner."""

from __future__ import annotations

from psycopg import AsyncConnection

from pipeline import metrics

WINDOW = "2 days"
"""How far back waiting work is looked for. What waits for longer was an alert long before."""

_LAGS = f"""
    SELECT coalesce((SELECT extract(epoch FROM clock_timestamp() - caught_up_at)::float8
                       FROM pipeline.stream_state WHERE slot = %(slot)s), 0),
           coalesce((SELECT extract(epoch FROM clock_timestamp() - min(r.min_commit_time))::float8
                       FROM pipeline.raw_objects r
                      WHERE r.exported_at > clock_timestamp() - interval '{WINDOW}'
                        AND EXISTS (SELECT FROM jsonb_each_text(r.kafka_end_sequences) AS e (partition, last_sequence)
                                    LEFT JOIN pipeline.consumer_positions c
                                           ON c.topic = %(topic)s AND c.partition = e.partition::int
                                    WHERE e.last_sequence::bigint > coalesce(c.last_sequence, -1))), 0)"""  # noqa: S608 - our constant

_WAITING = f"""
    SELECT e.partition, greatest(max(e.last_sequence::bigint) - coalesce(max(c.last_sequence), -1), 0)
      FROM pipeline.raw_objects r
     CROSS JOIN LATERAL jsonb_each_text(r.kafka_end_sequences) AS e (partition, last_sequence)
      LEFT JOIN pipeline.consumer_positions c ON c.topic = %(topic)s AND c.partition = e.partition::int
     WHERE r.exported_at > clock_timestamp() - interval '{WINDOW}'
     GROUP BY e.partition"""  # noqa: S608 - our constant

_FAILING = """
    SELECT client_id, coalesce(error_class, ''), extract(epoch FROM clock_timestamp() - started_at)::float8
      FROM pipeline.sync_runs WHERE status = 'failed'"""


async def show(connection: AsyncConnection, *, slot: str, topic: str) -> None:
    """Set the gauges from the ledger. Raises psycopg's errors, and then none has changed."""
    names = {"slot": slot, "topic": topic}
    lags = await (await connection.execute(_LAGS.encode(), names)).fetchone()
    waiting = await (await connection.execute(_WAITING.encode(), names)).fetchall()
    failing = await (await connection.execute(_FAILING.encode())).fetchall()
    assert lags is not None  # one row, whatever there is
    for stage, seconds in zip(("export", "processing"), lags, strict=True):
        metrics.LEDGER_LAG_SECONDS.labels(stage).set(seconds)
    metrics.LEDGER_UNPROCESSED_EVENTS.clear()
    for partition, events in waiting:
        metrics.LEDGER_UNPROCESSED_EVENTS.labels(partition).set(events)
    metrics.LEDGER_FAILING_DELIVERY_SECONDS.clear()  # a client that is well again has no series
    for client_id, error_class, seconds in failing:
        metrics.LEDGER_FAILING_DELIVERY_SECONDS.labels(client_id, error_class).set(seconds)
