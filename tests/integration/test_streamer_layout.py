"""Another layout while the stream runs: no event is lost, doubled, or looked for in another partition than its own."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections import defaultdict
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiokafka import TopicPartition
from aiokafka.admin import NewPartitions, RecordsToDelete

from database.ledger import generations, layouts, open_pool
from database.ledger.layouts import LayoutRequest
from local.stack import Stack
from pipeline.errors import FencedError
from pipeline.position import Position
from tests.integration.streamer_scene import PARTITIONS, Scene, open_scene

GROWN = PARTITIONS + 2


@pytest.fixture
async def scene(stack: Stack, tmp_path: Path) -> AsyncIterator[Scene]:
    async with open_scene(stack, tmp_path) as scene:
        yield scene


async def command(scene: Scene, *arguments: str) -> tuple[int, str]:
    """`python -m database layout`: exit status, and what it printed."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "database", "layout", *arguments),
        env={**os.environ, **scene.environment},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await process.communicate()
    assert process.returncode is not None
    return process.returncode, output.decode()


async def test_fan_out_and_more_partitions_switched_on_while_running_lose_and_double_nothing(scene: Scene) -> None:
    streamer = await scene.streamer().start()
    await streamer.until_state("streaming")
    admin = await scene.stack.kafka._admin()
    try:
        async with scene.load():
            await scene.until_recorded(30)
            status, said = await command(scene, "--partitions", str(GROWN))
            assert status == 1, said
            assert "add partitions to the topic" in said
            await admin.create_partitions({scene.topic: NewPartitions(GROWN)})
            status, said = await command(scene, "--partitions", str(GROWN), "--fan-out", "client-1=4")
            assert status == 0, said
            assert f"{GROWN} partitions, client-1 over 4" in said
            await scene.until_recorded(await scene.recorded() + 100)
            await streamer.kill()
            await streamer.start(FAILPOINT="streamer.after_layout")  # in the ledger, and not one event sent by it
            await command(scene, "--fan-out", "client-1=1", "--fan-out", "client-2=2", "--wait", "0")
            await streamer.died_at_its_failpoint()
        await streamer.start()
        await scene.insert(500)
        await scene.until_recorded()
        assert await streamer.stop() == 0, streamer.log_tail
        found = await scene.check()
        assert [len(layout.fanout) for layout in scene.layouts] == [0, 1, 1]
        _, fanned, last = scene.layouts
        spread: dict[str, set[int]] = defaultdict(set)
        for position, record in found.raw:
            if record["client_id"] == "client-1" and fanned.from_position <= position < last.from_position:
                line = json.dumps(record, separators=(",", ":")).encode()
                spread[record["session_id"]].add(scene.layouts.partition_of_line(position, line))
        assert {len(partitions) for partitions in spread.values()} == {1}, "a session keeps its order"
        assert len(set.union(*spread.values())) > 1, "the hot client has several partitions"

        # Kafka forgets all but the last record of each partition: the processor finds the rest in the raw files.
        await admin.delete_records(
            {
                TopicPartition(scene.topic, partition): RecordsToDelete(before_offset=offset - 1)
                for partition, offset in (await ends(scene)).items()
                if offset > 1
            }
        )
    finally:
        await admin.close()
    await scene.process_all()


async def ends(scene: Scene) -> dict[int, int]:
    """Where each partition ends, by the last raw object."""
    (offsets,) = await scene.fetch(
        "SELECT kafka_end_offsets FROM pipeline.raw_objects ORDER BY last_position DESC LIMIT 1"
    )
    return {int(partition): offset for partition, offset in offsets.items()}


async def test_streamer_that_has_lost_the_slot_brings_no_layout_into_force(scene: Scene) -> None:
    wanted = LayoutRequest(partitions=7, fanout={})
    async with open_pool(scene.environment["DATABASE_URL"]) as pool, pool.connection() as connection:
        await layouts.layouts_of(connection, scene.topic, PARTITIONS)
        await layouts.request(connection, scene.topic, wanted)
        zombie = await generations.take_over(connection, scene.slot)
        successor = await generations.take_over(connection, scene.slot)
        at = (connection, scene.topic, wanted, Position(1, 100, 0), scene.slot)
        with pytest.raises(FencedError):
            await layouts.put_in_force(*at, zombie.number)
        assert await layouts.requested(connection, scene.topic) == wanted
        await layouts.put_in_force(*at, successor.number)
        assert await layouts.requested(connection, scene.topic) is None
        assert (await layouts.layouts_of(connection, scene.topic)).partitions == 7
