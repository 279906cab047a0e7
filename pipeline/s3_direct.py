"""GetObject and PutObject without botocore's machinery, which costs six times the request itself.

Only success is known here, and the answer that a key is taken. Whatever else happens, the caller asks botocore, which
does it again with its retries, redirects and errors: so there is one place for those. botocore also tells the
bucket's address, keeps the credentials fresh, and its HTTP session is the transport.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache, lru_cache
from http import HTTPStatus
from types import TracebackType
from typing import IO, Any, Self
from urllib.parse import urlsplit

import aiohttp
from aiobotocore.config import AioConfig
from aiobotocore.httpsession import AIOHTTPSession
from aiobotocore.session import get_session
from botocore.awsrequest import AWSPreparedRequest
from botocore.exceptions import BotoCoreError
from botocore.utils import get_environ_proxies

from pipeline.sigv4 import ALGORITHM, EMPTY_SHA256, Keys, encode_path, sign

PRECONDITION_FAILED = 412

_READ_BYTES = 1 << 20
_CONNECT_SECONDS = 5
_READ_SECONDS = 30
_MALFORMED = b"<Code>AuthorizationHeaderMalformed</Code>"
_SIGNED = frozenset({"host", "x-amz-content-sha256", "x-amz-date"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """Where a bucket's objects are, and the region that requests are signed for."""

    base: str
    """Scheme, host and port."""
    host: str
    """As the header `Host` names it."""
    path: str
    """Before the key, with the slash, encoded."""
    region: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """Of a success, or of a key that is taken. Names of headers are in lower case."""

    status: int
    headers: Mapping[str, str]
    content: bytes


class Transport(AIOHTTPSession):  # type: ignore[misc]
    """aiobotocore's HTTP session; certificates are read once per process and not once per bucket."""

    def _build_verify_context(self) -> Any:
        return _verify_context(self._verify)


@lru_cache(maxsize=8)
def _verify_context(verify: Any) -> Any:
    return AIOHTTPSession(verify=verify)._build_verify_context()


@cache
def session() -> Any:
    """aiobotocore's, one for all buckets: each would parse the service models of S3 anew."""
    return get_session()


def config(*, endpoint_url: str | None, max_connections: int, connector: Mapping[str, Any]) -> AioConfig:
    """How every client of S3 is set up; `connector` goes to aiohttp's."""
    return AioConfig(
        max_pool_connections=max_connections,
        connect_timeout=_CONNECT_SECONDS,
        read_timeout=_READ_SECONDS,
        retries={"mode": "standard", "total_max_attempts": 4},
        s3={"addressing_style": "path" if endpoint_url else "auto"},
        connector_args=dict(connector),
        http_session_cls=Transport,
        # We give SHA-256 ourselves; botocore's default CRC would be a second pass over every body.
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
    )


class Direct(AbstractAsyncContextManager["Direct"]):
    """One bucket's objects. Without `keys` the ambient credentials of the pod are used."""

    def __init__(
        self,
        *,
        bucket: str,
        region: str,
        endpoint_url: str | None,
        keys: Keys | None,
        max_connections: int,
        connector: Mapping[str, Any],
    ) -> None:
        self._bucket = bucket
        self._region = region
        self._endpoint_url = endpoint_url
        self._keys = keys
        self._max_connections = max_connections
        self._connector = connector
        self._transport: AIOHTTPSession | None = None
        self._address: Address | None = None
        self._off = False
        self._opening = asyncio.Lock()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._transport is not None:
            await self._transport.close()

    async def __aenter__(self) -> Self:
        return self

    async def send(
        self,
        method: str,
        key: str,
        *,
        query: str = "",
        headers: Mapping[str, str],
        body: bytes | IO[bytes] | None = None,
        size: int = 0,
        payload_sha256: str = EMPTY_SHA256,
    ) -> Answer | None:
        """The answer; None when botocore shall try. `size` is that of `body`, which is read from where it stands.

        Raises nothing but CancelledError.
        """
        if self._off:
            return None
        try:
            transport, address = await self._open()
            keys = self._keys or await _ambient()
            if address is None or keys is None:
                self._off = address is None
                return None
            path = address.path + encode_path(key)
            signed = sign(
                method=method,
                host=address.host,
                path=path,
                query=query,
                headers=headers,
                payload_sha256=payload_sha256,
                keys=keys,
                region=address.region,
                now=datetime.now(UTC),
            )
            if body is not None:
                signed["content-length"] = str(size)
            url = f"{address.base}{path}?{query}" if query else address.base + path
            payload = body if body is None or isinstance(body, bytes) else _blocks(body)
            request = AWSPreparedRequest(method, url, signed, payload, stream_output=False)
            answer = await transport.send(request)
            content: bytes = await answer.content
        except (BotoCoreError, aiohttp.ClientError, TimeoutError, OSError, ValueError):
            return None
        if answer.status_code in (200, PRECONDITION_FAILED):
            return Answer(status=answer.status_code, headers=answer.headers, content=content)
        # In another region than we were told: it would be so each time, and ask for two requests.
        self._off = answer.status_code == HTTPStatus.MOVED_PERMANENTLY or _MALFORMED in content
        return None

    async def _open(self) -> tuple[AIOHTTPSession, Address | None]:
        async with self._opening:
            if self._transport is None:
                await self._connect()
        assert self._transport is not None
        return self._transport, self._address

    async def _connect(self) -> None:
        address = await address_of(self._bucket, region=self._region, endpoint_url=self._endpoint_url)
        verify = session().get_config_variable("ca_bundle")
        transport = Transport(
            verify=True if verify is None else verify,
            proxies=get_environ_proxies(address.base) if address else {},
            timeout=(_CONNECT_SECONDS, _READ_SECONDS),
            max_pool_connections=self._max_connections,
            connector_args=dict(self._connector),
        )
        self._address = address
        self._transport = await transport.__aenter__()


