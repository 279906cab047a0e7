"""Users of the pages, in the ledger: passwords, roles, lock-out."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from psycopg import AsyncConnection
from psycopg.rows import dict_row

from admin.identity import Role

MOST_FAILURES = 5
LOCK_SECONDS = 900
"""So many wrong passwords in a row close an account for so long: 480 guesses a day at most."""


@dataclass(frozen=True, slots=True, kw_only=True)
class User:
    """A person as the ledger knows them. `locked` by the ledger's clock."""

    name: str
    role: Role
    password_hash: str | None
    locked: bool
    created_at: datetime


async def find(connection: AsyncConnection, name: str) -> User | None:
    """The user of that name, whose case doesn't matter."""
    users = await _select(connection, "WHERE name = %s", (normal(name),))
    return users[0] if users else None


async def all_users(connection: AsyncConnection) -> list[User]:
    """Everybody, by name."""
    return await _select(connection, "ORDER BY name", ())


async def put(connection: AsyncConnection, name: str, role: Role, password_hash: str | None) -> None:
    """Add a user, or give one another role and password; that ends the sessions and the lock."""
    await connection.execute("DELETE FROM pipeline.admin_sessions WHERE user_name = %s", (normal(name),))
    await connection.execute(
        "INSERT INTO pipeline.admin_users (name, role, password_hash) VALUES (%s, %s, %s) ON CONFLICT (name)"
        " DO UPDATE SET role = excluded.role, password_hash = excluded.password_hash, failures = 0,"
        " locked_until = NULL",
        (normal(name), role.value, password_hash),
    )


async def remove(connection: AsyncConnection, name: str) -> bool:
    """Take a user away, with the sessions; False when there is none."""
    cursor = await connection.execute("DELETE FROM pipeline.admin_users WHERE name = %s", (normal(name),))
    return cursor.rowcount == 1


async def unlock(connection: AsyncConnection, name: str) -> bool:
    """Open an account that wrong passwords have closed; False when there is none."""
    cursor = await connection.execute(
        "UPDATE pipeline.admin_users SET failures = 0, locked_until = NULL WHERE name = %s", (normal(name),)
    )
    return cursor.rowcount == 1


async def note_failure(connection: AsyncConnection, name: str) -> bool:
    """A wrong password; True when that has closed the account."""
    cursor = await connection.execute(
        "UPDATE pipeline.admin_users SET failures = (failures + 1) %% %(most)s,"
        " locked_until = CASE WHEN failures + 1 >= %(most)s THEN clock_timestamp() + make_interval(secs => %(lock)s)"
        " ELSE locked_until END WHERE name = %(name)s RETURNING locked_until > clock_timestamp()",
        {"most": MOST_FAILURES, "lock": LOCK_SECONDS, "name": normal(name)},
    )
    row = await cursor.fetchone()
    return bool(row and row[0])


async def note_success(connection: AsyncConnection, name: str) -> None:
    """The right password: earlier failures are forgotten."""
    await connection.execute("UPDATE pipeline.admin_users SET failures = 0 WHERE name = %s", (normal(name),))


def normal(name: str) -> str:
    """A name as it is stored."""
    return name.strip().lower()


async def _select(connection: AsyncConnection, rest: str, values: tuple[str, ...]) -> list[User]:
    query = f"""
        SELECT name, role, password_hash, coalesce(locked_until > clock_timestamp(), false) AS locked, created_at
        FROM pipeline.admin_users {rest}
    """  # noqa: S608 - constants
    async with connection.cursor(row_factory=dict_row) as cursor:
        await cursor.execute(query.encode(), values)
        return [User(**{**row, "role": Role(row["role"])}) for row in await cursor.fetchall()]
