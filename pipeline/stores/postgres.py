"""The client store in PostgreSQL: tables `pipeline.clients`, `pipeline.domain_index`, `pipeline.configuration_changes`.

A trigger stamps updated_at by the server's clock, so that a change made by hand with SQL is seen too.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any

import psycopg
from psycopg.types.json import Jsonb

from pipeline.clients import ANYTHING, Anything, Client, ClientId, SyncReport, UnreadableClient
from pipeline.errors import ConfigError, PermanentError, TransientError
from pipeline.stores.documents import change_of, expect, normal_domains, read_client, to_store

Connection = psycopg.AsyncConnection[Any]

# `AT TIME ZONE 'UTC'` makes the times independent of the session's time zone; without offset they are read as UTC.
_SELECT = """
    SELECT c.client_id, c.document, c.updated_at, coalesce(
        (SELECT jsonb_agg(jsonb_build_object('host', d.host, 'valid_from', d.valid_from AT TIME ZONE 'UTC'))
           FROM pipeline.domain_index d WHERE d.client_id = c.client_id), '[]')
    FROM pipeline.clients c
"""
_SINCE = """
    WHERE c.client_id IN (SELECT client_id FROM pipeline.clients WHERE updated_at >= %(when)s
                    UNION SELECT client_id FROM pipeline.domain_index WHERE updated_at >= %(when)s)
"""
_INSERT = """
    INSERT INTO pipeline.clients (client_id, document)
    VALUES (%(client_id)s, jsonb_build_object('created_at', clock_timestamp()) || %(document)s)
