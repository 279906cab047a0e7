"""Sessions of the pages, in the ledger: any replica knows them, and taking a user away ends them."""

from __future__ import annotations

import secrets

from psycopg import AsyncConnection

from admin.identity import KEY_ACTOR, Identity, Role, sha256

LONGEST_SECONDS = 12 * 3600
IDLE_SECONDS = 2 * 3600
_NOTE_SECONDS = 60  # seen_at is written at most so often
_LOGIN_SECONDS = 600

_VALID = (
    "s.created_at > clock_timestamp() - make_interval(secs => %(longest)s)"
    " AND s.seen_at > clock_timestamp() - make_interval(secs => %(idle)s)"
)
_LIMITS = {"longest": LONGEST_SECONDS, "idle": IDLE_SECONDS}


async def begin(connection: AsyncConnection, *, user_name: str | None, key: str = "") -> str:
    """A new session, of a user or of the admin key; returns its token. Sweeps out what is over."""
    token = secrets.token_urlsafe(32)
    over = f"DELETE FROM pipeline.admin_sessions s WHERE NOT ({_VALID})"  # noqa: S608 - our constant
    await connection.execute(over.encode(), _LIMITS)
    await connection.execute(
        "INSERT INTO pipeline.admin_sessions (token_sha256, user_name, key_sha256) VALUES (%s, %s, %s)",
        (sha256(token), user_name, None if user_name else sha256(key)),
    )
    return token


async def find(connection: AsyncConnection, token: str, key: str) -> Identity | None:
    """Whose session this is, with the role as it is now; None when there is none, or it is over."""
    query = f"""
        SELECT s.user_name, u.role, s.seen_at < clock_timestamp() - make_interval(secs => %(note)s)
        FROM pipeline.admin_sessions s LEFT JOIN pipeline.admin_users u ON u.name = s.user_name
        WHERE s.token_sha256 = %(token)s AND (s.user_name IS NOT NULL OR s.key_sha256 = %(key)s)
        AND {_VALID}
    """  # noqa: S608 - constants
    values = {"token": sha256(token), "key": sha256(key) if key else None, "note": _NOTE_SECONDS, **_LIMITS}
    row = await (await connection.execute(query.encode(), values)).fetchone()
    if row is None or (row[0] and not row[1]):
        return None
    if row[2]:
        await connection.execute(
            "UPDATE pipeline.admin_sessions SET seen_at = clock_timestamp() WHERE token_sha256 = %s", (sha256(token),)
        )
    return Identity(name=row[0] or KEY_ACTOR, role=Role(row[1] or Role.ADMIN), token=token)


async def end(connection: AsyncConnection, token: str) -> None:
    """The session is over."""
    await connection.execute("DELETE FROM pipeline.admin_sessions WHERE token_sha256 = %s", (sha256(token),))


async def wait_for_provider(connection: AsyncConnection, *, state: str, verifier: str, nonce: str, path: str) -> None:
    """Keep what the answer of the OpenID provider will be checked against."""
    await connection.execute(
        "DELETE FROM pipeline.admin_logins WHERE created_at < clock_timestamp() - make_interval(secs => %s)",
        (_LOGIN_SECONDS,),
    )
    await connection.execute(
        "INSERT INTO pipeline.admin_logins (state_sha256, verifier, nonce, next_path) VALUES (%s, %s, %s, %s)",
        (sha256(state), verifier, nonce, path),
    )


async def take_login(connection: AsyncConnection, state: str) -> tuple[str, str, str] | None:
    """(verifier, nonce, path) of a login that was begun; it can be taken once."""
    cursor = await connection.execute(
        "DELETE FROM pipeline.admin_logins WHERE state_sha256 = %s"
        " AND created_at > clock_timestamp() - make_interval(secs => %s) RETURNING verifier, nonce, next_path",
        (sha256(state), _LOGIN_SECONDS),
    )
    return await cursor.fetchone()
