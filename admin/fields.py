"""The settings of a client as people and programs give them: one model for the pages and the API.

Secrets go in and never come out: `client_s3_access_key` and `client_s3_secret_key` stand here as they are typed, and in
the store encrypted or not at all in any answer.
"""

from __future__ import annotations

import math
from datetime import UTC, datetime
from typing import Annotated, Any

import orjson
from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    ConfigDict,
    Field,
    JsonValue,
    SecretStr,
    StringConstraints,
)

from pipeline.clients import CLIENT_ID, ConsentMode, PrivacyLevel, SyncFrequency

FIRST_TIME = datetime(2000, 1, 1, tzinfo=UTC)
LAST_TIME = datetime(2200, 1, 1, tzinfo=UTC)
_FEATURES_BYTES = 16_384


def _text(longest: int, pattern: str = r"^[^\x00-\x1f\x7f]*$") -> StringConstraints:
    return StringConstraints(strip_whitespace=True, max_length=longest, pattern=pattern)


def _sane_time(value: datetime) -> datetime:
    if not FIRST_TIME <= value <= LAST_TIME:
        raise ValueError("lies between the years 2000 and 2200")
    return value.astimezone(UTC)


def _prefix(value: str) -> str:
    if value and (value.startswith("/") or not value.endswith("/")):
        raise ValueError("ends with / and does not begin with it, such as pixel/")
    if any(part in ("", ".", "..") for part in value.split("/")[:-1]):
        raise ValueError("has no empty part, and none that is . or ..")
    return value


def _host(value: str) -> str:
    if "://" in value:
        raise ValueError("is a host such as shop.example.com, without https:// and path")
    return value.casefold()


def _features(value: dict[str, JsonValue]) -> dict[str, JsonValue]:
    try:
        printed = orjson.dumps(value)
    except (TypeError, ValueError):
        raise ValueError("holds what JSON can't: a number beyond 64 bits, or half a character") from None
    if len(printed) > _FEATURES_BYTES:
        raise ValueError(f"is longer than {_FEATURES_BYTES} bytes")
    if b"\\u0000" in printed or _has_infinity(value):
        raise ValueError("holds a null character, or a number that is none")
    return value


def _has_infinity(value: Any) -> bool:
    if isinstance(value, float):
        return not math.isfinite(value)
    if isinstance(value, dict):
        return any(map(_has_infinity, value.values()))
    return isinstance(value, list) and any(map(_has_infinity, value))


def _rate(value: float) -> float:
    return round(value, 6)


Id = Annotated[str, StringConstraints(pattern=rf"^{CLIENT_ID.pattern}$")]
Line = Annotated[str, _text(200)]
Email = Annotated[str, _text(254, r"^([^@\s\x00-\x1f\x7f]+@[^@\s\x00-\x1f\x7f]+)?$")]
Bucket = Annotated[str, _text(63, r"^([a-z0-9][a-z0-9.-]{1,61}[a-z0-9])?$")]
Prefix = Annotated[str, _text(480, r"^[A-Za-z0-9!_.*'()=/-]*$"), AfterValidator(_prefix)]
Url = Annotated[str, _text(300, r"^(https?://[A-Za-z0-9.\[\]:-]+(/[A-Za-z0-9._~/-]*)?)?$")]
Moment = Annotated[AwareDatetime, AfterValidator(_sane_time)]
Host = Annotated[
    str,
    StringConstraints(strip_whitespace=True, min_length=1, max_length=253, pattern=r"^[^\x00-\x1f\x7f]+$"),
    AfterValidator(_host),
]
Key = Annotated[str, _text(128, r"^[\x21-\x7e]*$")]


class DomainFields(BaseModel):
    """A host or site id whose events belong to the client, from `valid_from` on."""

    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)

    host: Host = Field(description="host name without scheme, or the site id that the pixel sends")
    valid_from: Moment = Field(default_factory=lambda: datetime.now(UTC), description="now, if it is left out")


