"""The figures behind the overview and the charts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from psycopg import AsyncConnection
from psycopg.rows import class_row

RATE_SECONDS = 300
CHART_HOURS = 48


@dataclass(frozen=True, slots=True, kw_only=True)
class Rates:
    """Events a second at each stage, over the last `RATE_SECONDS`."""

    exported: float
    processed: float
    delivered: float
    deleted: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Failing:
    """A client whose delivery failed at its last attempt."""

    client_id: str
    error_class: str | None
    error: str | None
    attempts: int
    since: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Hour:
    """A point of a chart: events, or seconds, of an hour."""

    hour: datetime
    value: float


async def rates(connection: AsyncConnection) -> Rates:
    """How fast everything goes."""
    since = "clock_timestamp() - make_interval(secs => %(seconds)s)"
    query = f"""
        SELECT (SELECT coalesce(sum(events), 0) FROM pipeline.raw_objects WHERE exported_at > {since})::float8
                   / %(seconds)s AS exported,
               (SELECT coalesce(sum(n.events), 0) FROM pipeline.chunks c
                  JOIN pipeline.chunk_counts n ON n.chunk_id = c.id
                 WHERE c.committed_at > {since} AND n.disposition <> 'repeat')::float8 / %(seconds)s AS processed,
               (SELECT coalesce(sum(events), 0) FROM pipeline.delivery_files
                 WHERE state = 'delivered' AND delivered_at > {since})::float8 / %(seconds)s AS delivered,
               (SELECT coalesce(sum(deleted_rows), 0) FROM pipeline.raw_objects
                 WHERE deleted_at > {since})::float8 / %(seconds)s AS deleted
    """  # noqa: S608 - a constant
    async with connection.cursor(row_factory=class_row(Rates)) as cursor:
        await cursor.execute(query.encode(), {"seconds": RATE_SECONDS})
        found = await cursor.fetchone()
    assert found is not None
    return found


async def failing(connection: AsyncConnection) -> list[Failing]:
    """Clients whose delivery failed and is tried again."""
    async with connection.cursor(row_factory=class_row(Failing)) as cursor:
        await cursor.execute(
            "SELECT client_id, error_class, error, attempts, started_at AS since FROM pipeline.sync_runs"
            " WHERE status = 'failed' ORDER BY client_id LIMIT 100"
        )
        return await cursor.fetchall()


async def failing_among(connection: AsyncConnection, client_ids: Sequence[str]) -> set[str]:
    """Those of these clients whose delivery failed and is tried again."""
    cursor = await connection.execute(
        "SELECT client_id FROM pipeline.sync_runs WHERE status = 'failed' AND client_id = ANY(%s)", (list(client_ids),)
    )
    return {client_id for (client_id,) in await cursor.fetchall()}


async def held(connection: AsyncConnection) -> dict[str, int]:
    """Events that wait because their client's settings can't be used, by client id."""
    cursor = await connection.execute(
        "SELECT client_id, sum(events)::bigint FROM pipeline.processed_objects"
        " WHERE kind = 'held' AND superseded_by IS NULL GROUP BY client_id ORDER BY client_id LIMIT 100"
    )
    return dict(await cursor.fetchall())


async def exported_by_hour(connection: AsyncConnection) -> list[Hour]:
    """Events of all clients by the hour of their commit, each of the last hours."""
    return await _hours(
        connection,
        "SELECT hour, sum(events) AS value FROM pipeline.raw_counts"
        " WHERE hour > date_trunc('hour', now()) - make_interval(hours => %(hours)s) GROUP BY hour",
        {},
    )


async def events_by_hour(connection: AsyncConnection, client_id: str) -> list[Hour]:
    """A client's events by the hour of their commit."""
    return await _hours(
        connection,
        "SELECT hour, sum(events) AS value FROM pipeline.processed_objects WHERE kind = 'client'"
        " AND superseded_by IS NULL AND client_id = %(client_id)s"
        " AND hour > date_trunc('hour', now()) - make_interval(hours => %(hours)s) GROUP BY hour",
        {"client_id": client_id},
    )


async def lag_by_hour(connection: AsyncConnection, client_id: str) -> list[Hour]:
    """By the hour of delivery: how long after its newest event the slowest file arrived, in seconds."""
    return await _hours(
        connection,
        "SELECT date_trunc('hour', f.delivered_at) AS hour,"
        " max(extract(epoch FROM f.delivered_at - f.last_commit_time)) AS value"
        " FROM pipeline.sync_runs r JOIN pipeline.delivery_files f ON f.run_id = r.id"
        " WHERE r.client_id = %(client_id)s AND f.state = 'delivered' AND f.last_commit_time IS NOT NULL"
        " AND f.delivered_at > date_trunc('hour', now()) - make_interval(hours => %(hours)s - 1) GROUP BY 1",
        {"client_id": client_id},
    )


async def _hours(connection: AsyncConnection, query: str, values: dict[str, str]) -> list[Hour]:
    """One point for each of the last hours, 0 where `query` has none."""
    whole = f"""
        SELECT h.hour, coalesce(q.value, 0)::float8 AS value FROM generate_series(
        date_trunc('hour', now()) - make_interval(hours => %(hours)s - 1), date_trunc('hour', now()), '1 hour')
        AS h (hour) LEFT JOIN ({query}) q ON q.hour = h.hour ORDER BY 1
    """  # noqa: S608 - constants
    async with connection.cursor(row_factory=class_row(Hour)) as cursor:
        await cursor.execute(whole.encode(), {"hours": CHART_HOURS, **values})
        return await cursor.fetchall()
