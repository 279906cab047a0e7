"""What the admin works with, and how it changes a client: store and audit log, then its own copy of the clients."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from admin import changes, clients
from admin.identity import Identity
from admin.problems import Problem
from admin.settings import AdminSettings
from database.ledger import Pool, audit, connected
from pipeline.clients import Client, ClientChangedError, ClientId, ClientStore, UnreadableClient
from pipeline.destination import ClientAccess
from pipeline.directory import ClientDirectory
from pipeline.secrets import SecretBox


@dataclass(frozen=True, slots=True, kw_only=True)
class Desk:
    """Everything behind the routes."""

    settings: AdminSettings
    pool: Pool
    store: ClientStore
    directory: ClientDirectory
    """A copy of the clients for lists, seconds old; whoever changes one client reads it from the store."""
    box: SecretBox
    access: ClientAccess

    async def client(self, client_id: str) -> Client | UnreadableClient:
        """The client as it stands now. Raises Problem 404."""
        found = await self.store.get(ClientId(client_id))
        if found is None:
            raise Problem(404, f"there is no client {client_id}")
        return found

    async def readable(self, client_id: str) -> Client:
        """The client as it stands now. Raises Problem 404, or 409 when its settings can't be read."""
        found = await self.client(client_id)
        if isinstance(found, UnreadableClient):
            raise Problem(409, f"the stored settings can't be read: {found.reason}; give them anew")
        return found

    async def put(
        self, after: Client, before: Client | UnreadableClient | None, who: Identity, *, action: str | None = None
    ) -> Client:
        """Check and store a change, with its entry in the audit log.

        Raises Problem 422 with the faults, 412 when somebody else was faster.
        """
        faults = clients.faults(
            after,
            allow_private_endpoints=self.settings.allow_private_endpoints,
            others=self.directory.entries(),
        )
        if faults:
            raise Problem(422, "the settings don't fit together", faults)
        action = action or ("client.changed" if before else "client.created")
        try:
            stored = await changes.make(self.pool, self.store, after, before=before, actor=who.name, action=action)
        except ClientChangedError as error:
            raise Problem(412, str(error)) from error
        await self.directory.refresh()
        return stored

    async def note(
        self, who: Identity, action: str, client_id: str | None, details: Mapping[str, object], subject: str = ""
    ) -> None:
        """An entry in the audit log."""
        async with connected(self.pool) as connection, connection.transaction():
            await audit.append(
                connection, actor=who.name, action=action, client_id=client_id, subject=subject, details=details
            )
