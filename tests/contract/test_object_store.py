"""The port to object storage, the same tests on the embedded stack's S3 and on moto's: what may repeat, what raises."""

from __future__ import annotations

import io
import os
import tempfile
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import IO, Any

import pytest
from moto.server import ThreadedMotoServer
from pydantic import SecretStr

from local.stack import Stack
from pipeline import multipart, s3, s3_direct
from pipeline.errors import PermanentError, TransientError
from pipeline.s3 import BucketAccess, ObjectStore, digest, open_bucket

BODY = b'{"a":1}\n'


@pytest.fixture(scope="module")
def moto_url() -> AsyncIterator[str]:
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture(params=["embedded", "moto"])
async def store(request: pytest.FixtureRequest, stack: Stack, moto_url: str) -> AsyncIterator[ObjectStore]:
    environment = stack.environment
    if request.param == "embedded":
        access = BucketAccess(
            bucket=environment["RAW_S3_BUCKET"],
            region=environment["RAW_S3_REGION"],
            endpoint_url=environment["RAW_S3_ENDPOINT_URL"],
            access_key=SecretStr(environment["RAW_S3_ACCESS_KEY"]),
            secret_key=SecretStr(environment["RAW_S3_SECRET_KEY"]),
            kms_key=environment["RAW_S3_KMS_KEY"],
        )
    else:
        access = BucketAccess(
            bucket="bucket",
            region="us-east-1",
            endpoint_url=moto_url,
            access_key=SecretStr("any"),
            secret_key=SecretStr("any"),
        )
    async with open_bucket(access) as opened:
        if request.param == "moto":
            await (await opened._client.open()).create_bucket(Bucket="bucket")
        yield opened


def key() -> str:
    return f"raw-events/contract/{uuid.uuid4()}"


async def test_what_was_put_comes_back_with_its_metadata(store: ObjectStore) -> None:
    name = key()
    await store.put_new(name, BODY, sha256=digest(BODY), metadata={"events": "1"})
    assert await store.get(name) == BODY
    metadata = await store.head(name)
    assert metadata is not None
    assert (metadata["events"], metadata["sha256"]) == ("1", digest(BODY).hex())


async def test_a_listing_begins_behind_a_key(store: ObjectStore) -> None:
    folder = key()
    names = [f"{folder}/{number}" for number in (1, 2, 10)]
    for name in names:
        await store.put_new(name, BODY, sha256=digest(BODY), metadata={})
    assert [item.key async for item in store.list(f"{folder}/")] == sorted(names)
    assert [item.key async for item in store.list(f"{folder}/", after=f"{folder}/1")] == sorted(names)[1:]
    assert [item.key async for item in store.list(f"{folder}/", after=f"{folder}/9")] == []


ODD_KEYS = ("a b/ü+%2F~?#&=", "x/../y", "//double//", "dot/./.", "'quote'(1)*!", "日本/\U0001f600")


@pytest.mark.parametrize("odd", ODD_KEYS)
async def test_direct_requests_are_signed_as_the_store_demands_whatever_the_key(
    store: ObjectStore, monkeypatch: pytest.MonkeyPatch, odd: str
) -> None:
    """The embedded store compares signatures; the client that is asked after a failure must not be needed."""

    async def failing(operation: str, **_: Any) -> Any:
        raise AssertionError(f"{operation} went through botocore")

    name = f"{key()}/{odd}"
    monkeypatch.setattr(store, "_call", failing)
    body = os.urandom(100)
    assert await store.create(name, body, sha256=digest(body), metadata={"Prefix": "a  b ", "events": "1"})
    assert not await store.create(name, body, sha256=digest(body), metadata={})
    await store.put(name, io.BytesIO(body), sha256=digest(body), metadata={"events": "2"})
    assert await store.get(name) == body
    monkeypatch.undo()
    assert (await store.fetch(name)) == (body, {"events": "2", "sha256": digest(body).hex()})


