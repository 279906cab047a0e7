"""100,000 rows while raw objects are corrupted at random: what the cleaner deletes can always be found."""

from __future__ import annotations

import asyncio
import random

import pytest

from local.stack import Stack
from tests.integration.cleaner_scene import Scene, Stored, open_scene

ROWS = 100_000
PER_OBJECT = 500
BATCH = 5_000


@pytest.mark.chaos
@pytest.mark.timeout(900)
async def test_of_100000_rows_none_is_deleted_that_is_not_byte_for_byte_in_a_verified_object(stack: Stack) -> None:
    """GIVEN inserts, exports and three cleaners at once, and a raw object corrupted, cut, removed or swapped all the
    time, THEN every deleted row stands in a verified object, and every sound object has lost its rows."""
    rng = random.Random(11)
    stored: list[Stored] = []
    broken: set[str] = set()
    async with open_scene(stack) as scene:
        await scene.watch_deletions()
        loaded = asyncio.Event()

        async def load() -> None:
            while sum(len(item.ids) for item in stored) < ROWS:
                await scene.insert(BATCH)
                stored.extend(await scene.export(per_object=PER_OBJECT))
            loaded.set()

        async def corrupt() -> None:
            while not loaded.is_set():
                if len(stored) > 1:
                    broken.add(await scene.corrupt(rng, stored))
                await asyncio.sleep(rng.random() / 4)

        async def clean() -> None:
            async with scene.cleaner() as (cleaner, rows, _):
                while not loaded.is_set():
                    await cleaner.turn(rows)

        await asyncio.gather(load(), corrupt(), clean(), clean(), clean())
        await _finish(scene)
        assert len(broken) > 20
        assert await scene.assert_every_deleted_row_is_stored(stored, broken) > ROWS // 2


async def _finish(scene: Scene) -> None:
    for _ in range(3):
        await scene.turns()
