"""Clients: the companies that own the events, and the port through which services read them."""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, NewType, Protocol

from pipeline.errors import TransientError

ClientId = NewType("ClientId", str)

_NEVER = datetime.fromtimestamp(0, UTC)

CLIENT_ID = re.compile(r"[A-Za-z0-9_-]{1,255}")
"""Only such ids become part of a key; everything else goes to quarantine."""


class PrivacyLevel(StrEnum):
    """How much of an event its client receives, from everything to the least."""

    STANDARD = "standard"
    GDPR = "gdpr"
    HIPAA = "hipaa"


class ConsentMode(StrEnum):
    """What happens to an event without consent: fields removed, or the event dropped and counted."""

    STRIP = "strip"
    DROP = "drop"


class SyncFrequency(StrEnum):
    """How often a client's bucket is filled."""

    HOURLY = "hourly"
    DAILY = "daily"
    WEEKLY = "weekly"


@dataclass(frozen=True, slots=True, kw_only=True)
class PseudonymKey:
    """One version of a client's pseudonym key. `secret` is encrypted at rest (a Fernet token), never the key itself."""

    version: int
    secret: str = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Domain:
    """A host whose events belong to the client, from `valid_from` on."""

    host: str
    valid_from: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Client:
    """A client's settings, as they stand in the client store. Fields ending in `_key` that are secret are encrypted."""

    client_id: ClientId
    name: str = ""
    email: str = ""
    owner: str = ""
    billing_entity: str = ""
    client_type: str = ""
    deployment_type: str = ""
    vm_hostname: str = ""
    privacy_level: PrivacyLevel = PrivacyLevel.STANDARD
    ip_collection_enabled: bool = True
    ip_salt: str = field(default="", repr=False)
    pseudonym_keys: tuple[PseudonymKey, ...] = ()
    consent_required: bool = True
    consent_mode: ConsentMode = ConsentMode.STRIP
    lawful_basis: str = ""
    dnt_is_refusal: bool = False
    features: dict[str, Any] = field(default_factory=dict)
    billing_rate_per_1k: float = 0.0
    is_active: bool = True
    created_at: datetime = _NEVER
    updated_at: datetime = _NEVER
    sync_enabled: bool = False
    sync_frequency: SyncFrequency = SyncFrequency.HOURLY
    client_s3_bucket: str = ""
    client_s3_region: str = ""
    client_s3_prefix: str = ""
    client_s3_endpoint_url: str = ""
    client_s3_bucket_owner: str = ""
    client_s3_kms_key: str = ""
    client_s3_access_key: str = field(default="", repr=False)
    client_s3_secret_key: str = field(default="", repr=False)
    client_s3_role_arn: str = ""
    client_s3_external_id: str = ""
    domains: tuple[Domain, ...] = ()

    def to_document(self) -> dict[str, Any]:
        """The stored form: plain JSON types, times as RFC 3339 text."""
        document: dict[str, Any] = {}
        for item in fields(self):
            value = getattr(self, item.name)
            if isinstance(value, datetime):
                value = value.isoformat()
            elif item.name == "pseudonym_keys":
                value = [{"version": key.version, "secret": key.secret} for key in value]
            elif item.name == "domains":
                value = [{"host": d.host, "valid_from": d.valid_from.isoformat()} for d in value]
            document[item.name] = value
        return document

    @classmethod
    def from_document(cls, document: dict[str, Any]) -> Client:
        """Read the stored form. Unknown members are ignored, missing ones take their default.

        Raises ValueError, naming the field, when a value can't be used: a client with an unreadable privacy level has
        no privacy level, not a default one.
        """
        known = {item.name for item in fields(cls)}
        values: dict[str, Any] = {}
        for name, value in document.items():
            if name not in known or value is None:
                continue
            try:
                values[name] = _read(name, value)
            except (KeyError, TypeError, ValueError) as error:
                raise ValueError(f"client field {name} can't be read") from error
        if not CLIENT_ID.fullmatch(str(values.get("client_id", ""))):
            raise ValueError("client field client_id can't be read")
        if "privacy_level" not in values:
            raise ValueError("client field privacy_level is missing")
        return cls(**values)


_TEXTS = {item.name for item in fields(Client) if item.type == "str"}
_FLAGS = {item.name for item in fields(Client) if item.type == "bool"}


