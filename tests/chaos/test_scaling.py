"""Rolling upgrade, scaling and node drain while traffic runs: nothing is lost, nothing is doubled, lag recovers."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import psycopg
import pytest

from local import verify
from local.stack import Stack
from tests.ops.pipeline_scene import Instance, Pipeline, eventually, open_pipeline

RATE = 250.0
GRACE_SECONDS = {"streamer": 90, "processor": 120, "syncer": 60, "cleaner": 60}
"""terminationGracePeriodSeconds in k8s/base."""

REBALANCE_SECONDS = 30.0
"""From SIGTERM until every event of that moment is processed, with all services on two cores."""


class Fleet:
    """The replicas of each service, as Deployments would keep them."""

    def __init__(self, pipeline: Pipeline) -> None:
        self.pipeline = pipeline
        self.replicas: dict[str, list[Instance]] = {kind: [] for kind in GRACE_SECONDS}
        self.drains: dict[str, list[float]] = {kind: [] for kind in GRACE_SECONDS}
        self.stalls: list[float] = []

    async def scale(self, kind: str, number: int) -> None:
        """More replicas at once, or fewer, one drain after the other."""
        mine = self.replicas[kind]
        while len(mine) < number:
            mine.append(await self.pipeline.start(kind))
        while len(mine) > number:
            await self._drain(kind, mine.pop(0))

    async def roll(self, kind: str) -> None:
        """A rolling upgrade with maxSurge 1: a new one is ready before an old one ends."""
        for old in list(self.replicas[kind]):
            self.replicas[kind].append(await self.pipeline.start(kind))
            self.replicas[kind].remove(old)
            await self._drain(kind, old)

    async def node_drain(self) -> None:
        """One replica of each service is evicted at the same moment; others are started, as on another machine."""
        going = [(kind, mine.pop(0)) for kind, mine in self.replicas.items()]
        began = time.monotonic()
        drains = asyncio.gather(*(self.pipeline.stop(one) for _, one in going))
        for kind, _ in going:
            self.replicas[kind].append(await self.pipeline.start(kind))
        for (kind, _), seconds in zip(going, await drains, strict=True):
            self.drains[kind].append(seconds)
        await self._until_it_moves()
        self.stalls.append(time.monotonic() - began)

    async def _drain(self, kind: str, one: Instance) -> None:
        began = time.monotonic()
        self.drains[kind].append(await self.pipeline.stop(one))
        if kind in ("streamer", "processor") and self.replicas[kind]:
            await self._until_it_moves()
            self.stalls.append(time.monotonic() - began)

    async def _until_it_moves(self) -> None:
        """Until all that is in the table now is processed; the cleaner has not begun to delete."""
        async with await psycopg.AsyncConnection.connect(self.pipeline.dsn, autocommit=True) as connection:
            row = await (await connection.execute("SELECT count(*) FROM events_log")).fetchone()
        assert row is not None
        await eventually(lambda: self._processed(row[0]), "all partitions move again", REBALANCE_SECONDS * 2)

    async def _processed(self, inserted: int) -> bool:
        look = await self.pipeline.look()
        return look.processed >= inserted


async def streams(fleet: Fleet) -> list[Instance]:
    """Who holds the slot."""
    mine = fleet.replicas["streamer"]
    held = await asyncio.gather(*(one.metric("streamer_slot_held") for one in mine))
    return [one for one, value in zip(mine, held, strict=True) if value == 1]


async def has_rolled_on(pipeline: Pipeline, more: int) -> None:
    """Until so many more events are processed: a step falls into moving traffic."""
    target = (await pipeline.look()).processed + more

    async def reached() -> bool:
        return (await pipeline.look()).processed >= target

    await eventually(reached, f"{more} more events")


@pytest.mark.chaos
@pytest.mark.timeout(900)
async def test_upgrades_scaling_and_drains_under_traffic_lose_and_double_nothing(stack: Stack, tmp_path: Path) -> None:
    async with open_pipeline(stack, tmp_path, CLEANUP_DELAY_SECONDS="600") as pipeline:
        fleet = Fleet(pipeline)
        for kind, number in (("streamer", 2), ("processor", 2), ("syncer", 2), ("cleaner", 1)):
            await fleet.scale(kind, number)
        stop = asyncio.Event()
        traffic = asyncio.create_task(pipeline.traffic(RATE, 600, stop))
        steps: list[Callable[[], Awaitable[None]]] = [
            lambda: fleet.roll("streamer"),
            lambda: fleet.scale("processor", 4),
            lambda: fleet.roll("processor"),
            lambda: fleet.scale("processor", 1),
            lambda: fleet.scale("syncer", 3),
            lambda: fleet.roll("syncer"),
            lambda: fleet.scale("cleaner", 2),
            fleet.node_drain,
            lambda: fleet.scale("syncer", 1),
            lambda: fleet.scale("processor", 2),
        ]
        try:
            for step in steps:
                await has_rolled_on(pipeline, 200)
                await pipeline.order_deliveries()
                await step()
            assert len(await streams(fleet)) == 1, "one reads the slot, the other stands by"
        finally:
            stop.set()
            inserted = await traffic
        began = time.monotonic()
        look = await pipeline.drained(inserted)
        recovered = time.monotonic() - began
        verdict = await verify.verify(pipeline.record, pipeline.accesses)
        for kind in GRACE_SECONDS:
            await fleet.scale(kind, 0)

    report = f"{inserted} events, drains {fleet.drains}, stalls {fleet.stalls}, drained in {recovered:.1f} s"
    print(report)  # noqa: T201 - `-s` shows the figures
    assert verdict.ok, verify.report(verdict)
    assert look.balances, look
    assert look.processed == inserted
    for kind, seconds in fleet.drains.items():
        assert max(seconds) < GRACE_SECONDS[kind] / 2, report
    assert max(fleet.stalls) < REBALANCE_SECONDS, report
    assert recovered < 60, report
