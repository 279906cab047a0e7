"""`test connection`: what is wrong with a client's bucket, in words, on the emulator and on servers that misbehave."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import pytest
from cryptography.fernet import Fernet

from local.stack import Stack
from pipeline import destination
from pipeline.clients import Client, ClientId
from pipeline.destination import ClientAccess, ConnectionReport
from pipeline.destination.connection import TEST_BODY
from pipeline.secrets import SecretBox
from pipeline.settings import DestinationSettings
from tests.integration.syncer_scene import Scene, open_scene

Answer = Callable[[str, dict[str, str]], tuple[int, str, dict[str, str]]]
"""(request line, headers) to (status, error code or text, headers)."""


@pytest.fixture(scope="module")
async def scene(stack: Stack) -> AsyncIterator[Scene]:
    async with open_scene(stack) as scene:
        yield scene


def access_of(scene: Scene, **changes: Any) -> ClientAccess:
    return ClientAccess(scene.settings(**changes), scene.box)


def failed(report: ConnectionReport) -> destination.Step:
    """The step that failed; those before are well, those after were not tried."""
    assert not report.ok
    at = next(number for number, step in enumerate(report.steps) if not step.ok)
    assert all(step.ok is None for step in report.steps[at + 1 :])
    found = report.steps[at]
    assert found.ok is False
    assert found.explanation
    assert found.what_to_do
    return found


async def test_put_object_alone_is_enough_and_leaves_one_harmless_object(scene: Scene) -> None:
    client = await scene.add_client()
    for _ in range(2):
        report = await destination.test_connection(client, access_of(scene))
        assert (report.ok, report.warnings) == (True, ())
    assert (await scene.read(client)).objects == {"in/connection-test.txt": TEST_BODY}


@pytest.mark.parametrize(
    ("changes", "step", "code", "words"),
    [
        ({"client_s3_bucket": ""}, "settings", "SettingsMissing", "no bucket configured"),
        ({"client_s3_bucket": "No/Such"}, "settings", "InvalidBucketName", "no bucket can have this name"),
        ({"client_s3_prefix": "/in"}, "settings", "PrefixInvalid", "begins with a slash"),
        ({"client_s3_endpoint_url": "nonsense"}, "settings", "EndpointInvalid", "not a URL"),
        ({"client_s3_secret_key": "not a token"}, "credentials", "SecretUnreadable", "can't be decrypted"),
        ({"client_s3_role_arn": "arn:aws:iam::000000000000:role/nobody"}, "credentials", "", "role"),
        ({"client_s3_role_arn": "nonsense"}, "credentials", "RoleInvalid", "malformed"),
        ({"client_s3_access_key": "AKIAAAAAAAAAAAAAAAAA"}, "write", "InvalidAccessKeyId", "does not exist: revoked"),
        ({"client_s3_bucket": "no-such-bucket-there-is"}, "write", "NoSuchBucket", "the bucket does not exist"),
        ({"client_s3_endpoint_url": "http://127.0.0.1:1"}, "write", "EndpointConnectionError", "nothing answers"),
    ],
)
async def test_what_is_missing_is_said(scene: Scene, changes: dict[str, Any], step: str, code: str, words: str) -> None:
    client = replace(await scene.add_client(), **changes)
    found = failed(await destination.test_connection(client, access_of(scene)))
    assert found.name == step
    assert found.code == code or not code
    assert words in found.explanation


async def test_wrong_secret_and_missing_permission_are_told_apart(scene: Scene) -> None:
    client = await scene.add_client()
    wrong = replace(client, client_s3_secret_key=scene.box.encrypt("very-secret"))
    report = await destination.test_connection(wrong, access_of(scene))
    assert failed(report).code == "SignatureDoesNotMatch"
    assert "very-secret" not in str(report.to_document())
    async with scene.stack.aws.client("iam") as iam:
        await iam.delete_user_policy(UserName=client.client_s3_bucket, PolicyName="own")
    found = failed(await destination.test_connection(client, access_of(scene)))
    assert found.code == "AccessDenied"
    assert "s3:PutObject" in found.what_to_do


async def test_endpoint_must_be_https_and_public(scene: Scene) -> None:
    client = await scene.add_client()
    strict = access_of(scene, allow_private_endpoints=False)
    assert failed(await destination.test_connection(client, strict)).code == "EndpointNotHttps"
    private = replace(client, client_s3_endpoint_url="https://localhost:9000")
    assert failed(await destination.test_connection(private, strict)).code == "EndpointNotPublic"


@asynccontextmanager
async def bucket_that(answer: Answer) -> AsyncIterator[tuple[Client, ClientAccess]]:
    """A client whose bucket answers as it is told, and the way to it."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
                headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in head[1:])}
                if headers.get("expect"):
                    writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
                await reader.readexactly(int(headers.get("content-length", 0)))
                status, code, more = answer(head[0], headers)
                body = f"<Error><Code>{code}</Code><Message>{more.pop('message', '')}</Message></Error>" if code else ""
                fields = "".join(f"{name}: {value}\r\n" for name, value in more.items())
                sent = "" if head[0].startswith("HEAD") else body
                writer.write(f"HTTP/1.1 {status} x\r\n{fields}Content-Length: {len(body)}\r\n\r\n{sent}".encode())
                await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    box = SecretBox([Fernet.generate_key().decode()])
    client = Client(
        client_id=ClientId("c"),
        client_s3_bucket="bucket",
        client_s3_region="us-east-1",
        client_s3_endpoint_url=f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}",
        client_s3_access_key="AKIAAAAAAAAAAAAAAAAA",
        client_s3_secret_key=box.encrypt("secret"),
    )
    async with server:
        yield client, ClientAccess(DestinationSettings(allow_private_endpoints=True), box)


