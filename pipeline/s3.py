"""Object storage: immutable objects with checksums, over aiobotocore.

An object is written once under a unique key with `If-None-Match: *`. A 412 is not an error when the object there is
the same one: our own earlier attempt, whose answer was lost.
https://docs.aws.amazon.com/AmazonS3/latest/userguide/conditional-writes.html
"""

from __future__ import annotations

import base64
import hashlib
import os
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from typing import IO, Any

import aiohttp
from aiobotocore.config import AioConfig
from aiobotocore.session import get_session
from botocore.exceptions import BotoCoreError, ClientError, ParamValidationError
from pydantic import SecretStr

from pipeline.addresses import PublicResolver
from pipeline.errors import PermanentError, PipelineError, TransientError
from pipeline.multipart import LARGE_BYTES, put_in_parts

TRANSIENT_CODES = frozenset(
    {"SlowDown", "InternalError", "ServiceUnavailable", "RequestTimeout", "Throttling", "ThrottlingException",
     "RequestTimeTooSkewed", "500", "502", "503", "504", "429", "OperationAborted", "BadDigest",
     "XAmzContentSHA256Mismatch", "XAmzContentChecksumMismatch"}
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class BucketAccess:
    """How to reach one bucket. Without keys the ambient credentials of the pod are used."""

    bucket: str
    region: str
    endpoint_url: str | None = None
    access_key: SecretStr | None = None
    secret_key: SecretStr | None = None
    session_token: SecretStr | None = None
    kms_key: str | None = None
    bucket_owner: str | None = None
    """Account number that must own the bucket, else AccessDenied."""
    public_only: bool = False
    """Connect to public addresses only, whatever the endpoint's name resolves to at that moment."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Listed:
    """An object as a listing shows it."""

    key: str
    bytes: int
    modified_at: datetime


class ObjectStore:
    """One bucket. Every call raises TransientError or PermanentError, never a library's error."""

    def __init__(self, client: Any, access: BucketAccess) -> None:
        self._client = client
        self.access = access

    @property
    def bucket(self) -> str:
        """The bucket's name."""
        return self.access.bucket

    @property
    def url(self) -> str:
        """Its address by path, as of the endpoint that is used."""
        return f"{self._client.meta.endpoint_url}/{self.access.bucket}"

    async def put_new(
        self,
        key: str,
        body: bytes | IO[bytes],
        *,
        sha256: bytes,
        metadata: Mapping[str, str],
        content_type: str = "application/x-ndjson",
        kms_key: str | None = None,
    ) -> None:
        """Write `key` unless it exists; durable on return. `sha256` is the digest of `body` (32 bytes).

        With `kms_key` it is stored under SSE-KMS: with that key, with the bucket's (`access.kms_key`) when it is '', or
        with the account's own when there is neither. May be repeated with the same body. Raises PermanentError when the
        key holds another body.
        """
        if await self.create(key, body, sha256=sha256, metadata=metadata, content_type=content_type, kms_key=kms_key):
            return
        stored = await self.head(key)
        if stored is None or stored.get("sha256") != sha256.hex():
            raise PermanentError(
                f"s3://{self.bucket}/{key} exists with other content",
                hint="objects are immutable: find out who wrote it",
            )

    async def create(
        self,
        key: str,
        body: bytes | IO[bytes],
        *,
        sha256: bytes,
        metadata: Mapping[str, str],
        content_type: str = "application/x-ndjson",
        kms_key: str | None = None,
    ) -> bool:
        """Write `key` unless it exists, like `put_new`, but never look at what is there: PutObject suffices.

        False when the key exists, be it by a first try of this very call. Raises NotSupportedError when the store has
        no conditional writes.
        """
        try:
            await self._put(
                key, body, sha256, {**metadata, "sha256": sha256.hex()}, content_type, kms_key, IfNoneMatch="*"
            )
        except _AlreadyThereError:
            return False
        return True

    async def put(
        self,
        key: str,
        body: bytes | IO[bytes],
        *,
        sha256: bytes,
        metadata: Mapping[str, str],
        content_type: str = "application/x-ndjson",
    ) -> None:
        """Write `key`, over what may be there: for clients' buckets, where a replayed file keeps its key."""
        await self._put(key, body, sha256, {**metadata, "sha256": sha256.hex()}, content_type)

    async def _put(
        self,
        key: str,
        body: bytes | IO[bytes],
        sha256: bytes,
        metadata: Mapping[str, str],
        content_type: str,
        kms_key: str | None = None,
        **condition: str,
    ) -> None:
        options: dict[str, Any] = {"Metadata": dict(metadata), "ContentType": content_type}
        key_id = kms_key or self.access.kms_key
        if key_id or kms_key is not None:
            options["ServerSideEncryption"] = "aws:kms"
        if key_id:
            options["SSEKMSKeyId"] = key_id
        if not isinstance(body, bytes):
            size = body.seek(0, os.SEEK_END)
            body.seek(0)
            if size > LARGE_BYTES:
                await put_in_parts(self._call, key, body, size, options, condition)
                return
        checksum = base64.b64encode(sha256).decode()
        answer = await self._call("put_object", Key=key, Body=body, ChecksumSHA256=checksum, **options, **condition)
        if answer.get("ChecksumSHA256", checksum) != checksum:  # not every store answers with it
            raise TransientError(f"s3://{self.bucket}/{key}: the store has computed another checksum")

    async def get(self, key: str) -> bytes:
        """The whole object. Raises PermanentError with code NoSuchKey in its text when it is missing."""
        return await self._read(await self._call("get_object", Key=key), key)

    async def fetch(self, key: str) -> tuple[bytes, dict[str, str]]:
        """The whole object and its metadata. Raises like `get`."""
        answer = await self._call("get_object", Key=key)
        metadata: dict[str, str] = answer["Metadata"]
        return await self._read(answer, key), metadata

    async def _read(self, answer: Any, key: str) -> bytes:
        try:
            async with answer["Body"] as body:
                data: bytes = await body.read()
        except (aiohttp.ClientError, TimeoutError, BotoCoreError, OSError) as error:
            raise TransientError(f"reading s3://{self.bucket}/{key} broke off") from error
        return data

    async def list(self, prefix: str, *, after: str = "") -> AsyncIterator[Listed]:
        """Every object under `prefix`, in the order of keys; with `after` those behind that key only."""
        arguments: dict[str, Any] = {"Prefix": prefix} | ({"StartAfter": after} if after else {})
        while True:
            answer = await self._call("list_objects_v2", **arguments)
            for item in answer.get("Contents", ()):
                yield Listed(key=item["Key"], bytes=item["Size"], modified_at=item["LastModified"])
            if not answer.get("IsTruncated"):
                return
            arguments["ContinuationToken"] = answer["NextContinuationToken"]

    async def delete(self, keys: Sequence[str]) -> None:
        """Remove at most 1000 objects; missing ones count as removed. Raises PermanentError when one is refused."""
        found = {"Objects": [{"Key": key} for key in keys], "Quiet": True}
        answer = await self._call("delete_objects", Delete=found)
        for error in answer.get("Errors", ()):
            raise PermanentError(f"s3://{self.bucket}/{error.get('Key', '')}: {error.get('Code', '')}")

    async def head(self, key: str) -> dict[str, str] | None:
        """The metadata of `key`; None when there is no such object."""
        try:
            answer = await self._call("head_object", Key=key)
        except PermanentError as error:
            if isinstance(error.__cause__, ClientError) and _code(error.__cause__) in ("404", "NoSuchKey", "NotFound"):
                return None
            raise
        metadata: dict[str, str] = answer["Metadata"]
        return metadata

    async def check(self) -> None:
        """Raise unless the bucket exists and these credentials may at least look at it."""
        await self._call("head_bucket")

    async def _call(self, operation: str, **arguments: Any) -> Any:
        if self.access.bucket_owner:
            arguments["ExpectedBucketOwner"] = self.access.bucket_owner
        try:
            return await getattr(self._client, operation)(Bucket=self.bucket, **arguments)
        except ClientError as error:
            raise translate(error, f"s3://{self.bucket}/{arguments.get('Key', '')}") from error
        except ParamValidationError as error:
            raise PermanentError(f"s3://{self.bucket}: the bucket's name or a key is malformed") from error
        except (BotoCoreError, aiohttp.ClientError, TimeoutError, OSError) as error:
            raise TransientError(f"s3://{self.bucket} does not answer ({type(error).__name__})") from error


class NotSupportedError(PermanentError):
    """The store doesn't know this operation or one of its conditions."""


class _AlreadyThereError(PermanentError):
    pass


def _code(error: ClientError) -> str:
    return str(error.response.get("Error", {}).get("Code", ""))


def translate(error: ClientError, subject: str) -> PipelineError:
    """Ours for botocore's: the code decides; an unknown one is permanent."""
    code = _code(error)
    status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    if code in ("PreconditionFailed", "412"):
        return _AlreadyThereError(f"{subject} exists")
    if code == "NotImplemented" or status == 501:
        return NotSupportedError(f"{subject}: {code}")
    if code in TRANSIENT_CODES or status >= 500 or code == "ConditionalRequestConflict":
        return TransientError(f"{subject}: {code}")
    return PermanentError(f"{subject}: {code}")


@asynccontextmanager
async def open_bucket(access: BucketAccess, *, max_connections: int = 16) -> AsyncIterator[ObjectStore]:
    """A client of its own for one bucket: each bucket may have its own keys, region and endpoint.

    Raises PermanentError when only one half of a key pair is given.
    """
    if (access.access_key is None) != (access.secret_key is None):
        raise PermanentError(f"s3://{access.bucket}: an access key without its secret key, or the other way round")
    config = AioConfig(
        max_pool_connections=max_connections,
        connect_timeout=5,
        read_timeout=30,
        retries={"mode": "standard", "total_max_attempts": 4},
        s3={"addressing_style": "path" if access.endpoint_url else "auto"},
        connector_args={"resolver": PublicResolver()} if access.public_only else {},
        # We give SHA-256 ourselves; botocore's default CRC would be a second pass over every body.
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
    )
    async with _session().create_client(
        "s3",
        region_name=access.region,
        endpoint_url=access.endpoint_url,
        aws_access_key_id=_secret(access.access_key),
        aws_secret_access_key=_secret(access.secret_key),
        aws_session_token=_secret(access.session_token),
        config=config,
    ) as client:
        yield ObjectStore(client, access)


@cache
def _session() -> Any:
    """One for all buckets: each would parse the service models of S3 anew."""
    return get_session()


def digest(body: bytes) -> bytes:
    """SHA-256 of `body`, 32 bytes."""
    return hashlib.sha256(body).digest()


def _secret(value: SecretStr | None) -> str | None:
    return value.get_secret_value() if value else None
