"""What becomes of one event: whose it is, and what is left of it under that client's policy. Pure."""

from __future__ import annotations

from datetime import datetime
from typing import Literal, NamedTuple, Protocol

import orjson

from pipeline.clients import Client, PrivacyLevel, UnreadableClient
from pipeline.hosts import host_of
from pipeline.keys import source_client_id, time_of
from pipeline.position import Position
from pipeline.privacy import Policy, UnparsableRecord
from pipeline.record import text_column

_LEVELS = {level: level.value for level in PrivacyLevel}
"""A member's `value` takes longer to ask for."""

COLLECTOR_MARKERS = ("unknown_", "error_", "unauthorized_")
"""How the collector's ids begin when it did not know the client: the domain index decides, as for NULL."""

Kind = Literal["client", "quarantine", "held", "dead_letter"]
Disposition = Literal["out", "dropped_consent", "quarantine", "held", "dead_letter"]


class Outcome(NamedTuple):
    """One event's fate. `line` is what is stored, None when nothing is (dropped for lack of consent).

    A tuple, because there is one for every event.
    """

    kind: Kind
    disposition: Disposition
    client_id: str
    line: bytes | None
    privacy_level: str = ""
    policy_version: str = ""
    kms_key: str = ""
    """The client's own key at hipaa, under which the object is stored; '' for none."""
    kinds: tuple[str, ...] = ()
    """The kind of each redaction."""


class Policies(Protocol):
    """The clients and their compiled policies as of now."""

    def client(self, client_id: str) -> Client | UnreadableClient | None:
        """The client, inactive ones too."""
        ...

    def owner_of(self, name: str, at: datetime) -> str | None:
        """The id of the client to whom host or site id `name` belongs at time `at`."""
        ...

    def policy(self, client: Client) -> Policy | None:
        """None when it can't be made: a key is missing or can't be decrypted."""
        ...


def decide(line: bytes, client_id: str | None, position: Position, commit_time: int, policies: Policies) -> Outcome:
    """The fate of the record `line`, whose column client_id says `client_id`; `commit_time` in microseconds since 1970.

    No guess: an id that names no active client goes to quarantine. Fail closed: a client without a usable policy has
    its events held. Raises PoisonError when the record has no columns to attribute it by.
    """
    if client_id is None or client_id.startswith(COLLECTOR_MARKERS):
        client_id = attribute(line, commit_time, policies)
    if not client_id or source_client_id(client_id) != client_id:
        return Outcome("quarantine", "quarantine", "", line)
    client = policies.client(client_id)
    if isinstance(client, UnreadableClient):
        return Outcome("held", "held", client_id, line)
    if client is None or not client.is_active:
        return Outcome("quarantine", "quarantine", "", line)
    policy = policies.policy(client)
    if policy is None:
        return Outcome("held", "held", client_id, line)
    return filtered(client, policy, line, position)


def filtered(client: Client, policy: Policy, line: bytes, place: Position | str) -> Outcome:
    """The fate of a record that is `client`'s; `place` is where a dead letter says that it stood."""
    try:
        left = policy.apply(line)
    except UnparsableRecord as error:
        return Outcome("dead_letter", "dead_letter", client.client_id, dead_letter(line, str(place), str(error)))
    return Outcome(
        "client",
        "out" if left.line is not None else "dropped_consent",
        client.client_id,
        left.line,
        _LEVELS[policy.level],
        policy.version,
        client.client_s3_kms_key if policy.level is PrivacyLevel.HIPAA else "",
        left.kinds,
    )


def attribute(line: bytes, commit_time: int, policies: Policies) -> str | None:
    """Whose record this is by its site_id, else by its url's host, as the domain index says; None for nobody's."""
    at = time_of(commit_time)
    site_id = text_column(line, "site_id")
    if site_id and (owner := policies.owner_of(site_id, at)):
        return owner
    url = text_column(line, "url")
    host = host_of(url) if url else None
    return policies.owner_of(host, at) if host else None


def dead_letter(line: bytes, place: str, reason: str) -> bytes:
    """A dead letter: why, where it stood (a position), and the record as it was, as text."""
    record = line.decode("utf-8", errors="surrogateescape").encode("utf-8", errors="replace").decode()
    return orjson.dumps({"reason": reason, "position": place, "record": record})


def record_of(letter: bytes) -> bytes:
    """The record in a dead letter."""
    return str(orjson.loads(letter)["record"]).encode()
