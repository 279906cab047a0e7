"""Which clients the made-up traffic belongs to: those of the client store that the environment names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from pipeline.clients import Client
from pipeline.settings import ClientStoreSettings, DatabaseSettings
from pipeline.stores import open_store

_SETTLED = timedelta(days=60)


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownClients:
    """Active clients in order of id, their hosts, and inactive clients."""

    active: Sequence[str]
    sites: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """Only hosts that one client alone has had for longer than any made-up event is old."""
    inactive: Sequence[str] = ()


async def known_clients() -> KnownClients:
    """Read the client store. Raises ConfigError for a wrong environment, TransientError when it does not answer."""
    settings, database = ClientStoreSettings.load(), DatabaseSettings.load()
    store = await open_store(kind=settings.client_store, project=settings.google_cloud_project, dsn=database.ledger_dsn)
    try:
        clients = [client for client in await store.changed_since(None) if isinstance(client, Client)]
    finally:
        await store.close()
    return sort_clients(clients, datetime.now(UTC))


def sort_clients(clients: Sequence[Client], now: datetime) -> KnownClients:
    """Pure part of `known_clients`."""
    claims: dict[str, set[str]] = {}
    for client in clients:
        for domain in client.domains:
            claims.setdefault(domain.host, set()).add(client.client_id)
    sites = {
        client.client_id: [d.host for d in client.domains if d.valid_from < now - _SETTLED and len(claims[d.host]) == 1]
        for client in clients
        if client.is_active
    }
    return KnownClients(
        active=sorted(client.client_id for client in clients if client.is_active),
        sites={client_id: hosts for client_id, hosts in sites.items() if hosts},
        inactive=sorted(client.client_id for client in clients if not client.is_active),
    )
