"""The processor on real parts: every event in exactly one object that exists, whoever dies or sleeps meanwhile."""

from __future__ import annotations

import signal
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
from aiokafka import TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, RecordsToDelete

from local.process import Process
from local.stack import Stack
from tests.integration.processor_scene import ACTIVE, Processors
from tests.integration.streamer_scene import PARTITIONS, eventually, open_scene

pytestmark = pytest.mark.timeout(120)


@pytest.fixture
async def processors(stack: Stack, tmp_path: Path) -> AsyncIterator[Processors]:
    async with open_scene(stack, tmp_path) as scene:
        members = Processors(scene)
        yield members
        await members.close()


async def test_events_reach_their_clients_objects_and_strangers_the_quarantine(processors: Processors) -> None:
    streamer = await processors.scene.streamer().start()
    await streamer.until_state("streaming")
    process, service = await processors.start()
    await processors.insert(600, [*ACTIVE, "nobody", "quarry-inactive"])
    await eventually(processors.settled, what="all processed")
    await processors.scene.until_recorded()
    await processors.check()
    kinds = {(kind, client_id) for kind, client_id, *_ in await processors.objects()}
    assert kinds == {("client", client_id) for client_id in ACTIVE} | {("quarantine", "")}
    async with httpx.AsyncClient() as http:
        assert (await http.get(f"{service.url}/readyz")).json() == {"ready": True, "reason": None}
        assert (await http.get(f"{service.url}/process/status")).json()["events"] == 600
        assert (await http.post(f"{service.url}/process/run")).status_code == 401
        key = {"Authorization": f"Bearer {processors.scene.environment['ADMIN_API_KEY']}"}
        assert (await http.post(f"{service.url}/process/run", headers=key)).status_code == 200
    process.signal(signal.SIGTERM)
    assert await process.wait() == 0


@pytest.mark.parametrize("failpoint", ["processor.after_put", "processor.after_ledger"])
async def test_killed_around_its_commit_and_restarted_nothing_is_lost_or_doubled(
    processors: Processors, failpoint: str
) -> None:
    streamer = await processors.scene.streamer().start()
    await streamer.until_state("streaming")
    process, _ = await processors.start(FAILPOINT=failpoint)
    while process.exit_status is None:
        await processors.insert(300, ACTIVE)
        await eventually(lambda: _settled_or_dead(processors, process), what="a chunk or the failpoint")
    assert process.exit_status == -signal.SIGKILL
    await processors.insert(300, ACTIVE)
    await processors.start()
    await eventually(processors.settled, seconds=60, what="all processed")
    await processors.scene.until_recorded()
    await processors.check()


async def _settled_or_dead(processors: Processors, process: Process) -> bool:
    return process.exit_status is not None or await processors.settled()


async def test_a_member_that_slept_while_its_partitions_moved_is_fenced(processors: Processors) -> None:
    streamer = await processors.scene.streamer().start()
    await streamer.until_state("streaming")
    sleeper, service = await processors.start(PROCESSED_FLUSH_SECONDS="3600")
    await processors.insert(300, ACTIVE)

    async def gathered() -> bool:
        async with httpx.AsyncClient() as http:
            try:
                status = (await http.get(f"{service.url}/process/status")).json()
            except httpx.TransportError:
                return False
        return bool(status["events"] == 300)

    await eventually(gathered, what="the sleeper has gathered")
    sleeper.signal(signal.SIGSTOP)
    await processors.start()
    await eventually(processors.settled, seconds=60, what="the other one has processed all")
    sleeper.signal(signal.SIGCONT)
    sleeper.signal(signal.SIGTERM)  # its last act is to write what it has gathered
    assert await sleeper.wait() in (0, 1)
    await processors.insert(100, ACTIVE)
    await eventually(processors.settled, seconds=60, what="all processed")
    await processors.scene.until_recorded()
    await processors.check()


async def test_records_that_kafka_has_forgotten_are_refilled_from_raw_files(processors: Processors) -> None:
    streamer = await processors.scene.streamer().start()
    await streamer.until_state("streaming")
    await processors.insert(500, ACTIVE)
    await processors.scene.until_recorded()
    await forget_records(processors)
    await processors.insert(300, ACTIVE)
    await processors.start()
    await eventually(processors.settled, seconds=60, what="all processed")
    await processors.scene.until_recorded()
    await processors.check()


async def test_what_kafka_has_forgotten_is_processed_also_when_no_record_follows(processors: Processors) -> None:
    streamer = await processors.scene.streamer().start()
    await streamer.until_state("streaming")
    await processors.insert(200, ACTIVE)
    await processors.scene.until_recorded()
    await forget_records(processors)
    await processors.start()
    await eventually(processors.settled, seconds=60, what="all processed")
    await processors.check()


async def forget_records(processors: Processors) -> None:
    """As if their retention were over."""
    admin = AIOKafkaAdminClient(bootstrap_servers=processors.scene.stack.kafka.bootstrap_servers)
    await admin.start()
    try:
        await admin.delete_records(
            {
                TopicPartition(processors.scene.topic, partition): RecordsToDelete(before_offset=-1)
                for partition in range(PARTITIONS)
            }
        )
    finally:
        await admin.close()


async def test_another_topic_than_the_ledgers_is_refused(processors: Processors) -> None:
    async with processors.scene.connect() as connection:
        await connection.execute(
            "INSERT INTO pipeline.consumer_positions (topic, partition, next_offset, last_sequence, last_position)"
            " VALUES ('former', 0, 8, 7, '00000001-0000000000000001-00000000000000000001')"
        )
    process, service = await processors.start()
    assert await process.wait() == 2
    (told,) = (line for line in service.log.read_text().splitlines() if not line.startswith("{"))
    assert "KAFKA_RAW_TOPIC" in told
    assert "went through former" in told


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"DATABASE_URL": "postgresql://nobody:x@127.0.0.1:1/none"}, "DATABASE_URL"),
        ({"DATABASE_URL": "no such thing"}, "DATABASE_URL"),
        ({"PROCESSED_S3_BUCKET": "no-such-bucket-anywhere"}, "PROCESSED_S3_BUCKET"),
        ({"PROCESSED_S3_ACCESS_KEY": "AKIAWRONG"}, "PROCESSED_S3_BUCKET"),
        ({"KAFKA_RAW_TOPIC": "no.such.topic"}, "KAFKA_RAW_TOPIC"),
        ({"KAFKA_PARTITIONS": "many"}, "KAFKA_PARTITIONS"),
        ({"CREDENTIALS_KEYS": ""}, "CREDENTIALS_KEYS"),
        ({"CREDENTIALS_KEYS": "abc"}, "CREDENTIALS_KEYS"),
        ({"CLIENT_STORE": "paper"}, "CLIENT_STORE"),
        ({"LOG_LEVEL": "LOUD"}, "LOG_LEVEL"),
        ({"PROCESSED_FLUSH_SECONDS": "-1"}, "PROCESSED_FLUSH_SECONDS"),
    ],
)
async def test_a_wrong_setting_is_one_line_that_names_it_and_exit_status_2(
    processors: Processors, change: dict[str, str], word: str
) -> None:
    service = processors.service(**change)
    process = await service.start()
    assert await process.wait() == 2, service.log.read_text()
    told = [line for line in service.log.read_text().splitlines() if not line.startswith("{")]
    assert len(told) == 1
    assert word in told[0]
    for secret in ("AKIAWRONG", "no such thing", processors.scene.environment["PROCESSED_S3_SECRET_KEY"]):
        assert secret not in told[0]
