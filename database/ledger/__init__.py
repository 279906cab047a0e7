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
from psycopg_pool import AsyncConnectionPool, PoolTimeout

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


@asynccontextmanager
async def open_pool(dsn: str, *, max_size: int = 4) -> AsyncIterator[Pool]:
    """A pool of autocommit connections to the ledger. Raises TransientError when the server can't be reached."""
    pool: Pool = AsyncConnectionPool(
        dsn,
        min_size=1,
        max_size=max_size,
        timeout=10,
        kwargs={"autocommit": True, **CONNECTION_OPTIONS},
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
