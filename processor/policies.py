"""Compiled policies of the clients in the directory, made once for each change of a client."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from pipeline import logs
from pipeline.clients import Client, UnreadableClient
from pipeline.directory import ClientDirectory
from pipeline.errors import PipelineError
from pipeline.privacy import Policy, PolicyError, compile_policy
from pipeline.secrets import SecretBox, pseudonym_keys

log = logs.get(__name__)

FIRST_REST_SECONDS = 60.0
LONGEST_REST_SECONDS = 3600.0


class PolicyCache:
    """The `processor.outcome.Policies` of a running processor. `clock`: seconds, monotonic."""

    def __init__(self, directory: ClientDirectory, secrets: SecretBox, clock: Callable[[], float]) -> None:
        self._directory = directory
        self._secrets = secrets
        self._clock = clock
        self._made: dict[str, tuple[Client, Policy | None]] = {}
        self._refused: dict[str, tuple[Client, float, float]] = {}
        """By client: its settings then, when its key may be tried again, and the rest before that."""

    def client(self, client_id: str) -> Client | UnreadableClient | None:
        """The client, inactive ones too."""
        return self._directory.get(client_id)

    def owner_of(self, name: str, at: datetime) -> str | None:
        """The client to whom a host or site id belongs at a time."""
        return self._directory.owner_of(name, at)

    def policy(self, client: Client) -> Policy | None:
        """None when it can't be made, or its key was refused lately; the reason is logged once for each change."""
        refused = self._refused.get(client.client_id)
        if refused is not None and refused[0] is client and self._clock() < refused[1]:
            return None
        made = self._made.get(client.client_id)
        if made is None or made[0] is not client:
            made = self._made[client.client_id] = (client, self._make(client))
        return made[1]

    def refuse(self, client_id: str) -> None:
        """The client's KMS key was refused: hold its events until its settings change, or after a rest that doubles."""
        client = self._directory.get(client_id)
        if not isinstance(client, Client):
            return
        before = self._refused.get(client_id)
        rest = FIRST_REST_SECONDS
        if before is not None and before[0] is client:
            rest = min(2 * before[2], LONGEST_REST_SECONDS)
        self._refused[client_id] = (client, self._clock() + rest, rest)
        log.error("processor.client.held", client_id=client_id, reason="its KMS key refuses", retry_seconds=rest)

    def _make(self, client: Client) -> Policy | None:
        try:
            return compile_policy(client, pseudonym_keys=pseudonym_keys(client, self._secrets))
        except (PolicyError, PipelineError) as error:
            log.error("processor.client.held", client_id=client.client_id, reason=str(error))
            return None
