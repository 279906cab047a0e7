"""Long outages and changes of leadership: bounded memory and disk, everything drains, nothing lost or doubled."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from functools import partial
from pathlib import Path

import psutil
import pytest
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import KafkaError

from local import ports
from local.kafka import Kafka
from local.part import run_tool
from local.stack import Stack
from tests.faults import http_error, proxy_to
from tests.integration.streamer_scene import INSERT, PARTITIONS, Scene, Streamer, eventually, open_scene

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(900)]

OUTAGE_SECONDS = float(os.environ.get("CHAOS_OUTAGE_SECONDS", "120"))
MAX_BYTES = 6_000_000
NOISE = INSERT.replace(
    "repeat('x', %s)",
    "(SELECT string_agg(md5(random()::text || n || i), '') FROM generate_series(1, %s) i)",
)
"""Rows that hardly compress."""

MOST_FILES = 5
"""One that grows, two that wait, one on its way, and the last blocks of one."""


@pytest.fixture
async def scene(stack: Stack, tmp_path: Path) -> AsyncIterator[Scene]:
    async with open_scene(stack, tmp_path) as scene:
        yield scene


class Gauge:
    """The most memory and spool that a streamer held, in bytes."""

    def __init__(self) -> None:
        self.memory = self.disk = 0

    async def watch(self, streamer: Streamer) -> None:
        """For ever."""
        while True:
            with suppress(psutil.Error, FileNotFoundError, AssertionError):
                assert streamer.process is not None
                pid = streamer.process.pid
                self.memory = max(self.memory, psutil.Process(pid).memory_info().rss)
                self.disk = max(self.disk, spooled(pid))
            await asyncio.sleep(0.25)


def spooled(pid: int) -> int:
    """Bytes in temporary files that have no name any more."""
    size = 0
    for descriptor in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(OSError):
            if descriptor.readlink().name.endswith("(deleted)"):
                size += descriptor.stat().st_size
    return size


async def big_transactions(scene: Scene, seconds: float) -> None:
    """More than the streamer may hold, all the time."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        await scene.insert(2000, filler=40, query=NOISE)
        await asyncio.sleep(0.5)


@pytest.mark.parametrize("outage", ["s3", "kafka"])
async def test_outage_of_minutes_is_waited_out_in_bounded_memory_and_disk_and_drains(scene: Scene, outage: str) -> None:
    async with proxy_to(scene.stack.aws.port) as s3:
        streamer = scene.streamer(
            RAW_S3_ENDPOINT_URL=f"http://127.0.0.1:{s3.port}", RAW_MAX_BYTES=str(MAX_BYTES), RAW_FLUSH_SECONDS="5"
        )
        gauge = Gauge()
        async with streamer.supervised():
            await streamer.until_state("streaming")
            watching = asyncio.create_task(gauge.watch(streamer))
            await scene.insert(100)
            await scene.until_recorded()
            if outage == "s3":
                s3.answer = http_error("503 Slow Down", "SlowDown")
            else:
                await scene.stack.kafka.kill()
            recorded = await scene.recorded()
            await big_transactions(scene, OUTAGE_SECONDS)
            assert await scene.recorded() == recorded
            assert await scene.confirmed() < await scene.wal_lsn() - 10_000_000, "WAL waits at the server"
            if outage == "s3":
                s3.answer = None
            else:
                await scene.stack.kafka.start()
            await scene.until_recorded(seconds=180)
            watching.cancel()
        assert gauge.memory < 200 << 20, f"{gauge.memory >> 20} MB"
        assert outage != "s3" or gauge.disk > MAX_BYTES, "files wait on disk"
        assert gauge.disk < MOST_FILES * (MAX_BYTES + (1 << 20)), f"{gauge.disk >> 20} MB"
    print(f"{outage}: {len(scene.inserted)} events, {gauge.memory >> 20} MB of memory, {gauge.disk >> 20} of disk")  # noqa: T201
    await scene.check()


