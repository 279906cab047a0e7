"""`python -m streamer` as a black box on real parts: exactly once through every crash."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from local.stack import Stack
from tests.integration.streamer_scene import Scene, open_scene


@pytest.fixture
async def scene(stack: Stack, tmp_path: Path) -> AsyncIterator[Scene]:
    async with open_scene(stack, tmp_path) as scene:
        yield scene


async def test_kill_at_every_failpoint_of_the_stream_loses_and_doubles_nothing(scene: Scene) -> None:
    streamer = await scene.streamer().start()
    await streamer.until_state("streaming")
    await scene.insert(10)
    await scene.until_recorded()
    for failpoint in (
        "streamer.after_publish",
        "streamer.after_publish:2",
        "streamer.after_put",
        "streamer.after_ledger",
        "streamer.before_feedback:2",
    ):
        await streamer.kill()
        await streamer.start(FAILPOINT=failpoint)
        await scene.insert(500)
        await scene.insert_each(20)
        await streamer.died_at_its_failpoint()
        await scene.insert(7)
    await streamer.start()
    await scene.until_recorded()
    assert await streamer.stop() == 0, streamer.log_tail
    await scene.check()


async def test_kill_at_every_point_of_the_snapshot_loses_and_doubles_nothing(scene: Scene) -> None:
    await scene.insert(5000)
    streamer = scene.streamer(RAW_MAX_BYTES="20000")
    for failpoint in (
        "streamer.after_slot_created",
        "streamer.in_snapshot:2",
        "streamer.after_put",
        "streamer.after_ledger:2",
    ):
        await streamer.start(FAILPOINT=failpoint)
        await streamer.died_at_its_failpoint()
        await scene.insert(300)
    await streamer.start()
    await scene.insert(100)
    await scene.until_recorded()
    assert await streamer.stop() == 0, streamer.log_tail
    await scene.check()
