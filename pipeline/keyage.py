"""How old clients' secrets are: a Fernet token says in the clear when its secret was first encrypted.

Rotating CREDENTIALS_KEYS keeps that time, so it is the age of the secret, not of its encryption.
https://github.com/fernet/spec/blob/master/Spec.md: version (1 byte), seconds since 1970 (8 bytes, big-endian), ...
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterable

from pipeline import metrics
from pipeline.clients import Client, UnreadableClient


def made_at(token: str) -> int | None:
    """Seconds since 1970; None for what isn't a Fernet token."""
    try:
        head = base64.urlsafe_b64decode(token[:12])
    except (ValueError, binascii.Error):
        return None
    return int.from_bytes(head[1:9], "big") if len(head) == 9 and head[0] == 0x80 else None


def oldest(entries: Iterable[Client | UnreadableClient]) -> dict[str, int | None]:
    """When the oldest secret of each kind was made, among those that active clients use; None where there is none."""
    tokens: dict[str, list[str]] = {"pseudonym": [], "bucket": []}
    for client in entries:
        if isinstance(client, Client) and client.is_active:
            if client.pseudonym_keys:
                tokens["pseudonym"].append(max(client.pseudonym_keys, key=lambda key: key.version).secret)
            if client.client_s3_secret_key:
                tokens["bucket"].append(client.client_s3_secret_key)
    times = {kind: [made for token in found if (made := made_at(token)) is not None] for kind, found in tokens.items()}
    return {kind: min(found, default=None) for kind, found in times.items()}


def show(entries: Iterable[Client | UnreadableClient], now: float) -> None:
    """Set the gauge; `now` is in seconds since 1970."""
    for kind, made in oldest(entries).items():
        metrics.KEY_AGE_SECONDS.labels(kind).set(0 if made is None else max(0.0, now - made))
