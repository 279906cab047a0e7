"""The ledger's connections, with its outages as our own errors."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import psycopg
from psycopg_pool import PoolTimeout

from database.ledger import Pool
from pipeline.errors import TransientError


@asynccontextmanager
async def connected(pool: Pool) -> AsyncIterator[psycopg.AsyncConnection]:
    """A connection of `pool`. Raises TransientError when the server goes away, is overloaded, or breaks a deadlock."""
    try:
        async with pool.connection() as connection:
            yield connection
    except (PoolTimeout, psycopg.OperationalError, psycopg.InterfaceError) as error:
        raise TransientError(f"the ledger does not answer ({type(error).__name__})") from error
