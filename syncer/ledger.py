"""The ledger's connections, with its outages as our own errors."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg_pool import PoolTimeout

from database.ledger import Pool
from pipeline.errors import TransientError

_OUTAGES = (
    PoolTimeout,
    psycopg.OperationalError,
    psycopg.InterfaceError,
    psycopg.errors.IdleInTransactionSessionTimeout,
)

_IDLE_SECONDS = 10
"""How long a transaction may wait for us. We never wait inside of one, so only a process that is paused takes longer:
then the server ends it, or its locks would keep the others from taking over what it left."""


def with_limits(dsn: str) -> str:
    """The connection string with that limit; other options in it stay."""
    options = conninfo_to_dict(dsn).get("options") or ""
    return make_conninfo(dsn, options=f"{options} -c idle_in_transaction_session_timeout={_IDLE_SECONDS}s".strip())


@asynccontextmanager
async def connected(pool: Pool) -> AsyncIterator[psycopg.AsyncConnection]:
    """A connection of `pool`. Raises TransientError when the server goes away, is overloaded, or breaks a deadlock."""
    try:
        async with pool.connection() as connection:
            yield connection
    except _OUTAGES as error:
        raise TransientError(f"the ledger does not answer ({type(error).__name__})") from error
