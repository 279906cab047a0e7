"""Sample clients: two of each privacy level and an inactive one, each with a bucket that only its own key opens."""

from __future__ import annotations

import base64
import json
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from local import provision
from local.aws import REGION, AccessKey, Aws
from local.state import State, write_private
from pipeline.clients import (
    Client,
    ClientId,
    ClientStore,
    Domain,
    PrivacyLevel,
    PseudonymKey,
    SyncFrequency,
    UnreadableClient,
)
from pipeline.secrets import SecretBox


@dataclass(frozen=True, slots=True)
class Sample:
    """A made-up company. Its hosts end in `.example`, which nobody can own (RFC 2606)."""

    name: str
    level: PrivacyLevel
    active: bool = True

    @property
    def client_id(self) -> ClientId:
        """E.g. `lantern-standard`."""
        return ClientId(f"{self.name}-{self.level}" if self.active else f"{self.name}-inactive")

    @property
    def hosts(self) -> tuple[str, ...]:
        """Where its pixel is; also the site ids that the pixel sends."""
        return (f"{self.name}.example", f"www.{self.name}.example", f"shop.{self.name}.example")

    @property
    def bucket(self) -> str:
        """Its own bucket."""
        return f"client-{self.client_id}"


SAMPLES = (
    Sample("lantern", PrivacyLevel.STANDARD),
    Sample("orchard", PrivacyLevel.STANDARD),
    Sample("harbor", PrivacyLevel.GDPR),
    Sample("meadow", PrivacyLevel.GDPR),
    Sample("cedar", PrivacyLevel.HIPAA),
    Sample("summit", PrivacyLevel.HIPAA),
    Sample("quarry", PrivacyLevel.STANDARD, active=False),
)
_VALID_FROM = datetime(2020, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class SampleAccess:
    """A sample's bucket, as its owner sees it."""

    sample: Sample
    key: AccessKey
    kms_key: str


async def ensure_access(aws: Aws, state: State) -> list[SampleAccess]:
    """Bucket, IAM user and key of each sample; a HIPAA client also has a KMS key. Repeatable."""
    granted = []
    for sample in SAMPLES:
        await provision.ensure_bucket(aws, sample.bucket)
        is_hipaa = sample.level is PrivacyLevel.HIPAA
        kms_key = await provision.ensure_key(aws, sample.bucket) if is_hipaa else ""
        user = f"client-{sample.client_id}"
        policy = provision.bucket_policy(sample.bucket, kms_key)
        state.users[user] = key = await provision.ensure_user(aws, user, state.users.get(user), policy=policy)
        granted.append(SampleAccess(sample=sample, key=key, kms_key=kms_key))
    return granted


async def ensure_clients(
    store: ClientStore, box: SecretBox, accesses: Sequence[SampleAccess], *, endpoint_url: str
) -> None:
    """Put the samples into the client store; one that is there only follows a changed key or endpoint."""
    for access in accesses:
        stored = await store.get(access.sample.client_id)
        if isinstance(stored, UnreadableClient):
            continue  # somebody's experiment
        wanted = _client(access, box, endpoint_url)
        if stored is None:
            await store.put(wanted, actor="local")
        elif (stored.client_s3_access_key, stored.client_s3_endpoint_url) != (access.key.key_id, endpoint_url):
            changed = replace(
                stored,
                client_s3_endpoint_url=endpoint_url,
                client_s3_access_key=wanted.client_s3_access_key,
                client_s3_secret_key=wanted.client_s3_secret_key,
                client_s3_kms_key=wanted.client_s3_kms_key,
            )
            await store.put(changed, actor="local")


def _client(access: SampleAccess, box: SecretBox, endpoint_url: str) -> Client:
    sample = access.sample
    pseudonym_key = base64.b64encode(secrets.token_bytes(32)).decode()
    now = datetime.now(UTC)
    return Client(
        client_id=sample.client_id,
        name=f"{sample.name.title()} ({sample.level})",
        email=f"data@{sample.name}.example",
        owner="local",
        billing_entity=sample.name.title(),
        client_type="sample",
        deployment_type="shared",
        privacy_level=sample.level,
        pseudonym_keys=(PseudonymKey(version=1, secret=box.encrypt(pseudonym_key)),),
        billing_rate_per_1k=0.01,
        is_active=sample.active,
        created_at=now,
        updated_at=now,
        sync_enabled=True,
        sync_frequency=SyncFrequency.HOURLY,
        client_s3_bucket=sample.bucket,
        client_s3_region=REGION,
        client_s3_endpoint_url=endpoint_url,
        client_s3_kms_key=access.kms_key,
        client_s3_access_key=access.key.key_id,
        client_s3_secret_key=box.encrypt(access.key.secret),
        domains=tuple(Domain(host=host, valid_from=_VALID_FROM) for host in sample.hosts),
    )


def write_accesses(path: Path, accesses: Sequence[SampleAccess], *, endpoint_url: str) -> None:
    """`clients.json`: with it, a check reads each bucket under its owner's key."""
    document = [
        {
            "client_id": access.sample.client_id,
            "privacy_level": access.sample.level,
            "is_active": access.sample.active,
            "hosts": access.sample.hosts,
            "bucket": access.sample.bucket,
            "prefix": "",
            "region": REGION,
            "endpoint_url": endpoint_url,
            "access_key": access.key.key_id,
            "secret_key": access.key.secret,
            "kms_key": access.kms_key,
        }
        for access in accesses
    ]
    write_private(path, json.dumps(document, indent=2) + "\n")