async def test_what_a_direct_request_is_refused_is_tried_with_botocore(
    store: ObjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = key()
    await store.put_new(name, BODY, sha256=digest(BODY), metadata={})
    monkeypatch.setattr(s3_direct, "sign", lambda **arguments: dict(arguments["headers"]))
    assert await store.get(name) == BODY
    await store.put_new(name, io.BytesIO(BODY), sha256=digest(BODY), metadata={})


async def test_credentials_of_the_environment_sign_direct_requests(
    store: ObjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = key()
    await store.put_new(name, BODY, sha256=digest(BODY), metadata={})
    assert store.access.access_key is not None
    assert store.access.secret_key is not None
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", store.access.access_key.get_secret_value())
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", store.access.secret_key.get_secret_value())
    s3_direct.session.cache_clear()
    try:
        async with open_bucket(replace(store.access, access_key=None, secret_key=None)) as ambient:
            monkeypatch.setattr(ambient, "_call", None)
            assert await ambient.get(name) == BODY
    finally:
        s3_direct.session.cache_clear()


async def test_a_file_is_put_like_bytes(store: ObjectStore) -> None:
    name = key()
    await store.put_new(name, io.BytesIO(BODY), sha256=digest(BODY), metadata={})
    assert await store.get(name) == BODY


async def test_the_same_object_may_be_put_again_and_another_one_may_not(store: ObjectStore) -> None:
    name = key()
    for _ in range(2):
        await store.put_new(name, BODY, sha256=digest(BODY), metadata={})
    with pytest.raises(PermanentError, match="other content"):
        await store.put_new(name, b"other", sha256=digest(b"other"), metadata={})
    assert await store.get(name) == BODY


@pytest.mark.parametrize("store", ["embedded"], indirect=True)  # moto takes any checksum for granted
async def test_a_body_that_is_not_what_its_checksum_says_is_refused(store: ObjectStore) -> None:
    name = key()
    with pytest.raises((TransientError, PermanentError)):
        await store.put_new(name, BODY, sha256=digest(b"other"), metadata={})
    assert await store.head(name) is None


async def test_a_missing_object_is_none_to_head_and_an_error_to_get(store: ObjectStore) -> None:
    assert await store.head(key()) is None
    with pytest.raises(PermanentError, match="NoSuchKey"):
        await store.get(key())


async def test_a_missing_bucket_and_a_silent_endpoint_are_told_apart(store: ObjectStore, stack: Stack) -> None:
    await store.check()
    access = store.access
    absent = BucketAccess(
        bucket=f"absent-{uuid.uuid4()}",
        region=access.region,
        endpoint_url=access.endpoint_url,
        access_key=access.access_key,
        secret_key=access.secret_key,
    )
    async with open_bucket(absent) as other:
        with pytest.raises(PermanentError):
            await other.check()
    silent = BucketAccess(
        bucket="b",
        region="us-east-1",
        endpoint_url="http://127.0.0.1:1",
        access_key=access.access_key,
        secret_key=access.secret_key,
    )
    async with open_bucket(silent) as other:
        with pytest.raises(TransientError):
            await other.check()


async def test_half_a_key_pair_is_an_error_and_not_ambient_credentials() -> None:
    half = BucketAccess(bucket="b", region="us-east-1", access_key=SecretStr("a"))
    with pytest.raises(PermanentError, match="without its secret"):
        async with open_bucket(half):
            pass


async def test_a_wrong_key_is_refused_for_good(stack: Stack) -> None:
    access = BucketAccess(
        bucket=stack.environment["RAW_S3_BUCKET"],
        region="us-east-1",
        endpoint_url=stack.environment["RAW_S3_ENDPOINT_URL"],
        access_key=SecretStr("AKIAWRONGWRONGWRONG"),
        secret_key=SecretStr("wrong"),
    )
    async with open_bucket(access) as store:
        with pytest.raises(PermanentError):
            await store.put_new(key(), BODY, sha256=digest(BODY), metadata={})


async def uploads_of(store: ObjectStore, stack: Stack, name: str) -> list[str]:
    """Uploads in parts of `name` that are neither complete nor given up, as the bucket's owner sees them."""
    async with stack.aws.client("s3") as owner:
        client = owner if store.access.endpoint_url == stack.aws.endpoint_url else await store._client.open()
        answer = await client.list_multipart_uploads(Bucket=store.bucket)
    return [upload["UploadId"] for upload in answer.get("Uploads", ()) if upload["Key"] == name]


@contextmanager
def large_file(monkeypatch: pytest.MonkeyPatch, size: int) -> Iterator[tuple[IO[bytes], bytes]]:
    """A file of `size` bytes that counts as large, and its digest. Parts have 5 MiB, the least that S3 takes."""
    monkeypatch.setattr(s3, "LARGE_BYTES", 1 << 20)
    monkeypatch.setattr(multipart, "_PART_BYTES", 5 << 20)
    data = os.urandom(size)
    with tempfile.TemporaryFile() as body:
        body.write(data)
        yield body, digest(data)


async def test_a_large_file_goes_in_parts_under_the_same_conditions(
    store: ObjectStore, stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = key()
    with large_file(monkeypatch, (10 << 20) + 7) as (body, sha256):
        assert await store.create(name, body, sha256=sha256, metadata={"events": "1"})
        assert not await store.create(name, body, sha256=sha256, metadata={})
        await store.put_new(name, body, sha256=sha256, metadata={})
    stored, metadata = await store.fetch(name)
    assert digest(stored) == sha256
    assert (metadata["events"], metadata["sha256"]) == ("1", sha256.hex())
    assert await uploads_of(store, stack, name) == []
    with large_file(monkeypatch, 6 << 20) as (body, other):
        with pytest.raises(PermanentError, match="other content"):
            await store.put_new(name, body, sha256=other, metadata={})
        await store.put(name, body, sha256=other, metadata={})
    assert digest(await store.get(name)) == other
    assert await uploads_of(store, stack, name) == []


async def test_parts_of_a_failed_upload_are_given_up(
    store: ObjectStore, stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = key()
    real = store._put_part

    async def failing(*arguments: Any, **named: Any) -> str:
        if named["number"] == 2:
            raise TransientError("the network broke off")
        return await real(*arguments, **named)

    monkeypatch.setattr(store, "_put_part", failing)
    with large_file(monkeypatch, 12 << 20) as (body, sha256):
        with pytest.raises(TransientError, match="broke off"):
            await store.put_new(name, body, sha256=sha256, metadata={})
        monkeypatch.undo()
    assert await store.head(name) is None
    assert await uploads_of(store, stack, name) == []