"""
_UPDATE = "UPDATE pipeline.clients SET document = document || %(document)s WHERE client_id = %(client_id)s"


class PostgresClientStore:
    """A ClientStore on PostgreSQL, over one connection that is opened when needed and again after a failure.

    Every call is one short transaction. updated_at is the server's clock at the write; the commit, and with it the
    moment at which others see the change, comes at most `deadline_seconds` later, since the server ends the transaction
    then. So `changed_since` with an overlap longer than that misses nothing.
    """

    def __init__(self, dsn: str, *, deadline_seconds: float = 5.0) -> None:
        self._dsn = dsn
        self._deadline_seconds = deadline_seconds
        self._connection: Connection | None = None
        self._turn = asyncio.Lock()

    async def changed_since(self, when: datetime | None) -> Sequence[Client | UnreadableClient]:
        """See `ClientStore`. Also repeats a client whose domain_index rows changed since `when`."""
        async with self._transaction() as connection:
            cursor = await connection.execute(_SELECT + (_SINCE if when else ""), {"when": when} if when else None)
            return [read_client(*row) for row in await cursor.fetchall()]

    async def get(self, client_id: ClientId) -> Client | UnreadableClient | None:
        """See `ClientStore`."""
        async with self._transaction() as connection:
            return await _read(connection, client_id)

    async def put(
        self,
        client: Client,
        *,
        actor: str,
        replacing: Client | UnreadableClient | Anything | None = ANYTHING,
        change_id: str | None = None,
    ) -> Client:
        """See `ClientStore`. One transaction. Members of the document that are none of ours stay."""
        async with self._transaction() as connection:
            # Two first puts of one client would both find nothing; the lock lasts until the commit.
            await connection.execute("SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))", (client.client_id,))
            cursor = await connection.execute(
                "SELECT document FROM pipeline.clients WHERE client_id = %s FOR UPDATE", (client.client_id,)
            )
            row = await cursor.fetchone()
            before = row[0] if row else None
            expect(replacing, await _read(connection, client.client_id), client.client_id)
            values = {"client_id": client.client_id, "document": Jsonb(to_store(client))}
            await connection.execute(_UPDATE if row else _INSERT, values)
            await connection.execute("DELETE FROM pipeline.domain_index WHERE client_id = %s", (client.client_id,))
            for domain in normal_domains(client.domains):
                await connection.execute(
                    "INSERT INTO pipeline.domain_index (host, client_id, valid_from) VALUES (%s, %s, %s)",
                    (domain.host, client.client_id, domain.valid_from),
                )
            change = change_of(before, client, actor=actor, change_id=change_id)
            await connection.execute(
                "INSERT INTO pipeline.configuration_changes (client_id, actor, document) VALUES (%s, %s, %s)",
                (client.client_id, actor, Jsonb(change.to_document())),
            )
            stored = await _read(connection, client.client_id)
            if not isinstance(stored, Client):
                raise PermanentError(f"client {client.client_id} can't be stored", hint=stored.reason if stored else "")
        return stored

    async def has_change(self, client_id: ClientId, change_id: str) -> bool:
        """See `ClientStore`."""
        async with self._transaction() as connection:
            cursor = await connection.execute(
                "SELECT 1 FROM pipeline.configuration_changes WHERE client_id = %s AND document->>'change_id' = %s",
                (client_id, change_id),
            )
            return await cursor.fetchone() is not None

    async def report_sync(self, client_id: ClientId, report: SyncReport) -> None:
        """See `ClientStore`. In a column of its own, `sync`."""
        document = {
            name: value.isoformat() if isinstance(value, datetime) else value
            for name, value in report.to_document().items()
        }
        async with self._transaction() as connection:
            await connection.execute(
                "UPDATE pipeline.clients SET sync = sync || %s WHERE client_id = %s", (Jsonb(document), client_id)
            )

    async def listen(self) -> AsyncGenerator[None, None]:
        """See `ClientStore`. On a connection of its own; behind a pooler of transactions nothing is told."""
        try:
            async with asyncio.timeout(self._deadline_seconds):
                connection = await self._open("clients_listener")
        except TimeoutError as error:
            raise TransientError("the client store (PostgreSQL) did not answer in time") from error
        except psycopg.Error as error:
            raise _translate(error) from error
        try:
            await connection.execute("LISTEN pipeline_clients")
            yield
            async for _ in connection.notifies():
                yield
        except psycopg.Error as error:
            raise _translate(error) from error
        finally:
            await connection.close()

    async def close(self) -> None:
        """See `ClientStore`."""
        if self._connection is not None:
            await self._connection.close()
            self._connection = None

    async def _connect(self) -> Connection:
        if self._connection is None or self._connection.closed:
            self._connection = await self._open("clients")
        return self._connection

    async def _open(self, name: str) -> Connection:
        return await psycopg.AsyncConnection.connect(
            self._dsn,
            autocommit=True,
            connect_timeout=max(2, round(self._deadline_seconds)),
            # A server that vanished without a word: the kernel gives the connection up after this time.
            tcp_user_timeout=round(self._deadline_seconds * 1000),
            keepalives_idle=5,
            keepalives_interval=2,
            keepalives_count=3,
            prepare_threshold=None,  # works behind PgBouncer too
            application_name=name,
        )

    @asynccontextmanager
    async def _transaction(self) -> AsyncIterator[Connection]:
        try:
            async with asyncio.timeout(self._deadline_seconds), self._turn:
                connection = await self._connect()
                async with connection.transaction():
                    limit = f"SET LOCAL statement_timeout = {round(self._deadline_seconds * 1000)}"
                    idle = f"SET LOCAL idle_in_transaction_session_timeout = {round(self._deadline_seconds * 1000)}"
                    await connection.execute(limit.encode())
                    await connection.execute(idle.encode())
                    yield connection
        except TimeoutError as error:
            raise TransientError("the client store (PostgreSQL) did not answer in time") from error
        except psycopg.Error as error:
            raise _translate(error) from error


async def _read(connection: Connection, client_id: str) -> Client | UnreadableClient | None:
    cursor = await connection.execute(_SELECT.encode() + b"WHERE c.client_id = %s", (client_id,))
    row = await cursor.fetchone()
    return read_client(*row) if row else None


def _translate(error: psycopg.Error) -> TransientError | PermanentError:
    """Ours for psycopg's. Only the SQLSTATE: a message may quote values."""
    state = error.sqlstate or "no connection"
    match error:
        case psycopg.errors.UndefinedTable() | psycopg.errors.InvalidSchemaName():
            return ConfigError("the client store's tables are missing", hint="run: python -m database migrate")
        case psycopg.errors.InsufficientPrivilege() | psycopg.errors.InvalidPassword():
            return PermanentError(f"the client store refused access ({state})", hint="grant access to schema pipeline")
        case psycopg.OperationalError() | psycopg.InterfaceError():
            return TransientError(f"the client store (PostgreSQL) did not answer ({state})")
        case _:
            return PermanentError(f"the client store (PostgreSQL) refused the request ({state})")
