"""Changes of clients, as the API and the pages make them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime

from admin import clients
from admin.desk import Desk
from admin.fields import ClientFields, DomainFields, NewClient
from admin.identity import Identity
from admin.problems import Problem
from pipeline.clients import Client, Domain, UnreadableClient
from pipeline.errors import PermanentError
from pipeline.stores.documents import UnreadableOwner, normal_domains


async def create(desk: Desk, given: NewClient, who: Identity) -> tuple[Client, bool]:
    """The client, and whether it is new. The same again gives the one that is there.

    Raises Problem 409 when there is another one under this id.
    """
    existing = await desk.store.get(clients.blank(given.client_id).client_id)
    if existing is None:
        wanted = clients.completed(clients.changed(clients.blank(given.client_id), given, desk.box), desk.box)
        try:
            return await desk.put(wanted, None, who), True
        except Problem as problem:
            if problem.status != 412:
                raise
            existing = await desk.client(given.client_id)  # somebody was faster
    if isinstance(existing, Client) and _says_the_same(desk, existing, given):
        return existing, False
    raise Problem(409, f"there is a client {given.client_id} already, with other settings")


def _says_the_same(desk: Desk, existing: Client, given: NewClient) -> bool:
    wanted = clients.changed(existing, given, desk.box)
    try:
        same_secret = _secret(desk, existing) == _secret(desk, wanted)
    except PermanentError:
        return False
    return same_secret and replace(wanted, client_s3_secret_key=existing.client_s3_secret_key) == existing


def _secret(desk: Desk, client: Client) -> str:
    return desk.box.decrypt(client.client_s3_secret_key) if client.client_s3_secret_key else ""


async def change(desk: Desk, before: Client | UnreadableClient, given: ClientFields, who: Identity) -> Client:
    """Store `before` with what `given` holds. Nothing is written when that is the same. See `Desk.put`."""
    if isinstance(before, UnreadableClient):
        return await _mend(desk, before, given, who)
    after = clients.completed(clients.changed(before, given, desk.box), desk.box)
    return before if after == before else await desk.put(after, before, who)


async def _mend(desk: Desk, before: UnreadableClient, given: ClientFields, who: Identity) -> Client:
    if "privacy_level" not in given.model_fields_set:
        raise Problem(409, f"the stored settings can't be read: {before.reason}; give all of them, privacy_level too")
    blank = clients.blank(before.client_id)
    if isinstance(before, UnreadableOwner):
        blank = replace(blank, domains=before.domains)
    return await desk.put(clients.completed(clients.changed(blank, given, desk.box), desk.box), before, who)


async def deactivate(desk: Desk, before: Client, who: Identity) -> None:
    """The client gets nothing more. It stays in the store: its data and history still have an owner."""
    if before.is_active:
        await desk.put(replace(before, is_active=False, sync_enabled=False), before, who, action="client.deactivated")


async def add_domains(desk: Desk, before: Client, given: Iterable[DomainFields], who: Identity) -> Client:
    """Register hosts or site ids; one that is there from the same moment on stays as it is."""
    domains = normal_domains((*before.domains, *clients.domains_of(given)))
    if domains == before.domains:
        return before
    return await desk.put(replace(before, domains=domains), before, who, action="client.domain_added")


async def remove_domain(desk: Desk, before: Client, host: str, valid_from: datetime | None, who: Identity) -> Client:
    """Take a host away, from all moments or from one. Raises Problem 404 when it isn't there."""

    def goes(domain: Domain) -> bool:
        return domain.host.casefold() == host.casefold() and valid_from in (None, domain.valid_from)

    left = tuple(domain for domain in before.domains if not goes(domain))
    if left == before.domains:
        raise Problem(404, "the client has no such domain")
    return await desk.put(replace(before, domains=left), before, who, action="client.domain_removed")


async def renew_pseudonym_key(desk: Desk, before: Client, who: Identity) -> Client:
    """From now on pseudonyms are made with a new key: the same visitor looks like a new one."""
    return await desk.put(
        clients.with_new_pseudonym_key(before, desk.box), before, who, action="client.pseudonym_key_renewed"
    )
