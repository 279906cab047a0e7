"""The client form: from HTML's texts to the model of the API, and back, with words for what is wrong.

An empty secret field means that the stored secret stays: it was never sent to the browser.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from pydantic import ValidationError
from starlette.datastructures import FormData

from admin import clients
from admin.desk import Desk
from admin.fields import ClientFields, NewClient
from admin.problems import Fault, Problem, faults_of
from pipeline.clients import Client, Domain, UnreadableClient
from pipeline.stores.documents import UnreadableOwner

TEXTS = (
    "name", "email", "owner", "billing_entity", "client_type", "deployment_type", "vm_hostname", "privacy_level",
    "consent_mode", "lawful_basis", "sync_frequency", "client_s3_bucket", "client_s3_region", "client_s3_prefix",
    "client_s3_endpoint_url", "client_s3_bucket_owner", "client_s3_kms_key", "client_s3_role_arn",
)  # fmt: skip
FLAGS = ("ip_collection_enabled", "consent_required", "dnt_is_refusal", "is_active", "sync_enabled")
SECRETS = ("client_s3_access_key", "client_s3_secret_key")

_MINUTE = "%Y-%m-%dT%H:%M"


@dataclass(frozen=True, slots=True)
class DomainRow:
    """A line of the form; `valid_from` as the browser writes it, in UTC."""

    host: str
    valid_from: str
    exact: str = ""
    """The stored moment to the microsecond, which the browser's field can't show."""


@dataclass(frozen=True, slots=True)
class Entered:
    """What stands in the form. Secrets are in `secrets` and are never rendered."""

    client_id: str
    stored_id: str
    """Empty while the client is new."""
    texts: Mapping[str, str]
    flags: Mapping[str, bool]
    domains: list[DomainRow]
    features: str
    rate: str
    access: str
    """`role` or `keys`."""
    has_keys: bool
    external_id: str
    etag: str
    secrets: Mapping[str, str]

    def text(self, name: str) -> str:
        """A text field."""
        return self.texts.get(name, "")

    def flag(self, name: str) -> bool:
        """A checkbox."""
        return self.flags.get(name, False)

    def as_change(self) -> ClientFields:
        """The model. Raises ValidationError."""
        return ClientFields(**self._values())

    def as_new(self) -> NewClient:
        """The model of a new client. Raises ValidationError."""
        return NewClient(client_id=self.client_id, **self._values())

    def as_destination(self) -> ClientFields:
        """What it says of the bucket. Raises ValidationError."""
        return ClientFields(**{name: value for name, value in self._values().items() if name.startswith("client_s3_")})

    def _values(self) -> dict[str, Any]:
        values: dict[str, Any] = {**self.texts, **self.flags}
        values["domains"] = [
            {"host": row.host, **_since(row)} for row in self.domains if row.host.strip() or row.valid_from
        ]
        values["billing_rate_per_1k"] = self.rate.strip() or "0"
        values["features"] = _json(self.features)
        if self.access == "role":
            values |= dict.fromkeys(SECRETS, "")
        else:
            values["client_s3_role_arn"] = ""
            values |= {name: text for name, text in self.secrets.items() if text}
        return values


def _since(row: DomainRow) -> dict[str, str]:
    if not row.valid_from:
        return {}
    if row.exact and _shown(row.exact) == row.valid_from:
        return {"valid_from": row.exact}
    return {"valid_from": f"{row.valid_from}Z"}


def _shown(exact: str) -> str:
    try:
        return datetime.fromisoformat(exact).astimezone(UTC).strftime(_MINUTE)
    except ValueError:
        return ""


def _json(text: str) -> Any:
    try:
        return json.loads(text) if text.strip() else {}
    except ValueError:
        return text  # the model says that it isn't an object


def entered(form: FormData) -> Entered:
    """What a browser has sent."""

    def text(name: str) -> str:
        value = form.get(name, "")
        return value if isinstance(value, str) else ""

    rows = zip(form.getlist("domain_host"), form.getlist("domain_from"), form.getlist("domain_exact"), strict=False)
    return Entered(
        client_id=text("client_id").strip(),
        stored_id=text("stored_id"),
        texts={name: text(name) for name in TEXTS},
        flags={name: name in form for name in FLAGS},
        domains=[DomainRow(str(host), str(since), str(exact)) for host, since, exact in rows if str(host).strip()],
        features=text("features"),
        rate=text("billing_rate_per_1k"),
        access=text("access"),
        has_keys=text("has_keys") == "yes",
        external_id="",
        etag=text("etag"),
        secrets={name: text(name).strip() for name in SECRETS},
    )


def of_client(client: Client | UnreadableClient) -> Entered:
    """The form as it shows a stored client; of an unreadable one what could be read of its domains."""
    if isinstance(client, UnreadableClient):
        domains = client.domains if isinstance(client, UnreadableOwner) else ()
        client = replace(clients.blank(client.client_id), domains=domains, updated_at=client.updated_at)
    stored = client.updated_at.timestamp() > 0
    return Entered(
        client_id=client.client_id,
        stored_id=client.client_id if stored else "",
        texts={name: str(getattr(client, name)) for name in TEXTS},
        flags={name: getattr(client, name) for name in FLAGS},
        domains=[_row(domain) for domain in client.domains],
        features=json.dumps(client.features, indent=2, ensure_ascii=False) if client.features else "",
        rate=f"{client.billing_rate_per_1k:g}",
        access="keys" if client.client_s3_access_key or not client.client_s3_role_arn else "role",
        has_keys=bool(client.client_s3_access_key and client.client_s3_secret_key),
        external_id=client.client_s3_external_id,
        etag="",
        secrets={},
    )


def _row(domain: Domain) -> DomainRow:
    moment = domain.valid_from.astimezone(UTC)
    return DomainRow(host=domain.host, valid_from=moment.strftime(_MINUTE), exact=moment.isoformat())


def faults(desk: Desk, given: Entered, stored: Client | UnreadableClient | None) -> list[Fault]:
    """All that is wrong with what stands in the form."""
    try:
        model = given.as_change() if given.stored_id else given.as_new()
    except ValidationError as error:
        return faults_of(error.errors(include_input=False))
    base = stored if isinstance(stored, Client) else clients.blank(given.client_id)
    found = clients.faults(
        clients.changed(base, model, desk.box),
        allow_private_endpoints=desk.settings.allow_private_endpoints,
        others=desk.directory.entries(),
    )
    if not given.stored_id and any(entry.client_id == given.client_id for entry in desk.directory.entries()):
        found.append(Fault(field="client_id", message="is taken"))
    return found


def trial(desk: Desk, given: Entered, stored: Client | UnreadableClient | None) -> Client:
    """The client with the bucket that the form names, whatever else stands there. Raises ValidationError."""
    base = stored if isinstance(stored, Client) else clients.blank(given.client_id)
    return clients.changed(base, given.as_destination(), desk.box)


def explain(error: ValidationError | Problem | None) -> tuple[dict[str, str], str, int]:
    """Messages by field, one for the whole form, and the HTTP status."""
    if error is None:
        return {}, "", 200
    if isinstance(error, ValidationError):
        return by_field(faults_of(error.errors(include_input=False))), "Some values can't be saved as they are.", 422
    said = "Some values can't be saved as they are." if error.faults else error.detail
    return by_field(error.faults), said, error.status


def by_field(found: Iterable[Fault]) -> dict[str, str]:
    """The first message of each field; a fault inside of a list counts for the list."""
    messages: dict[str, str] = {}
    for fault in found:
        messages.setdefault(fault.field.partition(".")[0], fault.message)
    return messages
