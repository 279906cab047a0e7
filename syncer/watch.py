"""What alerts are made of, looked up now and then by every syncer: failing clients, and clients that wait too long."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from datetime import UTC, datetime

from database.ledger import Pool, connected
from database.ledger.delivery_status import sync_states
from pipeline import logs, metrics
from pipeline.clients import Client, ClientStore
from pipeline.errors import PipelineError
from syncer.due import is_overdue, why_not

log = logs.get(__name__)

_SECONDS = 120.0


async def watch(pool: Pool, store: ClientStore) -> None:
    """Set the gauges for ever. An outage of store or ledger leaves them as they were."""
    while True:
        with suppress(PipelineError):
            await look(pool, store, datetime.now(UTC))
        await asyncio.sleep(_SECONDS)


async def look(pool: Pool, store: ClientStore, now: datetime) -> None:
    """Set them once. Raises TransientError or PermanentError."""
    clients = await store.changed_since(None)
    async with connected(pool) as connection:
        states = await sync_states(connection)
    served = [client for client in clients if isinstance(client, Client) and why_not(client) is None]
    failing = sum(state.failed for client in served if (state := states.get(client.client_id)))
    overdue = [client.client_id for client in served if is_overdue(client, states.get(client.client_id), now)]
    metrics.SYNC_FAILING_CLIENTS.set(failing)
    metrics.SYNC_OVERDUE_CLIENTS.set(len(overdue))
    if overdue:
        log.warning("syncer.clients.overdue", clients=len(overdue), first=sorted(overdue)[:10])