async def address_of(bucket: str, *, region: str, endpoint_url: str | None) -> Address | None:
    """Where botocore would send a request for an object of `bucket`; None when it would sign it in another way.

    Raises BotoCoreError or ValueError when region, endpoint or the bucket's name are malformed.
    """
    client = await model(region, endpoint_url)
    try:
        await client.get_object(Bucket=bucket, Key="k")
        raise AssertionError("the model has sent a request")
    except _PreparedError as prepared:
        request = prepared.request
    found = urlsplit(request.url)
    headers = {name.lower(): value for name, value in request.headers.items()}
    authorization = _text(headers.get("authorization", ""))
    scope = authorization.partition("Credential=")[2].partition(",")[0].split("/")
    names = authorization.partition("SignedHeaders=")[2].partition(",")[0]
    plain = authorization.startswith(ALGORITHM + " ") and scope[3:] == ["s3", "aws4_request"]
    if not plain or found.query or not set(names.split(";")) <= _SIGNED:
        return None
    return Address(
        base=f"{found.scheme}://{found.netloc}", host=found.netloc, path=found.path.removesuffix("k"), region=scope[2]
    )


class _PreparedError(Exception):
    """In place of being sent."""

    def __init__(self, request: Any) -> None:
        super().__init__()
        self.request = request


def _prepared(request: Any, **_: Any) -> None:
    raise _PreparedError(request)


class _Model:
    def __init__(self, region: str, endpoint_url: str | None) -> None:
        self._region = region
        self._endpoint_url = endpoint_url
        self._client: Any = None

    async def open(self) -> Any:
        if self._client is None:
            context = session().create_client(
                "s3",
                region_name=self._region,
                endpoint_url=self._endpoint_url,
                aws_access_key_id="none",
                aws_secret_access_key="none",  # noqa: S106 - signs what is never sent
                config=config(endpoint_url=self._endpoint_url, max_connections=1, connector={}),
            )
            self._client = await context.__aenter__()
            self._client.meta.events.register("before-send.s3", _prepared)
        return self._client


_model_of = lru_cache(maxsize=64)(_Model)


async def model(region: str, endpoint_url: str | None) -> Any:
    """A client that is asked for addresses and sends nothing, so it holds no socket and needs no closing.

    Raises BotoCoreError or ValueError when region or endpoint are malformed.
    """
    return await _model_of(region, endpoint_url).open()


async def _ambient() -> Keys | None:
    """Of the environment, the pod or the machine; renewed by botocore before they end."""
    found = await session().get_credentials()
    if found is None:
        return None
    frozen = await found.get_frozen_credentials()
    return Keys(access_key=frozen.access_key, secret_key=frozen.secret_key, token=frozen.token)


async def _blocks(body: IO[bytes]) -> AsyncIterator[bytes]:
    """The rest of `body`, read in a thread."""
    while block := await asyncio.to_thread(body.read, _READ_BYTES):
        yield block


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)