async def test_bucket_of_another_account_is_named_as_such_and_never_written_to() -> None:
    written = []

    def answer(request: str, headers: dict[str, str]) -> tuple[int, str, dict[str, str]]:
        if headers.get("x-amz-expected-bucket-owner") == "111111111111":
            return 403, "AccessDenied", {}
        written.extend([request] * request.startswith("PUT"))
        return 200, "", {}

    async with bucket_that(answer) as (client, access):
        stranger = replace(client, client_s3_bucket_owner="111111111111")
        found = failed(await destination.test_connection(stranger, access))
    assert found.code == "WrongBucketOwner"
    assert not written


async def test_refused_kms_key_is_told_from_a_refused_write() -> None:
    def answer(request: str, headers: dict[str, str]) -> tuple[int, str, dict[str, str]]:
        return (403, "AccessDenied", {}) if "x-amz-server-side-encryption" in headers else (200, "", {})

    async with bucket_that(answer) as (client, access):
        report = await destination.test_connection(replace(client, client_s3_kms_key="arn:aws:kms:x"), access)
    assert failed(report).code == "KmsAccessDenied"

    def says(request: str, headers: dict[str, str]) -> tuple[int, str, dict[str, str]]:
        return 403, "AccessDenied", {"message": "user is not authorized to perform: kms:GenerateDataKey"}

    async with bucket_that(says) as (client, access):
        found = failed(await destination.test_connection(client, access))
    assert "the KMS key may not be used" in found.explanation
    assert "authorized" not in found.explanation  # the service's own sentence may hold anything


async def test_clock_skew_is_told_in_minutes() -> None:
    server_time = format_datetime(datetime.now(UTC) + timedelta(minutes=42, seconds=5), usegmt=True)

    def answer(request: str, headers: dict[str, str]) -> tuple[int, str, dict[str, str]]:
        return 403, "RequestTimeTooSkewed", {"Date": server_time}

    async with bucket_that(answer) as (client, access):
        found = failed(await destination.test_connection(client, access))
    assert "42 minutes behind" in found.explanation
    assert "NTP" in found.what_to_do


async def test_wrong_region_is_answered_with_the_right_one() -> None:
    def answer(request: str, headers: dict[str, str]) -> tuple[int, str, dict[str, str]]:
        return 400, "IllegalLocationConstraintException", {"x-amz-bucket-region": "eu-central-1"}

    async with bucket_that(answer) as (client, access):
        found = failed(await destination.test_connection(client, access))
    assert "the bucket is in the region eu-central-1" in found.explanation
    assert "correct the region" in found.what_to_do


async def test_public_bucket_is_warned_of() -> None:
    def answer(request: str, headers: dict[str, str]) -> tuple[int, str, dict[str, str]]:
        return 200, "", {}

    async with bucket_that(answer) as (client, access):
        report = await destination.test_connection(client, access)
    assert report.ok
    assert len(report.warnings) == 2
    assert "public" in report.warnings[0]
