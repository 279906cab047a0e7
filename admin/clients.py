"""What becomes of a client's settings when somebody changes them. Pure."""

from __future__ import annotations

import base64
import hashlib
import secrets
from collections.abc import Iterable, Mapping
from dataclasses import fields, replace
from datetime import datetime
from typing import Any
from urllib.parse import urlsplit

import orjson

from admin.fields import ClientFields, ClientSummary, ClientView, DomainFields, DomainView
from admin.problems import Fault
from pipeline.clients import Client, ClientId, ConsentMode, Domain, PrivacyLevel, PseudonymKey, UnreadableClient
from pipeline.destination import missing_settings
from pipeline.secrets import SecretBox
from pipeline.stores.documents import UnreadableOwner, normal_domains

_SECRETS = frozenset(("client_s3_access_key", "client_s3_secret_key", "pseudonym_keys", "ip_salt"))
_PERSONAL = frozenset(("email", "owner", "features"))  # an append-only log is no place for persons, nor for free text
_PLAIN = frozenset(item.name for item in fields(Client)) - _SECRETS - {"domains", "created_at", "updated_at"}

EXTERNAL_ID_BYTES = 18


def blank(client_id: str) -> Client:
    """A client that nobody has described yet."""
    return Client(client_id=ClientId(client_id), privacy_level=PrivacyLevel.GDPR)


def changed(client: Client, given: ClientFields, box: SecretBox) -> Client:
    """`client` with the settings that `given` holds; those that it leaves out stay."""
    values: dict[str, Any] = {}
    for name in given.model_fields_set & ClientFields.model_fields.keys():
        value = getattr(given, name)
        if name == "domains":
            values[name] = domains_of(value)
        elif name == "client_s3_secret_key":
            text = value.get_secret_value()
            values[name] = box.encrypt(text) if text else ""
        else:
            values[name] = value
    return replace(client, **values)


def completed(client: Client, box: SecretBox) -> Client:
    """With what no person types: a pseudonym key, and the external id of a role."""
    if not client.pseudonym_keys:
        client = with_new_pseudonym_key(client, box)
    if client.client_s3_role_arn and not client.client_s3_external_id:
        client = replace(client, client_s3_external_id=secrets.token_urlsafe(EXTERNAL_ID_BYTES))
    return client


def with_new_pseudonym_key(client: Client, box: SecretBox) -> Client:
    """One more version of the pseudonym key; from then on it is the one that is used."""
    version = max((key.version for key in client.pseudonym_keys), default=0) + 1
    text = base64.b64encode(secrets.token_bytes(32)).decode()
    key = PseudonymKey(version=version, secret=box.encrypt(text))
    return replace(client, pseudonym_keys=(*client.pseudonym_keys, key))


def domains_of(given: Iterable[DomainFields]) -> tuple[Domain, ...]:
    """Domains in the store's form and order."""
    return normal_domains(Domain(host=item.host, valid_from=item.valid_from) for item in given)


def faults(
    client: Client, *, allow_private_endpoints: bool, others: Iterable[Client | UnreadableClient]
) -> list[Fault]:
    """What doesn't fit together in `client`, or with the `others`. Empty: it may be stored."""
    found = []

    def fault(field: str, message: str) -> None:
        found.append(Fault(field=field, message=message))

    if bool(client.client_s3_access_key) != bool(client.client_s3_secret_key):
        lacking = "client_s3_secret_key" if client.client_s3_access_key else "client_s3_access_key"
        fault(lacking, "access key and secret key go together")
    if client.client_s3_role_arn and client.client_s3_access_key:
        fault("client_s3_role_arn", "give either a role or keys, not both")
    if client.sync_enabled and (missing := missing_settings(client)):
        field = "client_s3_bucket" if not client.client_s3_bucket else "client_s3_role_arn"
        fault(field, f"deliveries are switched on, but there is {missing}")
    endpoint = urlsplit(client.client_s3_endpoint_url)
    if endpoint.scheme == "http" and not allow_private_endpoints:
        fault("client_s3_endpoint_url", "must be https: events and keys travel there")
    if client.consent_mode is ConsentMode.DROP and not client.consent_required:
        fault("consent_mode", "drop has no effect while consent is not required: choose strip")
    claims = _claims(others, client.client_id)
    for domain in client.domains:
        if owner := claims.get((domain.host.casefold(), domain.valid_from)):
            fault("domains", f"{domain.host} belongs to {owner} from the same moment on: its events would be nobody's")
    return found


