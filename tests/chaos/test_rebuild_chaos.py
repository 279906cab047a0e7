"""The ledger lost or set back again and again, at random moments, with whatever was under way cut off."""

from __future__ import annotations

import asyncio
import random
import uuid
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from local.stack import Stack
from tests.integration.streamer_scene import open_scene
from tests.integration.test_rebuild import Traffic, restore, save

FAILPOINTS = (
    "syncer.after_plan", "syncer.after_announce", "syncer.after_put", "syncer.before_manifest",
    "syncer.after_manifest_row", "syncer.before_latest", "syncer.before_finish", "",
)  # fmt: skip


@pytest.fixture
async def traffic(stack: Stack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Traffic]:
    if host := stack.environment.get("FIRESTORE_EMULATOR_HOST"):
        monkeypatch.setenv("FIRESTORE_EMULATOR_HOST", host)
    async with AsyncExitStack() as exits:
        scene = await exits.enter_async_context(open_scene(stack, tmp_path))
        made = Traffic(scene)
        await made.prepare()
        exits.push_async_callback(made.kill)
        yield made


@pytest.mark.chaos
@pytest.mark.timeout(900)
@pytest.mark.parametrize("seed", [1, 2, 3])
async def test_however_often_the_ledger_is_lost_or_set_back_each_row_arrives_once(traffic: Traffic, seed: int) -> None:
    rng = random.Random(seed)
    async with traffic.flowing():
        for _ in range(5):
            await traffic.start()
            backup = ""
            await traffic.until_processed(len(traffic.inserted) // 2)
            if rng.random() < 0.5:
                backup = f"backup_{uuid.uuid4().hex[:8]}"
                await save(traffic, backup)
            deliveries = [
                asyncio.create_task(traffic.deliver(number, failpoint=rng.choice(FAILPOINTS))) for number in (0, 1)
            ]
            await asyncio.sleep(rng.uniform(0.5, 4))  # the moment of the disaster, not a wait for anything
            await asyncio.gather(*deliveries)
            await traffic.kill()
            if backup:
                await restore(traffic, backup)
            else:
                async with traffic.scene.connect() as connection:
                    await connection.execute("DROP SCHEMA pipeline CASCADE")
            report = await traffic.rebuild()
            assert report.doubts == []
            await traffic.store_clients()
        await traffic.start()
    await traffic.finish()
    await traffic.check()
