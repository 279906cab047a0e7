"""The embedded stack, as `python -m local up` and as the session's fixture."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import stat
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psutil
import psycopg
import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from botocore.exceptions import ClientError

from local import ports
from local.aws import AccessKey
from local.firestore import PROJECT
from local.samples import SAMPLES
from local.stack import TOPIC, Stack
from local.state import read_env
from pipeline.clients import Client
from pipeline.secrets import SecretBox
from pipeline.stores import open_store

ROOT = Path(__file__).parents[2]


def key_of(stack: Stack, prefix: str) -> AccessKey:
    """A key pair of the environment, e.g. RAW_S3."""
    names = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY") if prefix == "AWS" else ()
    key_id, secret = names or (f"{prefix}_ACCESS_KEY", f"{prefix}_SECRET_KEY")
    return AccessKey(stack.environment[key_id], stack.environment[secret])


async def refusal(call: Any) -> str:
    """The error code with which AWS refuses; empty when it does not."""
    try:
        await call
    except ClientError as error:
        return str(error.response["Error"]["Code"])
    return ""


async def until(condition: Callable[[], bool], seconds: float = 30) -> None:
    """Wait for what can only be asked: files, processes, ports. Raises TimeoutError."""
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.02)


def test_environment_is_complete_and_private(stack: Stack) -> None:
    assert read_env(stack.env_file) == stack.environment
    assert "HEALTH_PORT" not in stack.environment
    for name in ("env", "clients.json", "state.json"):
        assert stat.S_IMODE((stack.folder / name).stat().st_mode) == 0o600


async def test_second_up_on_the_folder_is_refused_in_one_line(stack: Stack) -> None:
    process = await spawn_up(stack.folder)
    _out, error = await process.communicate()
    assert process.returncode == 2
    assert error.decode() == f"local up: another stack (process {os.getpid()}) runs in {stack.folder}\n"
    assert stack.env_file.exists()


async def test_database_owner_is_no_superuser_and_may_replicate(stack: Stack) -> None:
    async with await psycopg.AsyncConnection.connect(stack.postgres.dsn) as connection:
        cursor = await connection.execute(
            "SELECT rolname, rolsuper, rolreplication, current_setting('wal_level'), current_setting('TimeZone'),"
            " to_regclass('events_log') IS NOT NULL, to_regclass('pipeline.raw_objects') IS NOT NULL"
            " FROM pg_roles WHERE rolname = current_user"
        )
        assert await cursor.fetchone() == ("pipeline", False, True, "logical", "UTC", True, True)


async def test_topic_has_its_partitions_and_retention(stack: Stack) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=stack.kafka.bootstrap_servers)
    await admin.start()
    try:
        (topic,) = await admin.describe_topics([TOPIC])
        (answer,) = await admin.describe_configs([ConfigResource(ConfigResourceType.TOPIC, TOPIC)])
    finally:
        await admin.close()
    assert len(topic["partitions"]) == int(stack.environment["KAFKA_PARTITIONS"]) == 12
    settings = {entry[0]: entry[1] for entry in answer.resources[0][4]}
    assert int(settings["retention.ms"]) == int(stack.environment["KAFKA_RETENTION_HOURS"]) * 3_600_000


async def test_killed_broker_keeps_acknowledged_records(stack: Stack) -> None:
    if stack.kafka.remark:
        pytest.skip(stack.kafka.remark)
    topic = "test.killed-broker"
    await stack.kafka.create_topic(topic, partitions=1, retention_hours=1)
    servers, value = stack.kafka.bootstrap_servers, b"x" * 2_000_000  # larger than Kafka's default limit
    producer = AIOKafkaProducer(bootstrap_servers=servers, acks="all", max_request_size=8_000_000)
    await producer.start()
    await producer.send_and_wait(topic, value, partition=0)
    await producer.stop()

    await stack.kafka.kill()
    await stack.kafka.start()

    consumer = AIOKafkaConsumer(bootstrap_servers=servers, max_partition_fetch_bytes=8_000_000)
    await consumer.start()
    try:
        partition = TopicPartition(topic, 0)
        consumer.assign([partition])
        await consumer.seek_to_beginning(partition)
        record = await asyncio.wait_for(consumer.getone(), 20)
    finally:
        await consumer.stop()
    assert record.value == value


async def test_buckets_are_as_the_template_says(stack: Stack) -> None:
    async with stack.aws.client("s3") as s3:
        for name in ("RAW", "PROCESSED"):
            bucket = stack.environment[f"{name}_S3_BUCKET"]
            rules = (await s3.get_bucket_encryption(Bucket=bucket))["ServerSideEncryptionConfiguration"]["Rules"]
            default = rules[0]["ApplyServerSideEncryptionByDefault"]
            assert default == {"SSEAlgorithm": "aws:kms", "KMSMasterKeyID": stack.environment[f"{name}_S3_KMS_KEY"]}
            assert (await s3.get_bucket_versioning(Bucket=bucket))["Status"] == "Enabled"
            blocked = (await s3.get_public_access_block(Bucket=bucket))["PublicAccessBlockConfiguration"]
            assert all(blocked.values())
            assert len(blocked) == 4
            lifecycle = (await s3.get_bucket_lifecycle_configuration(Bucket=bucket))["Rules"]
            rules = {rule["ID"]: rule for rule in lifecycle}
            events = rules["expire" if name == "RAW" else "expire-processed-events"]
            assert events["Expiration"]["Days"] == int(stack.environment[f"{name}_RETENTION_DAYS"])
            assert rules["expire-versions"]["NoncurrentVersionExpiration"]["NoncurrentDays"] == 7
            assert rules["delete-markers"]["Expiration"]["ExpiredObjectDeleteMarker"] is True


async def test_service_keys_do_what_their_service_needs_and_no_more(stack: Stack) -> None:
    raw, processed, key = "events-raw", "events-processed", "raw-events/test/least-privilege"
    kms = {"ServerSideEncryption": "aws:kms", "SSEKMSKeyId": stack.environment["RAW_S3_KMS_KEY"]}
    async with stack.aws.client("s3", key_of(stack, "RAW_S3")) as s3:
        await s3.put_object(Bucket=raw, Key=key, Body=b"1", IfNoneMatch="*", **kms)
        assert await refusal(s3.put_object(Bucket=raw, Key=key, Body=b"2", IfNoneMatch="*")) == "PreconditionFailed"
        assert await (await s3.get_object(Bucket=raw, Key=key))["Body"].read() == b"1"
        assert await refusal(s3.get_object(Bucket=raw, Key=f"{key}-missing")) == "NoSuchKey"
        assert await refusal(s3.delete_object(Bucket=raw, Key=key)) == "AccessDenied"
        assert await refusal(s3.put_object(Bucket=processed, Key="a", Body=b"1")) == "AccessDenied"
    async with stack.aws.client("s3", key_of(stack, "PROCESSED_S3")) as s3:
        await s3.put_object(Bucket=processed, Key="processed-events/test", Body=b"1")
        assert await refusal(s3.put_object(Bucket=SAMPLES[0].bucket, Key="a", Body=b"1")) == "AccessDenied"
    queue = stack.environment["SYNC_QUEUE_URL"]
    async with stack.aws.client("sqs", key_of(stack, "AWS")) as sqs:
        await sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=["ApproximateNumberOfMessages"])
    async with stack.aws.client("sqs", key_of(stack, "RAW_S3")) as sqs:
        assert await refusal(sqs.send_message(QueueUrl=queue, MessageBody="{}")) == "AccessDenied"


async def test_bucket_opens_for_its_clients_key_alone(stack: Stack) -> None:
    first, second = (AccessKey(access.key.key_id, access.key.secret) for access in stack.samples[:2])
    bucket, other = SAMPLES[0].bucket, SAMPLES[1].bucket
    strangers = {
        AccessKey(first.key_id, "wrong"): "SignatureDoesNotMatch",
        AccessKey("AKIAAAAAAAAAAAAAAAAA", "wrong"): "InvalidAccessKeyId",
        AccessKey("test", "test"): "InvalidAccessKeyId",
        AccessKey("000000000000", "test"): "InvalidAccessKeyId",
        second: "AccessDenied",
    }
    async with stack.aws.client("s3", first) as s3:
        await s3.put_object(Bucket=bucket, Key="test/own", Body=b"1")
        assert await refusal(s3.put_object(Bucket=other, Key="test/own", Body=b"1")) == "AccessDenied"
        assert await refusal(s3.get_object(Bucket="events-raw", Key="raw-events/a")) == "AccessDenied"
    for key, code in strangers.items():
        async with stack.aws.client("s3", key) as s3:
            assert await refusal(s3.put_object(Bucket=bucket, Key="test/stranger", Body=b"1")) == code
            assert await refusal(s3.get_object(Bucket=bucket, Key="test/own")) == code


async def test_killed_aws_keeps_objects_users_and_queues(stack: Stack) -> None:
    access, key = stack.samples[0], "test/before-the-kill"
    async with stack.aws.client("s3", access.key) as s3:
        await s3.put_object(Bucket=access.sample.bucket, Key=key, Body=b"1")
    saved = stack.folder / "aws" / "state" / "iam.json"
    before = saved.stat().st_mtime_ns if saved.exists() else 0
    await until(lambda: saved.exists() and saved.stat().st_mtime_ns != before)

    await stack.aws.kill()
    await stack.aws.start()

    async with stack.aws.client("s3", access.key) as s3:
        assert await (await s3.get_object(Bucket=access.sample.bucket, Key=key))["Body"].read() == b"1"
    async with stack.aws.client("s3", stack.samples[1].key) as s3:
        assert await refusal(s3.get_object(Bucket=access.sample.bucket, Key=key)) == "AccessDenied"
    async with stack.aws.client("sqs", key_of(stack, "AWS")) as sqs:
        await sqs.get_queue_attributes(QueueUrl=stack.environment["SYNC_QUEUE_URL"], AttributeNames=["QueueArn"])


async def stored_clients(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> dict[str, Client]:
    """What is in the client store."""
    kind = stack.environment["CLIENT_STORE"]
    if kind == "firestore":
        monkeypatch.setenv("FIRESTORE_EMULATOR_HOST", stack.environment["FIRESTORE_EMULATOR_HOST"])
    store = await open_store(kind=kind, project=PROJECT, dsn=stack.postgres.dsn)
    try:
        return {client.client_id: client for client in await store.changed_since(None) if isinstance(client, Client)}
    finally:
        await store.close()


async def test_sample_clients_are_stored_with_keys_that_open_their_buckets(
    stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    clients = await stored_clients(stack, monkeypatch)
    box = SecretBox(stack.environment["CREDENTIALS_KEYS"].split(","))
    told = {item["client_id"]: item for item in json.loads((stack.folder / "clients.json").read_text())}
    active = [sample for sample in SAMPLES if sample.active]
    assert sorted(sample.level for sample in active) == ["gdpr", "gdpr", "hipaa", "hipaa", "standard", "standard"]
    for sample in SAMPLES:
        client = clients[sample.client_id]
        assert client.is_active is sample.active
        assert client.privacy_level is sample.level
        assert client.sync_enabled
        assert told[sample.client_id]["access_key"] == client.client_s3_access_key
        secret = box.decrypt(client.client_s3_secret_key)
        assert told[sample.client_id]["secret_key"] == secret
        assert box.decrypt(client.pseudonym_keys[0].secret)
        async with stack.aws.client("s3", AccessKey(client.client_s3_access_key, secret)) as s3:
            await s3.list_objects_v2(Bucket=client.client_s3_bucket, Prefix="none/")


async def test_client_store_keeps_its_data_over_a_stop(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    if stack.firestore is None:
        assert not os.environ.get("CI"), "CI has the Firestore emulator and must use it"
        pytest.skip("the Firestore emulator is not installed")
    before = await stored_clients(stack, monkeypatch)
    await stack.firestore.stop()
    await stack.firestore.start()
    assert await stored_clients(stack, monkeypatch) == before


# `python -m local up` as a process of its own


async def spawn_up(folder: Path) -> asyncio.subprocess.Process:
    """Start it."""
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "local", "up", "--dir", str(folder)),
        cwd=ROOT,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )


def env_time(folder: Path) -> int:
    """When it was written, in nanoseconds; 0 when there is none."""
    path = folder / "env"
    return path.stat().st_mtime_ns if path.exists() else 0


@asynccontextmanager
async def up(folder: Path) -> AsyncIterator[tuple[asyncio.subprocess.Process, dict[str, str]]]:
    """A running one with its environment; ended by the caller."""
    stale = env_time(folder)  # of one that was killed
    process = await spawn_up(folder)
    try:
        await until(lambda: process.returncode is not None or env_time(folder) not in (0, stale))
        assert process.returncode is None
        yield process, read_env(folder / "env")
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One folder for the tests below: they start on what the one before left."""
    return tmp_path_factory.mktemp("up")


