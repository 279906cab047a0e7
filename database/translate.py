"""psycopg's errors as ours, at the edge of the code that asks a database."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
from psycopg_pool import PoolClosed, PoolTimeout

from pipeline.errors import PermanentError, TransientError


@contextmanager
def translated(variable: str) -> Iterator[None]:
    """Raise ours for psycopg's, naming the variable that holds the database's address.

    TransientError for what passes by itself, a time-out or a lock held by others for one; PermanentError for a missing
    privilege. Programming errors stay what they are: unknown means stop.
    """
    try:
        yield
    except psycopg.errors.InsufficientPrivilege as error:
        raise PermanentError(f"{variable}: {error.diag.message_primary}", hint="grant it to the user") from error
    except (psycopg.OperationalError, psycopg.InterfaceError, PoolTimeout, PoolClosed) as error:
        reason = getattr(error, "sqlstate", None) or type(error).__name__
        raise TransientError(f"{variable}: the database does not answer as it should ({reason})") from error
