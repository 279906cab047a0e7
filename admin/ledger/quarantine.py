"""What lies in quarantine, by the names that the events came with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from psycopg import AsyncConnection
from psycopg.rows import class_row


@dataclass(frozen=True, slots=True, kw_only=True)
class Name:
    """Events that nobody was found for. `client_id`: the client that they name, which is unknown or inactive."""

    client_id: str
    site_id: str
    host: str
    events: int
    first_hour: datetime
    last_hour: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Stored:
    """A quarantine object, not yet counted."""

    id: int
    bucket: str
    key: str
    sha256: str
    events: int


_NAMES = """
    SELECT n.client_id, n.site_id, n.host, sum(n.events)::bigint AS events,
           min(o.hour) AS first_hour, max(o.hour) AS last_hour
    FROM pipeline.quarantine_names n JOIN pipeline.processed_objects o ON o.id = n.processed_object_id
    WHERE o.superseded_by IS NULL AND (%(search)s = '' OR n.client_id LIKE %(like)s OR n.site_id LIKE %(like)s
          OR n.host LIKE %(like)s)
    GROUP BY 1, 2, 3 ORDER BY events DESC, 1, 2, 3 LIMIT %(limit)s
"""


async def names(connection: AsyncConnection, *, search: str = "", limit: int = 200) -> list[Name]:
    """The names with the most events first."""
    escaped = search.replace("\\", "\\\\").replace("%", r"\%").replace("_", r"\_")
    async with connection.cursor(row_factory=class_row(Name)) as cursor:
        await cursor.execute(_NAMES.encode(), {"search": search, "like": f"%{escaped}%", "limit": limit})
        return await cursor.fetchall()


async def uncounted(connection: AsyncConnection, limit: int) -> list[Stored]:
    """Objects that are to be counted, oldest first."""
    async with connection.cursor(row_factory=class_row(Stored)) as cursor:
        await cursor.execute(
            "SELECT id, bucket, key, sha256, events FROM pipeline.processed_objects o"
            " WHERE kind = 'quarantine' AND superseded_by IS NULL AND NOT EXISTS"
            " (SELECT FROM pipeline.quarantine_names n WHERE n.processed_object_id = o.id) ORDER BY id LIMIT %s",
            (limit,),
        )
        return await cursor.fetchall()


async def totals(connection: AsyncConnection) -> tuple[int, int]:
    """Events in quarantine, and how many of them are not counted by name yet."""
    cursor = await connection.execute(
        "SELECT coalesce(sum(events), 0)::bigint, coalesce(sum(events) FILTER (WHERE NOT EXISTS (SELECT FROM"
        " pipeline.quarantine_names n WHERE n.processed_object_id = o.id)), 0)::bigint"
        " FROM pipeline.processed_objects o WHERE kind = 'quarantine' AND superseded_by IS NULL"
    )
    row = await cursor.fetchone()
    assert row is not None
    return int(row[0]), int(row[1])


async def add(connection: AsyncConnection, object_id: int, counts: Mapping[tuple[str, str, str], int]) -> None:
    """Note what an object holds; whoever counted it at the same time has noted the same."""
    rows: Sequence[tuple[int, str, str, str, int]] = [(object_id, *names, count) for names, count in counts.items()]
    async with connection.transaction(), connection.cursor() as cursor:
        await cursor.executemany(
            "INSERT INTO pipeline.quarantine_names (processed_object_id, client_id, site_id, host, events)"
            " VALUES (%s, %s, %s, %s, %s) ON CONFLICT DO NOTHING",
            rows,
        )


async def hours(connection: AsyncConnection, since: datetime | None) -> tuple[datetime, datetime] | None:
    """The first and the last hour with events in quarantine, from `since` on; None when there is none."""
    cursor = await connection.execute(
        "SELECT min(hour), max(hour) FROM pipeline.processed_objects"
        " WHERE kind = 'quarantine' AND superseded_by IS NULL AND hour >= coalesce(%s, '-infinity')",
        (since,),
    )
    row = await cursor.fetchone()
    return (row[0], row[1]) if row and row[0] else None
