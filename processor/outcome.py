"""What becomes of one event: whose it is, and what is left of it under that client's policy. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, Protocol

import orjson

from pipeline.clients import CLIENT_ID, Client, UnreadableClient
from pipeline.position import Position
from pipeline.privacy import Policy, UnparsableRecord

Kind = Literal["client", "quarantine", "held", "dead_letter"]
Disposition = Literal["out", "dropped_consent", "quarantine", "held", "dead_letter"]


@dataclass(frozen=True, slots=True)
class Outcome:
    """One event's fate. `line` is what is stored, None when nothing is (dropped for lack of consent)."""

    kind: Kind
    disposition: Disposition
    client_id: str
    line: bytes | None
    privacy_level: str = ""
    policy_version: str = ""
    redactions: Mapping[str, int] = field(default_factory=dict)


class Policies(Protocol):
    """The clients and their compiled policies as of now."""

    def client(self, client_id: str) -> Client | UnreadableClient | None:
        """The client, inactive ones too."""
        ...

    def policy(self, client: Client) -> Policy | None:
        """None when it can't be made: a key is missing or can't be decrypted."""
        ...


def decide(line: bytes, client_id: str | None, position: Position, policies: Policies) -> Outcome:
    """The fate of the record `line`, whose column client_id says `client_id`.

    No guess: an id that names no active client goes to quarantine. Fail closed: a client without a usable policy has
    its events held.
    """
    if client_id is None or not CLIENT_ID.fullmatch(client_id):
        return Outcome("quarantine", "quarantine", "", line)
    client = policies.client(client_id)
    if isinstance(client, UnreadableClient):
        return Outcome("held", "held", client_id, line)
    if client is None or not client.is_active:
        return Outcome("quarantine", "quarantine", "", line)
    policy = policies.policy(client)
    if policy is None:
        return Outcome("held", "held", client_id, line)
    try:
        filtered = policy.apply(line)
    except UnparsableRecord as error:
        return Outcome("dead_letter", "dead_letter", client_id, dead_letter(line, position, str(error)))
    disposition: Disposition = "out" if filtered.line is not None else "dropped_consent"
    return Outcome(
        "client", disposition, client_id, filtered.line, policy.level.value, policy.version, filtered.redactions
    )


def dead_letter(line: bytes, position: Position, reason: str) -> bytes:
    """A dead letter: why, where it stood, and the record as it was, as text."""
    record = line.decode("utf-8", errors="surrogateescape").encode("utf-8", errors="replace").decode()
    return orjson.dumps({"reason": reason, "position": str(position), "record": record})