def children(process: asyncio.subprocess.Process) -> list[psutil.Process]:
    """All processes below it."""
    found: list[psutil.Process] = psutil.Process(process.pid).children(recursive=True)
    assert len(found) >= 4
    return found


async def all_gone(folder: Path, processes: list[psutil.Process]) -> None:
    """Wait until the processes have ended and the ports are free; fail after a while."""
    numbers = json.loads((folder / "state.json").read_text())["ports"].values()
    await until(lambda: not any(process.is_running() for process in processes))
    await until(lambda: all(ports.is_free(port) for port in numbers))


async def test_restart_keeps_secrets_ports_and_data_and_leaves_nothing_behind(folder: Path) -> None:
    async with up(folder) as (process, first):
        async with await psycopg.AsyncConnection.connect(first["DATABASE_URL"]) as connection:
            await connection.execute("CREATE TABLE kept (n int)")
        below = children(process)
        process.send_signal(signal.SIGTERM)
        assert await asyncio.wait_for(process.wait(), 30) == 0
        assert not (folder / "env").exists()
        assert not any(child.is_running() for child in below)
        await all_gone(folder, below)

    async with up(folder) as (process, second):
        assert second == first
        async with await psycopg.AsyncConnection.connect(first["DATABASE_URL"]) as connection:
            await connection.execute("SELECT n FROM kept")
        process.send_signal(signal.SIGINT)
        assert await asyncio.wait_for(process.wait(), 30) == 0


