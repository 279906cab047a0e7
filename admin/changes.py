"""A client's change and its entry in the audit log: never one without the other.

Client store and ledger may be two servers, so no transaction spans both. The ledger first notes what is about to be
changed, under an id that the store keeps with the change; after the change one transaction puts the entry in the
note's place. A note that stays behind, because somebody died or a server went away, is settled by any admin: it asks
the store whether the change was made.
"""

from __future__ import annotations

import asyncio
import uuid

from admin import clients
from admin.ledger import intents
from admin.ledger.intents import Intent
from database.ledger import Pool, connected
from pipeline import logs
from pipeline.clients import Client, ClientChangedError, ClientId, ClientStore, UnreadableClient
from pipeline.errors import PipelineError, TransientError
from pipeline.failpoints import reach

SETTLE_SECONDS = 60.0
"""Longer than any deadline of a store's call: until then whoever makes the change may still be at it."""

FORGET_SECONDS = 3600.0
"""When a change that the store never saw is not expected any more."""

EVERY_SECONDS = 30.0

log = logs.get(__name__)


async def make(
    pool: Pool,
    store: ClientStore,
    after: Client,
    *,
    before: Client | UnreadableClient | None,
    actor: str,
    action: str,
) -> Client:
    """Store `after` in place of `before`, with its entry in the audit log.

    Raises ClientChangedError when somebody else was faster; TransientError when ledger or store don't answer: then the
    change was not made, or its entry follows.
    """
    change_id = uuid.uuid4().hex
    async with connected(pool) as connection:
        intent = await intents.declare(
            connection,
            change_id=change_id,
            actor=actor,
            action=action,
            client_id=after.client_id,
            details=clients.difference(before, after),
        )
    reach("admin.change.declared")
    try:
        stored = await store.put(after, actor=actor, replacing=before, change_id=change_id)
    except ClientChangedError:
        async with connected(pool) as connection:
            await intents.withdraw(connection, change_id)
        raise
    reach("admin.change.stored")
    try:
        await _record(pool, intent)
    except TransientError as error:  # the change stands; `keep_settling` writes its entry
        log.warning("admin.change.unrecorded", client_id=after.client_id, action=action, error=str(error))
    return stored


async def keep_settling(pool: Pool, store: ClientStore, stop: asyncio.Event) -> None:
    """Settle what stays behind until `stop` is set. What fails is logged and tried again."""
    while not stop.is_set():
        try:
            await settle(pool, store)
        except PipelineError as error:
            log.warning("admin.changes.unsettled", error_class=type(error).__name__, error=str(error))
        try:
            await asyncio.wait_for(stop.wait(), EVERY_SECONDS)
        except TimeoutError:
            continue


async def settle(pool: Pool, store: ClientStore, *, older_than_seconds: float = SETTLE_SECONDS) -> int:
    """Write the missing entries of changes that were made; how many. Those that were not made are forgotten later."""
    async with connected(pool) as connection:
        found = await intents.left_behind(connection, older_than_seconds)
    settled = 0
    for intent in found:
        if await store.has_change(ClientId(intent.client_id), intent.change_id):
            settled += await _record(pool, intent, late=True)
            log.warning("admin.change.settled", client_id=intent.client_id, action=intent.action)
    if found:
        async with connected(pool) as connection:
            await intents.forget(connection, FORGET_SECONDS)
    return settled


async def _record(pool: Pool, intent: Intent, *, late: bool = False) -> bool:
    async with connected(pool) as connection, connection.transaction():
        return await intents.record(connection, intent, late=late)