class ClientFields(BaseModel):
    """Settings that can be given. What is left out keeps its value, or takes the default of a new client."""

    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)

    name: Line = ""
    email: Email = ""
    owner: Line = Field("", description="who looks after this client")
    billing_entity: Line = ""
    client_type: Line = ""
    deployment_type: Line = ""
    vm_hostname: Line = ""
    privacy_level: PrivacyLevel = PrivacyLevel.GDPR
    ip_collection_enabled: bool = True
    consent_required: bool = True
    consent_mode: ConsentMode = Field(ConsentMode.STRIP, description="what happens to an event without consent")
    lawful_basis: Line = Field("", description="another basis than consent, such as contract or legitimate_interests")
    dnt_is_refusal: bool = False
    features: Annotated[dict[str, JsonValue], AfterValidator(_features)] = {}
    billing_rate_per_1k: Annotated[float, Field(ge=0, le=1e6, allow_inf_nan=False), AfterValidator(_rate)] = 0.0
    is_active: bool = True
    sync_enabled: bool = False
    sync_frequency: SyncFrequency = SyncFrequency.HOURLY
    client_s3_bucket: Bucket = ""
    client_s3_region: Annotated[str, _text(40, r"^[a-z0-9-]*$")] = ""
    client_s3_prefix: Prefix = ""
    client_s3_endpoint_url: Url = Field("", description="of another S3 service than AWS")
    client_s3_bucket_owner: Annotated[str, _text(12, r"^([0-9]{12})?$")] = Field(
        "", description="AWS account that must own the bucket"
    )
    client_s3_kms_key: Annotated[str, _text(400, r"^[A-Za-z0-9:/_-]*$")] = ""
    client_s3_role_arn: Annotated[
        str, _text(600, r"^(arn:aws[a-z-]*:iam::[0-9]{12}:role/[A-Za-z0-9_+=,.@/-]{1,512})?$")
    ] = ""
    client_s3_access_key: Key = Field("", description="write-only; an empty text removes it")
    client_s3_secret_key: SecretStr = Field(
        SecretStr(""), max_length=256, description="write-only; an empty text removes it"
    )
    domains: Annotated[list[DomainFields], Field(max_length=1000)] = []


class NewClient(ClientFields):
    """A client to be created; its id is for ever."""

    client_id: Id
    privacy_level: PrivacyLevel


class DomainView(BaseModel):
    """A host or site id whose events belong to the client, from `valid_from` on."""

    host: str
    valid_from: datetime


class ClientView(BaseModel):
    """A client as it can be shown: no secret in it."""

    client_id: str
    name: str
    email: str
    owner: str
    billing_entity: str
    client_type: str
    deployment_type: str
    vm_hostname: str
    privacy_level: PrivacyLevel
    ip_collection_enabled: bool
    consent_required: bool
    consent_mode: ConsentMode
    lawful_basis: str
    dnt_is_refusal: bool
    features: dict[str, Any]
    billing_rate_per_1k: float
    is_active: bool
    sync_enabled: bool
    sync_frequency: SyncFrequency
    client_s3_bucket: str
    client_s3_region: str
    client_s3_prefix: str
    client_s3_endpoint_url: str
    client_s3_bucket_owner: str
    client_s3_kms_key: str
    client_s3_role_arn: str
    client_s3_external_id: str = Field(description="belongs into the trust policy of the role")
    has_client_s3_keys: bool = Field(description="whether access key and secret key are stored")
    pseudonym_key_versions: list[int]
    domains: list[DomainView]
    undeliverable: str | None = Field(description="why nothing would be delivered now; null when it would")
    created_at: datetime
    updated_at: datetime


class ClientSummary(BaseModel):
    """A line of the list."""

    client_id: str
    name: str
    privacy_level: PrivacyLevel | None = Field(description="null when the settings can't be read")
    is_active: bool
    sync_enabled: bool
    sync_frequency: SyncFrequency | None
    domains: list[str]
    undeliverable: str | None
    unreadable: str | None = Field(description="why the stored settings can't be read: events are held until then")
    updated_at: datetime
