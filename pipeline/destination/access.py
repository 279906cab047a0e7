"""The way into a client's bucket: its own keys or role, its region and endpoint.

An endpoint is an address that somebody typed into a form, and we send requests there: it must be https and public, or a
client could make us speak to our own network.
"""

from __future__ import annotations

import asyncio
import math
import re
import socket
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import aiohttp
from aiobotocore.config import AioConfig
from aiobotocore.session import get_session
from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError
from pydantic import SecretStr

from pipeline.addresses import is_public
from pipeline.clients import Client
from pipeline.destination.refusals import ClientBucketError, refusal
from pipeline.errors import PermanentError, TransientError
from pipeline.s3 import BucketAccess, translate
from pipeline.secrets import SecretBox
from pipeline.settings import DestinationSettings

_SESSION_SECONDS = 3600  # the longest that AWS grants when our own credentials are those of a role
_RENEW_SECONDS = 600  # before the end: longer than the upload of one file

_BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{1,253}[A-Za-z0-9]", re.ASCII)  # as the oldest buckets may be named
_LONGEST_PREFIX_BYTES = 512  # what follows it in a key is shorter than the other half of S3's 1024

_OWN = "give the pod a role with sts:AssumeRole, or set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"


@dataclass(frozen=True, slots=True)
class _Keys:
    access_key: SecretStr
    secret_key: SecretStr
    token: SecretStr | None = None
    ends_at: float = math.inf
    """By the monotonic clock."""


def missing_settings(client: Client) -> str | None:
    """What the client's settings lack before anything can be tried; None when nothing."""
    if not client.client_s3_bucket:
        return "no bucket configured"
    if not client.client_s3_role_arn and not (client.client_s3_access_key and client.client_s3_secret_key):
        return "neither a role nor keys configured"
    return None


