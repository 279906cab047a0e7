"""A ledger that was lost or set back, and services that are started on it: they refuse, and what is healthy goes on."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import pytest
from aiokafka.admin import AIOKafkaAdminClient

from local import ports
from local.process import Process
from local.services import Service
from local.stack import Stack
from tests.integration.processor_scene import ACTIVE, Processors
from tests.integration.streamer_scene import PARTITIONS, eventually, open_scene
from tests.integration.test_rebuild import Traffic, counts, half_delivered, restore, save, traffic

__all__ = ["traffic"]  # the fixture

pytestmark = pytest.mark.timeout(180)


@asynccontextmanager
async def service(traffic: Traffic, name: str, **environment: str) -> AsyncIterator[tuple[Process, Service]]:
    """One that is expected to answer."""
    log = traffic.scene.folder / f"{name}-{len(environment)}-refused.log"
    made = Service(name, traffic.environment(name) | environment, ports.choose((name,), {})[name], log)
    process = await made.start()
    try:
        yield process, made
    finally:
        if process.exit_status is None:
            await process.kill()


async def refuses(traffic: Traffic, name: str, what: str, **environment: str) -> None:
    """Unready, with an alert and one line for `what`; and it ends when it is told to."""
    async with service(traffic, name, **environment) as (process, made), httpx.AsyncClient(timeout=5) as http:

        async def reason() -> Any:
            assert process.exit_status is None, made.log.read_text()
            with suppress(httpx.TransportError):
                answer = await http.get(f"{made.url}/readyz")
                return answer.status_code == 503 and "rebuild-ledger" in answer.text and answer.json()["reason"]
            return None

        said = await eventually(reason, seconds=60, what=f"{name} has refused")
        assert what in said
        assert "ledger_set_back 1.0" in (await http.get(f"{made.url}/metrics")).text
        assert (await http.get(f"{made.url}/healthz")).status_code == 200
        process.signal(signal.SIGTERM)
        assert await process.wait() == 0
        lines = [line for line in made.log.read_text().splitlines() if "rebuild-ledger" in line]
        assert len(lines) == 1, lines


async def stored(traffic: Traffic) -> set[tuple[str, str, str]]:
    """All objects there are."""
    environment = traffic.scene.environment
    buckets = [environment["PROCESSED_S3_BUCKET"], *(client.client_s3_bucket for client in traffic.clients)]
    found = set()
    async with traffic.scene.stack.aws.client("s3") as s3:
        for bucket in buckets:
            async for page in s3.get_paginator("list_objects_v2").paginate(Bucket=bucket):
                found |= {(bucket, item["Key"], item["ETag"]) for item in page.get("Contents", ())}
    return found


@asynccontextmanager
async def hidden(traffic: Traffic, prefix: str) -> AsyncIterator[None]:
    """Objects of the processed bucket are gone while the block runs."""
    bucket = traffic.scene.environment["PROCESSED_S3_BUCKET"]
    async with traffic.scene.stack.aws.client("s3") as s3:
        listed = await s3.list_objects_v2(Bucket=bucket, Prefix=prefix)
        bodies = {}
        for item in listed["Contents"]:
            bodies[item["Key"]] = await (await s3.get_object(Bucket=bucket, Key=item["Key"]))["Body"].read()
            await s3.delete_object(Bucket=bucket, Key=item["Key"])
        yield
        for key, body in bodies.items():
            await s3.put_object(Bucket=bucket, Key=key, Body=body)


async def test_on_a_ledger_that_was_set_back_nothing_is_processed_or_delivered_until_it_is_rebuilt(
    traffic: Traffic,
) -> None:
    """GIVEN a backup of the ledger and events that were processed and delivered after it, WHEN services start on that
    backup, THEN each refuses, by what Kafka or S3 or both have seen, and writes nothing; rebuilt, all goes on."""
    await traffic.start()
    await traffic.insert(60)
    await traffic.until_processed(60)
    assert await traffic.deliver(0) == 0
    backup = await save(traffic)
    for _ in range(2):  # two chunks and more: what S3 has of the last one alone may have been written before a crash
        await traffic.insert(60)
        await traffic.until_processed(len(traffic.inserted))
    await half_delivered(traffic)
    await traffic.stop()
    await restore(traffic, backup)
    before = await counts(traffic), await stored(traffic)
    _, _, _, status = await asyncio.gather(
        refuses(traffic, "processor", f"{traffic.scene.topic}-"),
        refuses(traffic, "processor", f"{traffic.scene.topic}-", KAFKA_GROUP=f"{traffic.scene.topic}-other"),
        refuses(traffic, "syncer", f"client {traffic.clients[0].client_id}"),
        traffic.deliver(0),
    )
    assert status == 1
    assert (await counts(traffic), await stored(traffic)) == before
    async with hidden(traffic, "ledger/chunks/"):
        (doubt, *_) = [doubt for doubt in (await traffic.rebuild(dry_run=True)).doubts if "KAFKA_GROUP" in doubt]
        assert "was processed to sequence" in doubt
    foretold = await traffic.rebuild(dry_run=True)
    assert await counts(traffic) == before[0]
    report = await traffic.rebuild()
    assert report.doubts == []
    assert report.restored == foretold.restored
    assert report.restored["raw objects"] > 0 < report.known["raw objects"]
    await traffic.start()
    await traffic.insert(60)
    await traffic.finish()
    await traffic.check()


async def test_a_topic_made_anew_under_its_old_name_is_no_ledger_that_was_set_back(
    stack: Stack, tmp_path: Path
) -> None:
    async with AsyncExitStack() as exits:
        scene = await exits.enter_async_context(open_scene(stack, tmp_path))
        processors = Processors(scene)
        exits.push_async_callback(processors.close)
        streamer = await scene.streamer().start()
        await streamer.until_state("streaming")
        process, _ = await processors.start()
        for _ in range(2):
            await processors.insert(90, ACTIVE)
            await eventually(processors.settled, what="all processed")
        await scene.until_recorded()
        for running in (process, streamer.process):
            assert running is not None
            running.signal(signal.SIGTERM)
            assert await running.wait() == 0
        await make_topic_anew(stack, scene.topic)
        streamer = await scene.streamer().start()
        await streamer.until_state("streaming")
        _, service = await processors.start()
        async with httpx.AsyncClient() as http:

            async def ready() -> bool:
                with suppress(httpx.TransportError):
                    return (await http.get(f"{service.url}/readyz")).status_code == 200
                return False

            await eventually(ready, seconds=60, what="the processor is ready")
        await processors.insert(90, ACTIVE)
        await eventually(processors.settled, seconds=60, what="what came after is processed")
        await scene.until_recorded()
        await processors.check()


async def make_topic_anew(stack: Stack, topic: str) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=stack.kafka.bootstrap_servers)
    await admin.start()
    try:
        await admin.delete_topics([topic])

        async def gone() -> bool:
            return topic not in await admin.list_topics()

        await eventually(gone, what="the topic is gone")
    finally:
        await admin.close()
    await stack.kafka.create_topic(topic, partitions=PARTITIONS, retention_hours=1)
