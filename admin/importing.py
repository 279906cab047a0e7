"""Taking over the clients that a store already has, such as a Firestore project of an earlier system.

Services read such documents as they are, missing fields defaulted; this completes what has no safe default: a privacy
level must be said, a pseudonym key must be made (an imported `ip_salt` is never used as one), and a secret key that was
stored readable is encrypted.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, Literal

from admin.clients import with_new_pseudonym_key
from pipeline.clients import Client, ClientStore, PrivacyLevel, UnreadableClient
from pipeline.errors import PermanentError
from pipeline.secrets import SecretBox
from pipeline.stores.documents import UnreadableOwner

_TOKEN = "gAAAA"  # noqa: S105 - how every Fernet token begins: version 128, and a year before 2106


@dataclass(frozen=True, slots=True, kw_only=True)
class Imported:
    """What became of a client."""

    client_id: str
    outcome: Literal["complete", "completed", "unreadable"]
    what: tuple[str, ...] = ()


Put = Callable[[Client, Client | UnreadableClient], Awaitable[object]]
"""Stores the first in place of the second."""


async def import_clients(
    store: ClientStore, box: SecretBox, *, level: PrivacyLevel | None, put: Put | None
) -> list[Imported]:
    """Complete every client of the store, by id. `level` is for those that have none; without `put` it is a dry run."""
    found = []
    entries: Iterable[Client | UnreadableClient] = await store.changed_since(None)
    for entry in sorted(entries, key=lambda entry: entry.client_id):
        client, what = _readable(entry, level)
        if client is None:
            found.append(Imported(client_id=entry.client_id, outcome="unreadable", what=tuple(what)))
            continue
        client, more = complete(client, box)
        what += more
        if what and put is not None:
            await put(client, entry)
        found.append(Imported(client_id=entry.client_id, outcome="completed" if what else "complete", what=tuple(what)))
    return found


def complete(client: Client, box: SecretBox) -> tuple[Client, list[str]]:
    """`client` with what deliveries need, and what was added."""
    what = []
    if not client.pseudonym_keys:
        client = with_new_pseudonym_key(client, box)
        what.append("pseudonym key made")
    if client.client_s3_secret_key and not _is_ours(client.client_s3_secret_key, box):
        client = replace(client, client_s3_secret_key=box.encrypt(client.client_s3_secret_key))
        what.append("secret key encrypted")
    return client, what


def _is_ours(text: str, box: SecretBox) -> bool:
    """Whether `text` is a token already. One of a key that we lack is a token too: encrypting it would hide that."""
    try:
        box.decrypt(text)
    except PermanentError:
        return text.startswith(_TOKEN)
    return True


def _readable(entry: Client | UnreadableClient, level: PrivacyLevel | None) -> tuple[Client | None, list[str]]:
    if isinstance(entry, Client):
        return entry, []
    document: Mapping[str, Any] = entry.document if isinstance(entry, UnreadableOwner) else {}
    if document.get("privacy_level") or not isinstance(entry, UnreadableOwner):
        return None, [entry.reason]
    if level is None:
        return None, ["it has no privacy level: say which by --privacy-level"]
    try:
        members = {**document, "client_id": entry.client_id, "privacy_level": level, "updated_at": None, "domains": ()}
        client = Client.from_document(members)
    except (ValueError, ArithmeticError, AttributeError):
        return None, [entry.reason]
    epoch = datetime.fromtimestamp(0, UTC)
    return replace(client, domains=entry.domains, updated_at=epoch), [f"privacy level {level.value}"]
