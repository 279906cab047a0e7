"""Compiled policies of the clients in the directory, made once for each change of a client."""

from __future__ import annotations

from datetime import datetime

from pipeline import logs
from pipeline.clients import Client, UnreadableClient
from pipeline.directory import ClientDirectory
from pipeline.errors import PipelineError
from pipeline.privacy import Policy, PolicyError, compile_policy
from pipeline.secrets import SecretBox, pseudonym_keys

log = logs.get(__name__)


class PolicyCache:
    """The `processor.outcome.Policies` of a running processor."""

    def __init__(self, directory: ClientDirectory, secrets: SecretBox) -> None:
        self._directory = directory
        self._secrets = secrets
        self._made: dict[str, tuple[Client, Policy | None]] = {}

    def client(self, client_id: str) -> Client | UnreadableClient | None:
        """The client, inactive ones too."""
        return self._directory.get(client_id)

    def owner_of(self, name: str, at: datetime) -> str | None:
        """The client to whom a host or site id belongs at a time."""
        return self._directory.owner_of(name, at)

    def policy(self, client: Client) -> Policy | None:
        """None when it can't be made; the reason is logged once for each change of the client."""
        made = self._made.get(client.client_id)
        if made is None or made[0] is not client:
            made = self._made[client.client_id] = (client, self._make(client))
        return made[1]

    def _make(self, client: Client) -> Policy | None:
        try:
            return compile_policy(client, pseudonym_keys=pseudonym_keys(client, self._secrets))
        except (PolicyError, PipelineError) as error:
            log.error("processor.client.held", client_id=client.client_id, reason=str(error))
            return None