async def test_killed_supervisor_takes_its_parts_along_and_the_next_start_works(folder: Path) -> None:
    async with up(folder) as (process, first):
        below = children(process)
        process.kill()
        await process.wait()
        await all_gone(folder, below)

    async with up(folder) as (process, second):
        assert second == first
        process.send_signal(signal.SIGTERM)
        assert await asyncio.wait_for(process.wait(), 30) == 0


async def test_part_that_dies_by_itself_ends_the_stack(folder: Path) -> None:
    async with up(folder) as (process, _environment):
        below = children(process)
        pid = json.loads((folder / "pids").read_text())["PostgreSQL"][0]
        os.kill(pid, signal.SIGKILL)
        assert await asyncio.wait_for(process.wait(), 30) == 1
        assert process.stderr
        assert (await process.stderr.read()).startswith(b"local up: PostgreSQL ended by itself with status -9")
        await all_gone(folder, below)
    assert not (folder / "env").exists()


async def test_signal_during_the_start_stops_what_runs(folder: Path) -> None:
    process = await spawn_up(folder)
    try:
        await until((folder / "pids").exists)
        process.send_signal(signal.SIGTERM)
        assert await asyncio.wait_for(process.wait(), 30) == 0
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()
    await all_gone(folder, [])
    assert not (folder / "env").exists()