def _read(name: str, value: Any) -> Any:
    if name in ("created_at", "updated_at"):
        return _time(value)
    if name in _FLAGS:
        if not isinstance(value, bool):
            raise TypeError("not a boolean")
        return value
    if name in _TEXTS:
        if not isinstance(value, str):
            raise TypeError("not a text")
        return value
    match name:
        case "privacy_level":
            return PrivacyLevel(value)
        case "consent_mode":
            return ConsentMode(value)
        case "sync_frequency":
            return SyncFrequency(value)
        case "pseudonym_keys":
            return tuple(PseudonymKey(version=int(k["version"]), secret=str(k["secret"])) for k in value)
        case "domains":
            return tuple(Domain(host=str(d["host"]), valid_from=_time(d["valid_from"])) for d in value)
        case "billing_rate_per_1k":
            return float(value)
        case "features":
            return dict(value)
        case _:
            return ClientId(str(value))


def _time(value: Any) -> datetime:
    time = value if isinstance(value, datetime) else datetime.fromisoformat(value)
    return time if time.tzinfo else time.replace(tzinfo=UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class UnreadableClient:
    """A stored client whose document can't be read: its events are held until somebody mends it."""

    client_id: ClientId
    reason: str
    updated_at: datetime


class ClientChangedError(TransientError):
    """The store holds something else than what the caller has seen: read again, decide again."""


class Anything:
    """Stands for "whatever the store holds now" in `ClientStore.put`."""


ANYTHING = Anything()


@dataclass(frozen=True, slots=True, kw_only=True)
class SyncReport:
    """How an attempt to deliver to a client ended, for the people who look at the client store."""

    at: datetime
    run_key: str
    error_class: str = ""
    """Empty: it succeeded."""
    error: str = ""
    complete_through: datetime | None = None
    """Of a success: hours up to this one are whole in the client's bucket."""

    def to_document(self) -> dict[str, Any]:
        """The stored members; those that say how far the last success came are left alone by a failure."""
        document: dict[str, Any] = {
            "last_sync_at": self.at,
            "last_sync_status": "failed" if self.error_class else "succeeded",
            "last_sync_run_key": self.run_key,
            "last_sync_error_class": self.error_class or None,
            "last_sync_error": self.error or None,
        }
        if not self.error_class:
            document |= {"last_sync_succeeded_at": self.at, "last_sync_complete_through": self.complete_through}
        return document


class ClientStore(Protocol):
    """The port to the client store; adapters in `pipeline.stores`.

    Every call may raise TransientError when the store does not answer; none retries. Clients are never removed, only
    made inactive, so `changed_since` misses nothing.
    """

    async def changed_since(self, when: datetime | None) -> Sequence[Client | UnreadableClient]:
        """Clients with updated_at >= `when`, all for None, inactive ones too. May repeat what was seen."""
        ...

    async def get(self, client_id: ClientId) -> Client | UnreadableClient | None:
        """The client as it stands now; None when there is none."""
        ...

    async def put(
        self,
        client: Client,
        *,
        actor: str,
        replacing: Client | UnreadableClient | Anything | None = ANYTHING,
        change_id: str | None = None,
    ) -> Client:
        """Store `client` with a new updated_at, and an entry in configuration_changes. Durable on return.

        `replacing` is what the caller has seen under this id, None for nothing. Raises ClientChangedError, and stores
        nothing, when that is no longer what the store holds. After any other error the change may have been made:
        `has_change` tells, if the caller named it by a `change_id` of its own (32 hexadecimal digits, used once).
        """
        ...

    async def has_change(self, client_id: ClientId, change_id: str) -> bool:
        """Whether the `put` that was given this `change_id` has been made."""
        ...

    async def report_sync(self, client_id: ClientId, report: SyncReport) -> None:
        """Write `report` beside the client's settings. It is none of them: updated_at and the history stay as they are.

        Nothing happens when there is no such client.
        """
        ...

    def listen(self) -> AsyncGenerator[None, None]:
        """Yields once as soon as it listens, then whenever settings may have changed; many changes may be one yield.

        A hint only: `changed_since` says what it was. Never ends by itself; raises TransientError or PermanentError
        when it listens no more, and what changes until the caller begins anew is not told.
        """
        ...

    async def close(self) -> None:
        """Give connections back. No call may follow."""
        ...
