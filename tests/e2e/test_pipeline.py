"""Everything, as a black box: what was inserted arrives exactly once and filtered, while services are killed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import psycopg
import pytest

from local import gauge, verify
from local.demo import running
from local.samples import SAMPLES
from local.services import Services
from local.stack import Stack
from local.traffic import run_traffic

RATE = 300.0
SECONDS = 75.0
"""Longer than a minute, so that the schedule fires in the middle of the traffic."""

DRAIN_SECONDS = 180.0
ACTIVE = [sample for sample in SAMPLES if sample.active]


async def until(connection: psycopg.AsyncConnection, reached: Callable[[gauge.Gauge], bool], seconds: float) -> None:
    """Look at the ledger until `reached`; AssertionError when that takes longer than `seconds`."""
    look = None
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            while not reached(look := await gauge.read(connection)):
                await asyncio.sleep(0.1)
            return
    raise AssertionError(f"not reached within {seconds} s: {look}")


async def killing(stack: Stack, services: Services, traffic: asyncio.Task[int]) -> None:
    """`kill -9` of each service in the middle of its work, twice for those that are always at it."""
    async with await psycopg.AsyncConnection.connect(stack.environment["DATABASE_URL"], autocommit=True) as ledger:
        for round_ in (1, 2):
            await until(ledger, lambda look, n=round_: look.raw > 1500 * n, 60)  # type: ignore[misc]
            services.all["streamer"].kill()
            await until(ledger, lambda look, n=round_: look.processed > 3000 * n, 60)  # type: ignore[misc]
            services.all["processor"].kill()
        await until(ledger, lambda look: look.open_runs > 0, 120)
        assert not traffic.done(), "the schedule has to fire while the traffic runs"
        services.all["syncer"].kill()


@pytest.mark.timeout(420)
async def test_every_row_arrives_exactly_once_and_filtered_though_each_service_is_killed(tmp_path: Path) -> None:
    record = tmp_path / "record.jsonl"
    said: list[str] = []
    async with running(tmp_path / "stack", say=said.append) as (stack, services):
        traffic = asyncio.create_task(
            run_traffic(
                stack.environment["DATABASE_URL"],
                rate=RATE,
                seconds=SECONDS,
                record=record,
                clients=[sample.client_id for sample in ACTIVE],
                sites={sample.client_id: sample.hosts for sample in ACTIVE},
                inactive=[sample.client_id for sample in SAMPLES if not sample.active],
                seed=7,
            )
        )
        await killing(stack, services, traffic)
        inserted = await traffic
        async with await psycopg.AsyncConnection.connect(stack.environment["DATABASE_URL"], autocommit=True) as ledger:
            await until(ledger, lambda look: look.is_drained(inserted), DRAIN_SECONDS)
            assert (await gauge.read(ledger)).balances
        verdict = await verify.verify(record, stack.folder / "clients.json")
        restarts = {name: service.restarts for name, service in services.all.items()}
        statuses = await services.stop()

    assert verdict.ok, verify.report(verdict)
    assert sum(tally.delivered for tally in verdict.tallies.values()) > 0.9 * inserted > 0
    assert restarts["streamer"] == restarts["processor"] == 2, said
    assert restarts["syncer"] == 1, said
    assert set(statuses.values()) == {0}, said