# Last, because it may have to wait for the minute


@pytest.mark.chaos  # half a minute of waiting; tests/e2e depends on the same rules
@pytest.mark.timeout(120)  # the emulator fires a rate of one minute within 70 seconds
async def test_rules_fire_by_themselves_with_exactly_the_agreed_body(stack: Stack) -> None:
    seen: dict[str, str] = {}
    async with asyncio.timeout(110), stack.aws.client("sqs", key_of(stack, "AWS")) as sqs:
        while seen.keys() != {"hourly", "daily", "weekly"}:
            queue = stack.environment["SYNC_QUEUE_URL"]
            answer = await sqs.receive_message(QueueUrl=queue, MaxNumberOfMessages=10, WaitTimeSeconds=5)
            for message in answer.get("Messages", []):
                body = json.loads(message["Body"])
                if "time" in body:
                    seen[body["sync_frequency"]] = message["Body"]
                    await sqs.delete_message(QueueUrl=queue, ReceiptHandle=message["ReceiptHandle"])
    for frequency, text in seen.items():
        found = re.fullmatch(r'\{"sync_frequency": "(\w+)", "time": "(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ)"\}', text)
        assert found
        assert found[1] == frequency
        assert abs(datetime.now(UTC) - datetime.fromisoformat(found[2])) < timedelta(minutes=30)
