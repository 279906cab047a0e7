"""Adapters of the port `pipeline.clients.ClientStore`."""

from __future__ import annotations

from pipeline.clients import ClientStore
from pipeline.errors import ConfigError


async def open_store(*, kind: str, project: str, dsn: str) -> ClientStore:
    """The store that CLIENT_STORE names: `firestore` (of Google Cloud project `project`) or `postgres` (at `dsn`).

    Connects at the first call, not here. Raises ConfigError for another kind, or when there are no Google credentials.
    """
    # Imported here: a service on PostgreSQL should not pay for gRPC, nor need its libraries to load.
    if kind == "firestore":
        from pipeline.stores.firestore import FirestoreClientStore

        return FirestoreClientStore(project)
    if kind == "postgres":
        from pipeline.stores.postgres import PostgresClientStore

        return PostgresClientStore(dsn)
    raise ConfigError("CLIENT_STORE is wrong: expected firestore or postgres")
