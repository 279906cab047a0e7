"""Whether a client's events can be replayed now. Pure."""

from __future__ import annotations

from pipeline.clients import Client, UnreadableClient
from processor.outcome import Policies


def why_unusable(policies: Policies, client_id: str) -> str | None:
    """Why not, in words for the operator; None when they can.

    Without this an inactive client's events would all go to quarantine, and an unreadable one's be held: out of files
    that were delivered long ago.
    """
    client = policies.client(client_id)
    if client is None:
        return "there is no such client"
    if isinstance(client, UnreadableClient):
        return "the client's settings can't be read"
    if not client.is_active:
        return "the client is not active"
    if policies.policy(client) is None:
        return "the client's policy can't be made: a pseudonym key is missing or can't be decrypted"
    return None


def current_version(policies: Policies, client_id: str) -> str | None:
    """The version of the policy that the client's events must have now; None when it may get none."""
    client = policies.client(client_id)
    if not isinstance(client, Client) or not client.is_active:
        return None
    policy = policies.policy(client)
    return policy.version if policy is not None else None
