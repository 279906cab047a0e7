"""What a person does with the syncer: one delivery now, a test of a client's bucket."""

from __future__ import annotations

import asyncio
import sys

import orjson

from database.ledger import connected
from database.ledger.cleanup import clock
from pipeline.clients import Client, ClientId
from pipeline.destination import ClientAccess, ConnectionReport, test_connection
from pipeline.errors import ConfigError, PermanentError
from pipeline.secrets import SecretBox
from pipeline.settings import ClientStoreSettings, DatabaseSettings, DestinationSettings
from pipeline.stores import open_store
from pipeline.syncqueue import Hours, manual_order
from syncer.pipeline import open_deliverer
from syncer.settings import SyncerSettings

_MARKS = {True: "ok    ", False: "FAILED", None: "-     "}


class ConnectionSettings(DatabaseSettings, ClientStoreSettings, DestinationSettings):
    """What a test of a client's bucket needs."""


async def deliver_once(settings: SyncerSettings, stop: asyncio.Event, client_id: str, hours: Hours) -> None:
    """Deliver to one client and print the runs that were finished. Dated by the ledger's clock: a run of tomorrow would
    make all ticks of today late.

    Raises ConfigError when there is no such client, and what made it fail.
    """
    async with open_deliverer(settings) as (deliverer, store):
        async with connected(deliverer.pool) as connection:
            order = manual_order(ClientId(client_id), await clock(connection), hours)
        if await store.get(order.client_id) is None:
            raise _unknown(client_id)
        delivering = asyncio.create_task(deliverer.deliver(order))
        stopping = asyncio.create_task(stop.wait())
        await asyncio.wait({delivering, stopping}, return_when=asyncio.FIRST_COMPLETED)
        stopping.cancel()
        if not delivering.done():
            delivering.cancel()
            await asyncio.gather(delivering, return_exceptions=True)
            return
        outcome = delivering.result()
    sys.stdout.write(orjson.dumps({"client_id": order.client_id, "runs": outcome.run_keys}).decode() + "\n")


async def connection_test(settings: ConnectionSettings, client_id: str) -> bool:
    """Print what a delivery to the client would meet; whether it would work.

    Raises ConfigError when there is no such client, PermanentError when its settings can't be read.
    """
    box = SecretBox([key.get_secret_value() for key in settings.credentials_keys])
    store = await open_store(kind=settings.client_store, project=settings.google_cloud_project, dsn=settings.ledger_dsn)
    try:
        client = await store.get(ClientId(client_id))
    finally:
        await store.close()
    if client is None:
        raise _unknown(client_id)
    if not isinstance(client, Client):
        raise PermanentError(client.reason)
    report = await test_connection(client, ClientAccess(settings, box))
    sys.stdout.write(_text(report))
    return report.ok


def _unknown(client_id: str) -> ConfigError:
    return ConfigError(f"--client {client_id}: there is no such client")


def _text(report: ConnectionReport) -> str:
    lines = []
    for step in report.steps:
        lines.append(f"{_MARKS[step.ok]}  {step.name}: {step.explanation}")
        if step.what_to_do:
            lines.append(f"        {step.what_to_do}")
    lines += [f"WARNING {warning}" for warning in report.warnings]
    return "\n".join(lines) + "\n"
