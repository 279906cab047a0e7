"""Up to which time everything that was committed has been processed: what `complete_through` of a manifest promises."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from psycopg import AsyncConnection

COMMIT_JITTER = timedelta(seconds=5)
"""Commit times don't rise strictly with commit LSNs: concurrent transactions take the time before the LSN."""

_HOUR = timedelta(hours=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Frontier:
    """What is known about the way to one client's processed objects."""

    caught_up_at: datetime | None
    """Every commit before this time is in a raw object; None when nobody can tell, as during a snapshot."""
    first_unprocessed: datetime | None
    """The earliest commit in raw objects that aren't processed to their end."""
    first_held_hour: datetime | None
    """The earliest hour of which events of the client are held."""


def last_complete_hour(frontier: Frontier) -> datetime | None:
    """The start of the last hour of which nothing is missing; it and all hours before it are whole. None: no such."""
    if frontier.caught_up_at is None:
        return None
    bounds = [frontier.caught_up_at - COMMIT_JITTER]
    if frontier.first_unprocessed is not None:
        bounds.append(frontier.first_unprocessed)
    if frontier.first_held_hour is not None:
        bounds.append(frontier.first_held_hour)
    return min(bounds).replace(minute=0, second=0, microsecond=0) - _HOUR


async def frontier_of(connection: AsyncConnection, client_id: str, *, slot: str, topic: str) -> Frontier:
    """Read it in one snapshot. Ask before the client's objects are read: what is processed later only adds to them.

    Sequences rise with positions, so every raw object up to the last one that is wholly processed is so too. (Offsets
    begin anew with a topic that is made anew.)
    """
    cursor = await connection.execute(
        """
        WITH processed AS (
            SELECT r.last_position FROM pipeline.raw_objects r
            WHERE NOT EXISTS (
                SELECT FROM jsonb_each_text(r.kafka_end_sequences) AS e (partition, last_sequence)
                LEFT JOIN pipeline.consumer_positions c ON c.topic = %(topic)s AND c.partition = e.partition::int
                WHERE e.last_sequence::bigint > coalesce(c.last_sequence, -1))
            ORDER BY r.last_position DESC LIMIT 1)
        SELECT (SELECT caught_up_at FROM pipeline.stream_state WHERE slot = %(slot)s AND state = 'streaming'),
               (SELECT min(min_commit_time) FROM pipeline.raw_objects
                WHERE NOT EXISTS (SELECT FROM processed) OR last_position > (SELECT last_position FROM processed)),
               (SELECT min(hour) FROM pipeline.processed_objects
                WHERE kind = 'held' AND superseded_by IS NULL AND client_id = %(client_id)s)
        """,
        {"topic": topic, "slot": slot, "client_id": client_id},
    )
    row = await cursor.fetchone()
    assert row is not None
    return Frontier(caught_up_at=row[0], first_unprocessed=row[1], first_held_hour=row[2])