def _claims(others: Iterable[Client | UnreadableClient], client_id: str) -> dict[tuple[str, datetime], str]:
    return {
        (domain.host.casefold(), domain.valid_from): other.client_id
        for other in others
        if isinstance(other, Client | UnreadableOwner) and other.client_id != client_id
        for domain in other.domains
    }


def undeliverable(client: Client) -> str | None:
    """Why nothing would be delivered now; None when it would."""
    if not client.is_active:
        return "inactive"
    return missing_settings(client) if client.sync_enabled else "deliveries are paused"


def view(client: Client) -> ClientView:
    """What can be shown."""
    values = {name: getattr(client, name) for name in _PLAIN}
    return ClientView(
        **values,
        has_client_s3_keys=bool(client.client_s3_access_key and client.client_s3_secret_key),
        pseudonym_key_versions=[key.version for key in client.pseudonym_keys],
        domains=[DomainView(host=item.host, valid_from=item.valid_from) for item in client.domains],
        undeliverable=undeliverable(client),
        created_at=client.created_at,
        updated_at=client.updated_at,
    )


def summary(entry: Client | UnreadableClient) -> ClientSummary:
    """A line of the list."""
    if isinstance(entry, Client):
        return ClientSummary(
            client_id=entry.client_id,
            name=entry.name,
            privacy_level=entry.privacy_level,
            is_active=entry.is_active,
            sync_enabled=entry.sync_enabled,
            sync_frequency=entry.sync_frequency,
            domains=sorted({domain.host for domain in entry.domains}),
            undeliverable=undeliverable(entry),
            unreadable=None,
            updated_at=entry.updated_at,
        )
    hosts = {domain.host for domain in entry.domains} if isinstance(entry, UnreadableOwner) else set()
    return ClientSummary(
        client_id=entry.client_id,
        name="",
        privacy_level=None,
        is_active=False,
        sync_enabled=False,
        sync_frequency=None,
        domains=sorted(hosts),
        undeliverable="its settings can't be read",
        unreadable=entry.reason,
        updated_at=entry.updated_at,
    )


def difference(before: Client | UnreadableClient | None, after: Client) -> dict[str, Any]:
    """Before and after of what a change touches, for the audit log; of secrets and persons only that they changed."""
    old = before if isinstance(before, Client) else None
    said: dict[str, Any] = {"changes": {}, "hidden": []}
    for item in fields(Client):
        if item.name in ("created_at", "updated_at"):
            continue
        was, now = getattr(old, item.name) if old else None, getattr(after, item.name)
        if was == now or (old is None and not now):
            continue
        if item.name in _SECRETS | _PERSONAL:
            said["hidden"].append(_HIDDEN.get(item.name, item.name))
        else:
            said["changes"][item.name] = {"before": _plain(was), "after": _plain(now)}
    if before is not None and old is None:
        said["unreadable_before"] = True
    return said


_HIDDEN = {
    "client_s3_access_key": "access key of the bucket",
    "client_s3_secret_key": "secret of the bucket",
    "pseudonym_keys": "pseudonym keys",
    "ip_salt": "imported salt",
}
"""Names without the words that an audit entry must not have as a member's name."""


def _plain(value: Any) -> Any:
    if isinstance(value, tuple):
        return [f"{item.host} from {item.valid_from.isoformat()}" for item in value]
    return value.value if hasattr(value, "value") else value


def etag(client: Client | UnreadableClient) -> str:
    """A strong ETag: changes with everything that is stored, and tells nothing of it."""
    document: Mapping[str, Any]
    if isinstance(client, Client):
        document = client.to_document()
    else:
        document = {"id": client.client_id, "reason": client.reason, "updated_at": client.updated_at.isoformat()}
    return f'"{hashlib.sha256(orjson.dumps(document, option=orjson.OPT_SORT_KEYS)).hexdigest()[:32]}"'
