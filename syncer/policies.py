"""The clients' current policies, and what a delivery does with an object that was made under another one."""

from __future__ import annotations

from collections import OrderedDict
from enum import Enum

from pipeline.clients import Client, PrivacyLevel
from pipeline.privacy import Policy, compile_policy
from pipeline.secrets import SecretBox, pseudonym_keys

_KEPT = 64
_REDUCED = frozenset((PrivacyLevel.GDPR.value, PrivacyLevel.HIPAA.value))


class Treatment(Enum):
    """What happens to an object on its way to the client."""

    COPY = "copy"
    """It was made under the current policy."""
    FILTER = "filter"
    """The current policy is applied to every line."""
    KEEP = "keep"
    """The client gets everything now. What was taken away can't come back, what remains need not go: as it is."""


def treatment(object_level: str, object_version: str, policy: Policy) -> Treatment:
    """Decide for an object of that level and policy version under the client's current policy: only ever tighter.

    A looser level may be tighter in consent or in addresses, so it is applied unless it takes nothing at all.
    """
    if object_version == policy.version:
        return Treatment.COPY
    return Treatment.KEEP if policy.takes_nothing and object_level in _REDUCED else Treatment.FILTER


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
