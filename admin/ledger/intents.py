"""Changes of clients that are being made: what was begun gets its audit entry, whoever dies meanwhile."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from psycopg import AsyncConnection
from psycopg.rows import class_row
from psycopg.types.json import Json

from database.ledger import audit


@dataclass(frozen=True, slots=True, kw_only=True)
class Intent:
    """A change that somebody is about to make, with what its entry will say."""

    change_id: str
    at: datetime
    actor: str
    action: str
    client_id: str
    details: Mapping[str, Any]


async def declare(
    connection: AsyncConnection,
    *,
    change_id: str,
    actor: str,
    action: str,
    client_id: str,
    details: Mapping[str, Any],
) -> Intent:
    """Note the change before it is made."""
    async with connection.cursor(row_factory=class_row(Intent)) as cursor:
        await cursor.execute(
            "INSERT INTO pipeline.audit_intents (change_id, actor, action, client_id, details)"
            " VALUES (%s, %s, %s, %s, %s) RETURNING *",
            (change_id, actor, action, client_id, Json(details)),
        )
        (intent,) = await cursor.fetchall()
    return intent


async def withdraw(connection: AsyncConnection, change_id: str) -> bool:
    """Nothing is left to be written of this change; False when somebody else was faster."""
    cursor = await connection.execute("DELETE FROM pipeline.audit_intents WHERE change_id = %s", (change_id,))
    return cursor.rowcount == 1


async def record(connection: AsyncConnection, intent: Intent, *, late: bool = False) -> bool:
    """The entry of a change that was made, instead of its intent; False when somebody else was faster.

    In the caller's transaction. `late`: by another than who made it, so the entry says when it was begun.
    """
    if not await withdraw(connection, intent.change_id):
        return False
    begun = {"begun_at": intent.at.isoformat()} if late else {}
    await audit.append(
        connection,
        actor=intent.actor,
        action=intent.action,
        client_id=intent.client_id,
        details={**intent.details, **begun},
    )
    return True


async def left_behind(connection: AsyncConnection, older_than_seconds: float) -> list[Intent]:
    """Changes that were begun longer ago than that, and never recorded; oldest first."""
    async with connection.cursor(row_factory=class_row(Intent)) as cursor:
        await cursor.execute(
            "SELECT * FROM pipeline.audit_intents WHERE at < clock_timestamp() - make_interval(secs => %s) ORDER BY at",
            (older_than_seconds,),
        )
        return await cursor.fetchall()


async def forget(connection: AsyncConnection, older_than_seconds: float) -> None:
    """Drop what was begun longer ago than that and never made."""
    await connection.execute(
        "DELETE FROM pipeline.audit_intents WHERE at < clock_timestamp() - make_interval(secs => %s)",
        (older_than_seconds,),
    )
