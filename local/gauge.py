"""How far the pipeline is, read from the ledger: what the live view shows, and when a drain is complete."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

import psycopg
from psycopg.rows import class_row

_COUNTS = """
SELECT (SELECT coalesce(sum(events), 0)::bigint FROM pipeline.raw_objects) AS raw,
       (SELECT max(max_commit_time) FROM pipeline.raw_objects) AS raw_until,
       (SELECT key FROM pipeline.raw_objects ORDER BY id DESC LIMIT 1) AS raw_key,
       counts.*,
       (SELECT max(max_commit_time) FROM pipeline.processed_objects) AS processed_until,
       (SELECT key FROM pipeline.processed_objects WHERE kind = 'client' ORDER BY id DESC LIMIT 1) AS processed_key,
       delivered.*,
       (SELECT key FROM pipeline.delivery_files WHERE state = 'delivered' ORDER BY id DESC LIMIT 1) AS delivered_key,
       (SELECT count(*) FROM pipeline.sync_runs WHERE status <> 'finished') AS open_runs,
       (SELECT coalesce(sum(CASE WHEN deleted_at IS NULL THEN deleted_rows ELSE events END), 0)::bigint
          FROM pipeline.raw_objects) AS deleted,
       (SELECT max(max_commit_time) FROM pipeline.raw_objects WHERE deleted_at IS NOT NULL) AS deleted_until
  FROM (SELECT coalesce(sum(events) FILTER (WHERE disposition <> 'repeat'), 0)::bigint AS processed,
               coalesce(sum(events) FILTER (WHERE disposition = 'out'), 0)::bigint AS out,
               coalesce(sum(events) FILTER (WHERE disposition = 'dropped_consent'), 0)::bigint AS dropped,
               coalesce(sum(events) FILTER (WHERE disposition = 'quarantine'), 0)::bigint AS quarantined,
               coalesce(sum(events) FILTER (WHERE disposition IN ('held', 'dead_letter')), 0)::bigint AS set_aside
          FROM pipeline.chunk_counts) counts,
       (SELECT coalesce(sum(f.events + f.dropped_at_delivery) FILTER (WHERE r.status = 'finished'), 0)::bigint
                   AS delivered,
               max(f.last_commit_time) AS delivered_until
          FROM pipeline.delivery_files f JOIN pipeline.sync_runs r ON r.id = f.run_id
         WHERE f.state = 'delivered') delivered
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Gauge:
    """Events counted at each stage since the beginning, the newest commit time there, and the newest object's key."""

    raw: int
    raw_until: datetime | None
    raw_key: str | None
    processed: int
    out: int
    dropped: int
    quarantined: int
    set_aside: int
    processed_until: datetime | None
    processed_key: str | None
    delivered: int
    delivered_until: datetime | None
    delivered_key: str | None
    open_runs: int
    deleted: int
    """Rows that left events_log, because their raw object was read back."""
    deleted_until: datetime | None

    def is_drained(self, inserted: int) -> bool:
        """Everything that was inserted is through: delivered, or counted as what nobody may receive."""
        return self.raw == self.processed == inserted and self.delivered == self.out and not self.open_runs

    def is_clean(self, inserted: int) -> bool:
        """Everything that was inserted has left events_log."""
        return self.deleted == inserted

    @property
    def balances(self) -> bool:
        """Every event that was processed has exactly one fate, and no more were delivered than had that fate.

        `processed` may lead `raw`: an event is in Kafka before its raw file closes.
        """
        settled = self.out + self.dropped + self.quarantined + self.set_aside
        return self.processed == settled and self.delivered <= self.out


async def read(connection: psycopg.AsyncConnection) -> Gauge:
    """One look at the ledger: a single statement, so all counts are of one moment."""
    async with connection.cursor(row_factory=class_row(Gauge)) as cursor:
        await cursor.execute(_COUNTS)
        found = await cursor.fetchone()
    assert found is not None
    return found
