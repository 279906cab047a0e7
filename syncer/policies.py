"""The clients' current policies, and what a delivery does with an object that was made under another one."""

from __future__ import annotations

from collections import OrderedDict
from enum import Enum

from pipeline.clients import Client, PrivacyLevel
from pipeline.privacy import Policy, compile_policy
from pipeline.secrets import SecretBox, pseudonym_keys

_KEPT = 64
_STRICTNESS = {PrivacyLevel.STANDARD.value: 0, PrivacyLevel.GDPR.value: 1, PrivacyLevel.HIPAA.value: 2}


class Treatment(Enum):
    """What happens to an object on its way to the client."""

    COPY = "copy"
    """It was made under the current policy."""
    FILTER = "filter"
    """The current policy is applied to every line."""
    KEEP = "keep"
    """The client's level is looser now. What was taken away can't come back, what remains need not go: as it is."""


def treatment(object_level: str, object_version: str, level: str, version: str) -> Treatment:
    """Decide for an object of that level and policy version under the current ones: only ever tighter."""
    if object_version == version:
        return Treatment.COPY
    if object_level in _STRICTNESS and _STRICTNESS[level] < _STRICTNESS[object_level]:
        return Treatment.KEEP
    return Treatment.FILTER


class Policies:
    """Compiles a client's policy once for each change of the client; keeps those used last."""

    def __init__(self, box: SecretBox) -> None:
        self._box = box
        self._made: OrderedDict[str, tuple[Client, Policy]] = OrderedDict()

    def of(self, client: Client) -> Policy:
        """Raises PermanentError when the settings make no policy: then nothing may leave."""
        made = self._made.pop(client.client_id, None)
        if made is None or made[0] != client:
            made = client, compile_policy(client, pseudonym_keys=pseudonym_keys(client, self._box))
        self._made[client.client_id] = made
        if len(self._made) > _KEPT:
            self._made.popitem(last=False)
        return made[1]
