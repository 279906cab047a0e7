"""Which client writes to which place: one at a time, so that no file of one takes the key of another's."""

from __future__ import annotations

from typing import NamedTuple

from psycopg import AsyncConnection


class Place(NamedTuple):
    """Where a client's files go. `endpoint` is '' for Amazon's."""

    endpoint: str
    bucket: str
    prefix: str


async def holder_of(connection: AsyncConnection, place: Place, client_id: str) -> str:
    """The client that holds `place`: from now on `client_id`, when nobody did."""
    await connection.execute(
        "INSERT INTO pipeline.destinations (endpoint, bucket, prefix, client_id) VALUES (%s, %s, %s, %s)"
        " ON CONFLICT DO NOTHING",
        (*place, client_id),
    )
    cursor = await connection.execute(
        "SELECT client_id FROM pipeline.destinations WHERE (endpoint, bucket, prefix) = (%s, %s, %s)", place
    )
    row = await cursor.fetchone()
    assert row is not None
    return str(row[0])


async def take_over(connection: AsyncConnection, place: Place, client_id: str, former: str) -> bool:
    """Let `client_id` hold what `former` has left without a delivery. False when there was one, or somebody was faster.

    Keys hold the minute of their run, so a file of `former` may have the key that `client_id` is about to write.
    """
    cursor = await connection.execute(
        "UPDATE pipeline.destinations d SET client_id = %(client_id)s, claimed_at = now()"
        " WHERE (endpoint, bucket, prefix) = (%(endpoint)s, %(bucket)s, %(prefix)s) AND client_id = %(former)s"
        " AND NOT EXISTS (SELECT FROM pipeline.sync_runs r LEFT JOIN pipeline.delivery_files f ON f.run_id = r.id"
        " LEFT JOIN pipeline.delivery_replacements p ON p.run_id = r.id WHERE r.client_id = d.client_id AND ("
        " (r.bucket = d.bucket AND r.prefix = d.prefix AND r.status = 'finished')"
        " OR (f.bucket = d.bucket AND starts_with(f.key, d.prefix || 'events/') AND f.state = 'delivered')"
        " OR (p.bucket = d.bucket AND starts_with(p.key, d.prefix || 'events/') AND p.state = 'delivered')))",
        {**place._asdict(), "client_id": client_id, "former": former},
    )
    return cursor.rowcount == 1
