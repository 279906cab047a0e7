"""What the adapters share: how stored documents become clients, and what a change of a client is.

`domain_index` is what attribution looks things up in, and other tools may write there too. So a client's domains are
those of its own document and those that the index holds for it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

from pipeline.clients import Anything, Client, ClientChangedError, ClientId, Domain, UnreadableClient

SHOWN_FIELDS = frozenset(
    {
        "billing_rate_per_1k",
        "consent_mode",
        "consent_required",
        "deployment_type",
        "dnt_is_refusal",
        "ip_collection_enabled",
        "is_active",
        "lawful_basis",
        "privacy_level",
        "sync_enabled",
        "sync_frequency",
    }
)
"""Fields whose old and new values stand in configuration_changes, for auditors. Of all others only the name does:
they are secret (keys), personal (email, owner) or free (features)."""

_NEVER = datetime.fromtimestamp(0, UTC)
_BOOKKEEPING = {"created_at", "updated_at"}


@dataclass(frozen=True, slots=True, kw_only=True)
class UnreadableOwner(UnreadableClient):
    """An unreadable client and those of its domains that could be read: they still are its own, nobody else's.

    `document` is what is stored, secrets included, for whoever mends it.
    """

    domains: tuple[Domain, ...] = ()
    document: Mapping[str, Any] = field(default_factory=dict, repr=False, compare=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """An entry of configuration_changes, without its time, which the store's clock gives."""

    client_id: ClientId
    actor: str
    fields: tuple[str, ...]
    values: dict[str, list[Any]]
    """For `SHOWN_FIELDS` only: field to [old, new]; old is None for a new client."""
    change_id: str | None = None

    def to_document(self) -> dict[str, Any]:
        """The stored form, without its time."""
        return {
            "client_id": self.client_id,
            "actor": self.actor,
            "fields": list(self.fields),
            "values": {name: {"old": old, "new": new} for name, (old, new) in self.values.items()},
            "change_id": self.change_id,
        }


def read_client(
    client_id: str, document: Mapping[str, Any], updated_at: datetime, index: Iterable[Mapping[str, Any]]
) -> Client | UnreadableClient:
    """The client of a stored document.

    `client_id` is the key under which it is stored and `updated_at` the store's own time of the last change: both
    count more than what the document says. `index` are the client's entries of domain_index. What can't be read
    becomes an UnreadableClient, whose reason names the field and never its value.
    """
    own = document.get("domains") or ()
    domains, faulty = _read_domains(own if isinstance(own, list | tuple) else [own])
    indexed, index_faulty = _read_domains(index)
    reason = ""
    client: Client | None = None
    if (document.get("client_id") or client_id) != client_id:
        reason = "client field client_id differs from the document's id"
    elif faulty or index_faulty:
        reason = "client field domains can't be read" if faulty else "domain_index entry can't be read"
    else:
        try:
            members = {**document, "client_id": client_id, "updated_at": updated_at, "domains": ()}
            client = Client.from_document(members)
        except ValueError as error:
            reason = str(error)
        except (ArithmeticError, AttributeError):
            reason = "client field can't be read"
    owned = normal_domains(domains + indexed)
    if client is None:
        return UnreadableOwner(
            client_id=ClientId(client_id), reason=reason, updated_at=updated_at, domains=owned, document=document
        )
    return replace(client, domains=owned)


def normal_domains(domains: Iterable[Domain]) -> tuple[Domain, ...]:
    """Each (host, valid_from) once, in order: both places usually hold the same."""
    return tuple(sorted(set(domains), key=lambda domain: (domain.host, domain.valid_from)))


def expect(
    replacing: Client | UnreadableClient | Anything | None, found: Client | UnreadableClient | None, client_id: str
) -> None:
    """Raise ClientChangedError when `found` is not what the caller of `put` has seen."""
    if not isinstance(replacing, Anything) and replacing != found:
        what = "there is one already" if replacing is None else "somebody else has changed it"
        raise ClientChangedError(f"client {client_id} is not what it was: {what}", hint="read it again")


def to_store(client: Client) -> dict[str, Any]:
    """The members that an adapter writes. It adds updated_at by the store's clock, and created_at where none is."""
    document = replace(client, domains=normal_domains(client.domains)).to_document()
    del document["updated_at"]
    if client.created_at == _NEVER:
        del document["created_at"]
    return document


def change_of(before: Mapping[str, Any] | None, client: Client, *, actor: str, change_id: str | None = None) -> Change:
    """What `put` is about to change; `before` is the stored document, None for a new client."""
    after = to_store(client)
    old = before or {}
    names = tuple(sorted(n for n in after if n not in _BOOKKEEPING and (before is None or old.get(n) != after[n])))
    values = {name: [old.get(name), after[name]] for name in names if name in SHOWN_FIELDS}
    return Change(client_id=client.client_id, actor=actor, fields=names, values=values, change_id=change_id)


def _read_domains(entries: Iterable[Any]) -> tuple[list[Domain], bool]:
    """Domains from entries with host and valid_from (a time, or RFC 3339 text), and whether any could not be read."""
    domains, faulty = [], False
    for entry in entries:
        try:
            host, when = entry["host"], entry["valid_from"]
            time = when if isinstance(when, datetime) else datetime.fromisoformat(when)
            if not isinstance(host, str) or not host:
                raise TypeError("not a host")
            domains.append(Domain(host=host, valid_from=time if time.tzinfo else time.replace(tzinfo=UTC)))
        except (KeyError, TypeError, ValueError):
            faulty = True
    return domains, faulty
