"""Object storage: immutable objects with checksums, over aiobotocore.

An object is written once under a unique key with `If-None-Match: *`. A 412 is not an error when the object there is
the same one: our own earlier attempt, whose answer was lost.
https://docs.aws.amazon.com/AmazonS3/latest/userguide/conditional-writes.html
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import os
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from http import HTTPStatus
from typing import IO, Any
from urllib.parse import quote

import aiohttp
from aiobotocore.config import AioConfig
from botocore.exceptions import BotoCoreError, ClientError, ParamValidationError
from pydantic import SecretStr

from pipeline import s3_direct
from pipeline.addresses import PublicResolver
from pipeline.errors import PermanentError, PipelineError, TransientError
from pipeline.multipart import LARGE_BYTES, put_in_parts
from pipeline.s3_direct import PRECONDITION_FAILED, Direct, session
from pipeline.sigv4 import Keys

TRANSIENT_CODES = frozenset(
    {"SlowDown", "InternalError", "ServiceUnavailable", "RequestTimeout", "Throttling", "ThrottlingException",
     "RequestTimeTooSkewed", "500", "502", "503", "504", "429", "OperationAborted", "BadDigest",
     "XAmzContentSHA256Mismatch", "XAmzContentChecksumMismatch"}
)  # fmt: skip

_HEADERS = {
    "IfNoneMatch": "if-none-match",
    "ServerSideEncryption": "x-amz-server-side-encryption",
    "SSEKMSKeyId": "x-amz-server-side-encryption-aws-kms-key-id",
}  # of options that botocore knows by other names


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

    def __init__(self, access: BucketAccess, *, endpoint_url: str, direct: Direct, client: Client) -> None:
        self._endpoint_url = endpoint_url
        self._direct = direct
        self._client = client
        self.access = access

    @property
    def bucket(self) -> str:
        """The bucket's name."""
        return self.access.bucket

    @property
    def url(self) -> str:
        """Its address by path, as of the endpoint that is used."""
        return f"{self._endpoint_url}/{self.access.bucket}"

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
                await put_in_parts(self._call, self._put_part, key, body, size, options, condition)
                return
        checksum = base64.b64encode(sha256).decode()
        stored = await self._put_direct(key, body, sha256, checksum, options, condition)
        if stored is None:
            if not isinstance(body, bytes):
                body.seek(0)
            answer = await self._call("put_object", Key=key, Body=body, ChecksumSHA256=checksum, **options, **condition)
            stored = answer.get("ChecksumSHA256", checksum)  # not every store answers with it
        if stored != checksum:
            raise TransientError(f"s3://{self.bucket}/{key}: the store has computed another checksum")

    async def _put_direct(
        self,
        key: str,
        body: bytes | IO[bytes],
        sha256: bytes,
        checksum: str,
        options: Mapping[str, Any],
        condition: Mapping[str, str],
    ) -> str | None:
        """The checksum that the store has computed, in base64; None when it was not put."""
        headers = {"content-type": options["ContentType"], "x-amz-checksum-sha256": checksum, **self._owner()}
        headers |= {f"x-amz-meta-{name.lower()}": value for name, value in options["Metadata"].items()}
        headers |= {_HEADERS[name]: value for name, value in (*options.items(), *condition.items()) if name in _HEADERS}
        size = len(body) if isinstance(body, bytes) else body.seek(0, os.SEEK_END)
        if not isinstance(body, bytes):
            body.seek(0)
        answer = await self._direct.send("PUT", key, headers=headers, body=body, size=size, payload_sha256=sha256.hex())
        if answer is None:
            return None
        if answer.status == PRECONDITION_FAILED:
            raise _AlreadyThereError(f"s3://{self.bucket}/{key} exists")
        return answer.headers.get("x-amz-checksum-sha256", checksum)

    async def _put_part(
        self, key: str, body: IO[bytes], *, size: int, sha256: bytes, number: int, upload_id: str
    ) -> str:
        checksum = base64.b64encode(sha256).decode()
        headers = {"x-amz-checksum-sha256": checksum, **self._owner()}
        answer = await self._direct.send(
            "PUT",
            key,
            query=f"partNumber={number}&uploadId={quote(upload_id, safe='~')}",
            headers=headers,
            body=body,
            size=size,
            payload_sha256=sha256.hex(),
        )
        if answer is not None and answer.status == HTTPStatus.OK and "etag" in answer.headers:
            return answer.headers["etag"]
        body.seek(0)
        part = {"Body": body, "PartNumber": number, "ChecksumSHA256": checksum, "UploadId": upload_id}
        etag: str = (await self._call("upload_part", Key=key, **part))["ETag"]
        return etag

    def _owner(self) -> dict[str, str]:
        return {"x-amz-expected-bucket-owner": self.access.bucket_owner} if self.access.bucket_owner else {}

    async def get(self, key: str) -> bytes:
        """The whole object. Raises PermanentError with code NoSuchKey in its text when it is missing."""
        answer = await self._direct.send("GET", key, headers=self._owner())
        if answer is not None and answer.status == HTTPStatus.OK:
            return answer.content
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
            return await getattr(await self._client.open(), operation)(Bucket=self.bucket, **arguments)
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


class Client:
    """botocore's client of one bucket, made at its first use: most buckets need nothing but direct requests."""

    def __init__(self, access: BucketAccess, config: AioConfig) -> None:
        self._access = access
        self._config = config
        self._stack = AsyncExitStack()
        self._lock = asyncio.Lock()
        self._made: Any = None

    async def open(self) -> Any:
        """The client; always the same one."""
        async with self._lock:
            if self._made is None:
                access = self._access
                made = session().create_client(
                    "s3",
                    region_name=access.region,
                    endpoint_url=access.endpoint_url,
                    aws_access_key_id=_secret(access.access_key),
                    aws_secret_access_key=_secret(access.secret_key),
                    aws_session_token=_secret(access.session_token),
                    config=self._config,
                )
                self._made = await self._stack.enter_async_context(made)
        return self._made

    async def close(self) -> None:
        """Close its connections."""
        await self._stack.aclose()


@asynccontextmanager
async def open_bucket(access: BucketAccess, *, max_connections: int = 16) -> AsyncIterator[ObjectStore]:
    """Connections of its own for one bucket: each bucket may have its own keys, region and endpoint.

    Raises PermanentError when only one half of a key pair is given.
    """
    if (access.access_key is None) != (access.secret_key is None):
        raise PermanentError(f"s3://{access.bucket}: an access key without its secret key, or the other way round")
    keys = None
    if access.access_key is not None and access.secret_key is not None:
        keys = Keys(
            access_key=access.access_key.get_secret_value(),
            secret_key=access.secret_key.get_secret_value(),
            token=_secret(access.session_token),
        )
    connector = {"resolver": PublicResolver()} if access.public_only else {}
    client = Client(
        access,
        s3_direct.config(endpoint_url=access.endpoint_url, max_connections=max_connections, connector=connector),
    )
    try:
        async with Direct(
            bucket=access.bucket,
            region=access.region,
            endpoint_url=access.endpoint_url,
            keys=keys,
            max_connections=max_connections,
            connector=connector,
        ) as direct:
            model = await s3_direct.model(access.region, access.endpoint_url)
            yield ObjectStore(access, endpoint_url=model.meta.endpoint_url, direct=direct, client=client)
    finally:
        await client.close()


def digest(body: bytes) -> bytes:
    """SHA-256 of `body`, 32 bytes."""
    return hashlib.sha256(body).digest()


def _secret(value: SecretStr | None) -> str | None:
    return value.get_secret_value() if value else None