class FirstBroker(Kafka):
    """Gives a partition back to the first of its replicas as soon as that one is there again."""

    async def prepare(self) -> None:
        """Without waiting for five minutes."""
        await super().prepare()
        with self._properties.open("a") as properties:
            properties.write("leader.imbalance.check.interval.seconds=1\nleader.imbalance.per.broker.percentage=0\n")


class SecondBroker(Kafka):
    """A broker that joins the cluster of another one."""

    def __init__(self, folder: Path, port: int, first: Kafka) -> None:
        super().__init__(folder, port, first.controller_port, say=print)
        self._first = first

    async def prepare(self) -> None:
        """As the first one, without being a controller."""
        await super().prepare()
        text = (self._first.folder / "server.properties").read_text()
        text = text.replace("process.roles=broker,controller", "process.roles=broker").replace("node.id=1", "node.id=2")
        text = text.replace(f",CONTROLLER://127.0.0.1:{self.controller_port}\n", "\n", 1)
        text = text.replace(f"127.0.0.1:{self._first.port}", f"127.0.0.1:{self.port}")
        self._properties.write_text(text.replace(str(self._first.folder / "data"), str(self.folder / "joined")))
        if not (self.folder / "joined").exists():
            meta = (self._first.folder / "data" / "meta.properties").read_text()
            (cluster,) = (line.split("=", 1)[1] for line in meta.splitlines() if line.startswith("cluster.id="))
            format_storage = ("kafka.tools.StorageTool", "format", "-t", cluster, "-c", str(self._properties))
            await run_tool(self._java(*format_storage), name="formatting the second broker's storage")


@asynccontextmanager
async def two_brokers(folder: Path) -> AsyncIterator[tuple[Kafka, SecondBroker]]:
    """A cluster whose first broker is the controller too."""
    chosen = ports.choose(("first", "controller", "second"), {})
    first = FirstBroker(folder / "first", chosen["first"], chosen["controller"], say=print)
    second = SecondBroker(folder / "second", chosen["second"], first)
    async with AsyncExitStack() as exits:
        await first.start()
        exits.push_async_callback(first.stop)
        await second.start()
        exits.push_async_callback(second.stop)
        yield first, second


async def test_leaders_that_die_and_come_back_lose_and_double_nothing(scene: Scene, tmp_path: Path) -> None:
    async with two_brokers(tmp_path / "kafka") as (first, second), AsyncExitStack() as exits:
        admin = await first._admin()
        exits.push_async_callback(admin.close)
        spread = {partition: [1 + partition % 2, 2 - partition % 2] for partition in range(PARTITIONS)}
        await eventually(lambda: _two(admin), what="the second broker is registered")
        await admin.create_topics([NewTopic(scene.topic, -1, -1, replica_assignments=spread)])
        scene.environment["KAFKA_BOOTSTRAP_SERVERS"] = f"{first.bootstrap_servers},{second.bootstrap_servers}"
        streamer = scene.streamer()
        async with streamer.supervised():
            await streamer.until_state("streaming")
            async with scene.load():
                for blow in (second.kill, second.stop):
                    leads = partial(_leads, admin, scene.topic, 2, any_partition=True)
                    await eventually(leads, seconds=60, what="broker 2 leads again")
                    await scene.until_recorded(await scene.recorded() + 100)
                    await blow()
                    moved = partial(_leads, admin, scene.topic, 2, any_partition=False)
                    await eventually(moved, seconds=60, what="broker 1 leads all")
                    await scene.until_recorded(await scene.recorded() + 100, seconds=60)
                    await second.start()
            await scene.until_recorded(seconds=60)
        await scene.check()


async def _two(admin: AIOKafkaAdminClient) -> bool:
    return len((await admin.describe_cluster())["brokers"]) == 2


async def _leads(admin: AIOKafkaAdminClient, topic: str, node: int, *, any_partition: bool) -> bool:
    """Whether `node` leads a partition, or none."""
    try:
        (found,) = await admin.describe_topics([topic])
    except KafkaError:  # it asked the broker that has died
        return False
    return any_partition == (node in {partition["leader"] for partition in found["partitions"]})