class ClientAccess:
    """Makes the BucketAccess of a client. One per process: it keeps role sessions until shortly before they end."""

    def __init__(self, settings: DestinationSettings, box: SecretBox) -> None:
        self._settings = settings
        self._box = box
        self._sessions: dict[tuple[str, str], _Keys] = {}

    async def of(self, client: Client) -> BucketAccess:
        """How to write into the client's bucket.

        Raises ClientBucketError when the settings can't work, TransientError when STS or the resolver doesn't answer.
        """
        await self.check_place(client)
        return await self.sign_in(client)

    async def check_place(self, client: Client) -> None:
        """Raise like `of` unless bucket, prefix and endpoint may be used."""
        if not _BUCKET.fullmatch(client.client_s3_bucket):
            raise ClientBucketError(
                "InvalidBucketName", "no bucket can have this name", hint="correct the bucket in the client's settings"
            )
        prefix = client.client_s3_prefix
        if prefix.startswith("/") or not prefix.isprintable() or len(prefix.encode()) > _LONGEST_PREFIX_BYTES:
            raise ClientBucketError(
                "PrefixInvalid",
                "the prefix begins with a slash, is too long or holds characters that can't be printed",
                hint="correct the prefix in the client's settings, e.g. events/",
            )
        if client.client_s3_endpoint_url:
            await self._check_endpoint(client.client_s3_endpoint_url)

    async def sign_in(self, client: Client) -> BucketAccess:
        """The client's keys, or a session of its role, with the place that `check_place` has approved."""
        keys = await self._assume(client) if client.client_s3_role_arn else self._stored(client)
        endpoint = client.client_s3_endpoint_url or None
        return BucketAccess(
            bucket=client.client_s3_bucket,
            region=client.client_s3_region or self._settings.aws_region,
            endpoint_url=endpoint or self._settings.aws_endpoint_url,
            access_key=keys.access_key,
            secret_key=keys.secret_key,
            session_token=keys.token,
            kms_key=client.client_s3_kms_key or None,
            bucket_owner=client.client_s3_bucket_owner or None,
            public_only=endpoint is not None and not self._settings.allow_private_endpoints,
        )

    def _stored(self, client: Client) -> _Keys:
        try:
            secret = self._box.decrypt(client.client_s3_secret_key)
        except PermanentError as error:
            raise ClientBucketError("SecretUnreadable", str(error.args[0]), hint=error.hint) from None
        return _Keys(SecretStr(client.client_s3_access_key), SecretStr(secret))

    async def _check_endpoint(self, url: str) -> None:
        try:
            parts = urlsplit(url)
            host, port = parts.hostname, parts.port
        except ValueError:
            host, port, parts = None, None, urlsplit("")
        if not host or parts.scheme not in ("https", "http"):
            raise ClientBucketError(
                "EndpointInvalid", "the endpoint is not a URL", hint="expected https://host of an S3 service"
            )
        if self._settings.allow_private_endpoints:
            return
        if parts.scheme != "https":
            raise ClientBucketError(
                "EndpointNotHttps", "the endpoint must be https", hint="correct the endpoint in the client's settings"
            )
        try:
            found = await asyncio.get_running_loop().getaddrinfo(host, port or 443, type=socket.SOCK_STREAM)
        except OSError as error:
            raise TransientError(
                "the endpoint's host name can't be resolved", hint="check its spelling in the client's settings"
            ) from error
        if not all(is_public(str(item[4][0])) for item in found):
            raise ClientBucketError(
                "EndpointNotPublic",
                "the endpoint is an address inside a private network",
                hint="correct the endpoint, or set ALLOW_PRIVATE_ENDPOINTS=true if that is meant",
            )

    async def _assume(self, client: Client) -> _Keys:
        place = (client.client_s3_role_arn, client.client_s3_external_id)
        session = self._sessions.get(place)
        if session is None or time.monotonic() > session.ends_at - _RENEW_SECONDS:
            session = self._sessions[place] = await self._new_session(client)
        return session

    async def _new_session(self, client: Client) -> _Keys:
        arguments = {
            "RoleArn": client.client_s3_role_arn,
            "RoleSessionName": "event-pipeline-syncer",
            "DurationSeconds": _SESSION_SECONDS,
        }
        if client.client_s3_external_id:
            arguments["ExternalId"] = client.client_s3_external_id
        started = time.monotonic()
        async with _sts_client(self._settings) as sts:
            try:
                answer = (await sts.assume_role(**arguments))["Credentials"]
            except ClientError as error:
                raise _role_error(error) from error
            except NoCredentialsError as error:
                raise PermanentError(
                    "the syncer has no credentials of its own to assume roles with", hint=_OWN
                ) from error
            except BotoCoreError as error:
                if type(error).__name__ == "ParamValidationError":
                    raise ClientBucketError(
                        "RoleInvalid",
                        "the role or its external id is malformed",
                        hint="expected arn:aws:iam::<account>:role/<name> in the client's settings",
                    ) from error
                raise TransientError(f"STS does not answer ({type(error).__name__})") from error
            except (aiohttp.ClientError, TimeoutError, OSError) as error:
                raise TransientError(f"STS does not answer ({type(error).__name__})") from error
        return _Keys(
            SecretStr(answer["AccessKeyId"]),
            SecretStr(answer["SecretAccessKey"]),
            SecretStr(answer["SessionToken"]),
            started + _SESSION_SECONDS,
        )


@asynccontextmanager
async def _sts_client(settings: DestinationSettings) -> AsyncIterator[Any]:
    """STS with the pod's own credentials."""
    config = AioConfig(connect_timeout=5, read_timeout=10, retries={"mode": "standard", "total_max_attempts": 3})
    async with get_session().create_client(
        "sts", region_name=settings.aws_region, endpoint_url=settings.aws_endpoint_url, config=config
    ) as client:
        yield client


def _role_error(error: ClientError) -> ClientBucketError | TransientError:
    if str(error.response.get("Error", {}).get("Code", "")) in ("AccessDenied", "AccessDeniedException"):
        return ClientBucketError(
            "AssumeRoleDenied",
            "the role can't be assumed [AccessDenied]",
            hint="its trust policy must allow this pipeline's role with the external id shown in the client's settings",
        )
    refused = translate(error, "sts:AssumeRole")
    refused.__cause__ = error
    return refusal(refused, "assuming the role")
