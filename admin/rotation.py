"""Putting every stored secret under the first of CREDENTIALS_KEYS, so that the others can be dropped.

A token is only wrapped anew: what it holds, and so every pseudonym, stays. Whoever is interrupted runs it again.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace

from pipeline.clients import Client, ClientChangedError, ClientStore, PseudonymKey, UnreadableClient
from pipeline.errors import PermanentError
from pipeline.secrets import SecretBox
from pipeline.stores.documents import UnreadableOwner

PASSES = 5
"""An admin that still has the old order of keys may add secrets meanwhile: the last pass has to find none."""

ATTEMPTS = 5
"""For one client that others are changing at the same time."""

Entry = Client | UnreadableClient
Put = Callable[[Client, Client], Awaitable[object]]
"""Stores the first in place of the second. Raises ClientChangedError."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rotation:
    """What came of it: clients whose secrets were wrapped anew, all clients, and what is in the way by client."""

    rotated: int
    clients: int
    left: dict[str, str]


async def rotate_all(store: ClientStore, box: SecretBox, put: Put) -> Rotation:
    """Put every secret of the store under the first key."""
    rotated: set[str] = set()
    for _ in range(PASSES):
        before, left = len(rotated), {}
        entries = await store.changed_since(None)
        for entry in sorted(entries, key=lambda entry: entry.client_id):
            try:
                if await _rotate(store, entry, box, put):
                    rotated.add(entry.client_id)
            except PermanentError as error:
                left[str(entry.client_id)] = str(error)
        if len(rotated) == before:
            break
    return Rotation(rotated=len(rotated), clients=len(entries), left=left)


async def _rotate(store: ClientStore, entry: Entry | None, box: SecretBox, put: Put) -> bool:
    """Whether there was something to do. Raises PermanentError when it can't be done."""
    for _ in range(ATTEMPTS):
        if not isinstance(entry, Client):
            if isinstance(entry, UnreadableOwner) and not _has_secrets(entry):
                return False
            raise PermanentError(entry.reason if entry else "the client is gone")
        after = rotated(entry, box)
        if after == entry:
            return False
        try:
            await put(after, entry)
        except ClientChangedError:
            entry = await store.get(entry.client_id)
            continue
        return True
    raise PermanentError("somebody else changes it all the time")


def rotated(client: Client, box: SecretBox) -> Client:
    """The same secrets under the first key. Raises PermanentError when one can't be decrypted."""
    return replace(
        client,
        client_s3_secret_key=box.rotate(client.client_s3_secret_key) if client.client_s3_secret_key else "",
        pseudonym_keys=tuple(
            PseudonymKey(version=key.version, secret=box.rotate(key.secret)) for key in client.pseudonym_keys
        ),
    )


def _has_secrets(entry: UnreadableOwner) -> bool:
    return bool(entry.document.get("client_s3_secret_key") or entry.document.get("pseudonym_keys"))
