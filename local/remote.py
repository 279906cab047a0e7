"""`python -m local provision`: topic, buckets, queue and sample clients on servers that run in containers.

It does once what `local up` does at each start, with the environment of the services: KAFKA_*, AWS_*, DATABASE_URL,
CLIENT_STORE. The AWS key has to be the emulator's root.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Callable
from pathlib import Path

from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from botocore.exceptions import BotoCoreError

from local import provision, samples
from local.aws import AccessKey, Aws
from local.kafka import MAX_MESSAGE_BYTES
from local.process import PartError
from local.state import State
from pipeline.errors import PipelineError, TransientError
from pipeline.kafka import connection_options, start
from pipeline.secrets import SecretBox
from pipeline.settings import ClientStoreSettings, DatabaseSettings, KafkaSettings, ProcessedS3Settings, RawS3Settings
from pipeline.stores import open_store

PATIENCE_SECONDS = 120.0
"""Containers start in any order, and a broker takes its time."""


class RemoteSettings(DatabaseSettings, KafkaSettings, RawS3Settings, ProcessedS3Settings, ClientStoreSettings):
    """What the services read too."""


class RemoteAws(Aws):
    """An emulator that somebody else runs."""

    def __init__(self, endpoint_url: str, *, root: AccessKey) -> None:
        super().__init__(Path(), 0, root=root)
        self._endpoint_url = endpoint_url

    @property
    def endpoint_url(self) -> str:
        """AWS_ENDPOINT_URL."""
        return self._endpoint_url


def run(folder: Path, say: Callable[[str], None]) -> int:
    """Provision until everything is there; the exit status. `folder` remembers keys from run to run."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        asyncio.run(_run(folder, say))
    except (PipelineError, PartError, BotoCoreError, OSError, TimeoutError) as error:
        print(f"local provision: {error or type(error).__name__}", file=sys.stderr)
        return 1
    return 0


async def _run(folder: Path, say: Callable[[str], None]) -> None:
    settings = RemoteSettings.load()
    root = AccessKey(os.environ["AWS_ACCESS_KEY_ID"], os.environ["AWS_SECRET_ACCESS_KEY"])
    aws = RemoteAws(str(settings.aws_endpoint_url), root=root)
    state = State.load(folder)
    async with asyncio.timeout(PATIENCE_SECONDS):
        await _create_topic(settings)
        say(f"topic {settings.kafka_raw_topic}")
        await _until_it_answers(aws)
        deployed = await provision.deploy(aws)
        say("buckets " + ", ".join(deployed.outputs[name] for name in ("RawBucket", "ProcessedBucket")))
        accesses = await samples.ensure_access(aws, state)
        state.save(folder)
        store = await open_store(
            kind=settings.client_store, project=settings.google_cloud_project, dsn=settings.ledger_dsn
        )
        try:
            box = SecretBox([key.get_secret_value() for key in settings.credentials_keys])
            await samples.ensure_clients(store, box, accesses, endpoint_url=aws.endpoint_url)
        finally:
            await store.close()
        samples.write_accesses(folder / "clients.json", accesses, endpoint_url=aws.endpoint_url)
    say(f"{len(accesses)} sample clients; their keys are in {folder}/clients.json")


async def _create_topic(settings: RemoteSettings) -> None:
    """Create the topic unless it is there."""
    topic = NewTopic(
        settings.kafka_raw_topic,
        num_partitions=settings.kafka_partitions,
        replication_factor=1,
        topic_configs={
            "retention.ms": str(settings.kafka_retention_hours * 3_600_000),
            "cleanup.policy": "delete",
            "max.message.bytes": str(MAX_MESSAGE_BYTES),
        },
    )
    while True:
        client = AIOKafkaAdminClient(**connection_options(settings))
        try:
            await start(client, settings.kafka_bootstrap_servers)
            break
        except TransientError:
            await asyncio.sleep(1)
    try:
        answer = await client.create_topics([topic])
    finally:
        await client.close()
    already_exists = 36  # https://kafka.apache.org/protocol#protocol_error_codes
    failed = [error for error in answer.topic_errors if error[1] not in (0, already_exists)]
    if failed:
        raise PartError(f"the broker refuses topic {settings.kafka_raw_topic}: {failed[0]}")


async def _until_it_answers(aws: Aws) -> None:
    while True:
        try:
            async with aws.client("sts") as sts:
                await sts.get_caller_identity()
            return
        except BotoCoreError:
            await asyncio.sleep(1)
