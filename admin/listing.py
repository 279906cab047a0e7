"""Which clients a search finds. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from pipeline.clients import Client, UnreadableClient
from pipeline.stores.documents import UnreadableOwner


def found_by(entries: Iterable[Client | UnreadableClient], search: str) -> list[Client | UnreadableClient]:
    """Entries with `search` in id, name, owner or a domain, without case; by id."""
    wanted = search.strip().casefold()
    return sorted(
        (entry for entry in entries if not wanted or any(wanted in text.casefold() for text in _texts(entry))),
        key=lambda entry: entry.client_id,
    )


def _texts(entry: Client | UnreadableClient) -> Iterable[str]:
    yield entry.client_id
    if isinstance(entry, Client):
        yield from (entry.name, entry.owner, entry.billing_entity, entry.client_s3_bucket)
    if isinstance(entry, Client | UnreadableOwner):
        yield from (domain.host for domain in entry.domains)
