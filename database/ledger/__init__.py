"""The ledger: nothing exists until a row in it says so.

Every step of the pipeline ends in one transaction here, guarded by a compare-and-set on what came before; a process
that lost its place (a zombie) gets FencedError and its work is thrown away. Functions take a connection and leave
committing to the caller's `transaction()` block.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg_pool import AsyncConnectionPool, PoolTimeout

from pipeline import logs
from pipeline.errors import TransientError

Pool = AsyncConnectionPool[psycopg.AsyncConnection]

# A dead peer is noticed within about ten seconds, also when no RST ever comes.
CONNECTION_OPTIONS: dict[str, Any] = {
    "connect_timeout": 5,
    "keepalives_idle": 5,
    "keepalives_interval": 2,
    "keepalives_count": 3,
    "tcp_user_timeout": 10_000,
}


SESSION_NAME = "pipeline"
"""How the names of services' sessions begin; the service's name follows. A rebuild demands that there is none."""

_IDLE_SECONDS = 10
"""How long a transaction may wait for us. We never wait inside of one, so only a process that is paused takes longer:
then the server ends it, or its locks would keep the others from taking over what it left."""

_OUTAGES = (
    PoolTimeout,
    psycopg.OperationalError,
    psycopg.InterfaceError,
    psycopg.errors.IdleInTransactionSessionTimeout,
)


@asynccontextmanager
async def connected(pool: Pool) -> AsyncIterator[psycopg.AsyncConnection]:
    """A connection of `pool`. Raises TransientError when the server goes away, is overloaded, or breaks a deadlock."""
    try:
        async with pool.connection() as connection:
            yield connection
    except _OUTAGES as error:
        raise TransientError(f"the ledger does not answer ({type(error).__name__})") from error


@asynccontextmanager
async def open_pool(dsn: str, *, max_size: int = 4) -> AsyncIterator[Pool]:
    """A pool of autocommit connections to the ledger. Raises TransientError when the server can't be reached."""
    pool: Pool = AsyncConnectionPool(
        _session(dsn),
        min_size=1,
        max_size=max_size,
        timeout=10,
        kwargs={"autocommit": True, "application_name": f"{SESSION_NAME} {logs.service()}", **CONNECTION_OPTIONS},
        check=AsyncConnectionPool.check_connection,
        open=False,
    )
    try:
        await pool.open(wait=True, timeout=15)
    except PoolTimeout as error:
        await pool.close()
        raise TransientError(
            "LEDGER_DATABASE_URL (or DATABASE_URL): the server does not answer",
            hint="check address, password and that it accepts connections",
        ) from error
    try:
        yield pool
    finally:
        await pool.close()


def _session(dsn: str) -> str:
    """With UTC, whatever the server's own zone is: hours become parts of keys, and are cut to whole ones."""
    options = conninfo_to_dict(dsn).get("options") or ""
    ours = f"-c timezone=UTC -c idle_in_transaction_session_timeout={_IDLE_SECONDS}s"
    return make_conninfo(dsn, options=f"{options} {ours}".strip())
