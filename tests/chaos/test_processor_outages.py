"""S3 that is slow, refuses, or doesn't answer, under load: each event once, bounded memory, no lag that stays."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest

from bench.streamer import peak_bytes
from local.process import Process
from local.services import Service
from local.stack import Stack
from tests.faults import Proxy, http_error, proxy_to
from tests.integration.processor_scene import ACTIVE, Processors
from tests.integration.streamer_scene import eventually, open_scene

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(900)]

FILLER_BYTES = 2_000
ROWS = 600
"""A transaction."""
FAULTY_ROUNDS = 30
"""Transactions during each fault: 37 MB."""
MOST_MEMORY_BYTES = 300 << 20
LONG_OUTAGE_SECONDS = 110.0
"""Longer than a chunk is held ready, so that the processor ends, and is started again until S3 is back."""


def slow(s3: Proxy) -> None:
    s3.latency_seconds = 0.7


def internal_error(s3: Proxy) -> None:
    s3.answer = http_error("500 Internal Server Error", "InternalError")


def slow_down(s3: Proxy) -> None:
    s3.answer = http_error("503 Slow Down", "SlowDown")


def answers_lost(s3: Proxy) -> None:
    s3.cuts_answers = True


def healthy(s3: Proxy) -> None:
    s3.latency_seconds, s3.answer, s3.cuts_answers = 0.0, None, False


class Supervised:
    """A processor that is started again when it ends, and the most memory that any of them held."""

    def __init__(self, processors: Processors, service: Service) -> None:
        self._processors, self.service = processors, service
        self.ends: list[int] = []
        self.peak = 0
        self._process: Process | None = None

    async def keep_running(self) -> None:
        while True:
            self._process = await self.service.start()
            self._processors.watch(self._process)
            while self._process.exit_status is None:
                self.peak = max(self.peak, peak_bytes(self._process.pid))
                await asyncio.sleep(0.2)
            self.ends.append(self._process.exit_status)

    async def figure(self, name: str) -> float:
        """The sum of a metric; 0 while nobody listens."""
        async with httpx.AsyncClient() as http:
            try:
                text = (await http.get(f"{self.service.url}/metrics", timeout=20)).text
            except httpx.TransportError:
                return 0.0
        return sum(float(line.split()[-1]) for line in text.splitlines() if line.startswith(name))


@asynccontextmanager
async def scene_of(stack: Stack, folder: Path) -> AsyncIterator[tuple[Processors, Supervised, Proxy]]:
    async with open_scene(stack, folder) as scene, proxy_to(stack.aws.port) as s3:
        processors = Processors(scene)
        streamer = await scene.streamer().start()
        await streamer.until_state("streaming")
        service = processors.service(PROCESSED_S3_ENDPOINT_URL=f"http://127.0.0.1:{s3.port}")
        supervised = Supervised(processors, service)
        keeper = asyncio.create_task(supervised.keep_running())
        try:
            yield processors, supervised, s3
            assert not keeper.done()
        finally:
            keeper.cancel()
            await asyncio.wait([keeper])
            await processors.close()


async def test_slow_and_failing_s3_costs_time_but_no_event_and_no_memory(stack: Stack, tmp_path: Path) -> None:
    async with scene_of(stack, tmp_path) as (processors, supervised, s3):
        await processors.insert(ROWS, ACTIVE, filler=FILLER_BYTES)
        await eventually(processors.settled, seconds=120, what="all processed")
        said = []
        faults: list[Callable[[Proxy], None]] = [slow, internal_error, slow_down, answers_lost]
        for fault in faults:
            retries = await supervised.figure("processor_chunk_retries_total")
            chunks = await supervised.figure("processor_chunks_total")
            fault(s3)
            for _ in range(FAULTY_ROUNDS):
                await processors.insert(ROWS, ACTIVE, filler=FILLER_BYTES)

            async def is_hit(
                fault: Callable[[Proxy], None] = fault, chunks: float = chunks, was: float = retries
            ) -> bool:
                if fault is slow:
                    return await supervised.figure("processor_chunks_total") >= chunks + 3
                return await supervised.figure("processor_chunk_retries_total") >= was + 3

            await eventually(is_hit, seconds=120, what=fault.__name__)
            taken = await supervised.figure("processor_events_total")
            if fault is not slow:
                assert taken < len(processors.scene.inserted), "what can't be written must not be gathered for ever"
            healthy(s3)
            began = time.monotonic()
            await eventually(processors.settled, seconds=120, what=f"all processed after {fault.__name__}")
            said.append(f"{fault.__name__} {time.monotonic() - began:.0f} s")
        assert s3.cut > 0
        assert supervised.ends == [], "none of these ends a processor"
        assert supervised.peak < MOST_MEMORY_BYTES, f"{supervised.peak >> 20} MB"
        await processors.scene.until_recorded(seconds=60)
        await processors.check()
        events = len(processors.scene.inserted)
    print(f"{events} events, drained after {', '.join(said)}; {supervised.peak >> 20} MB at most")  # noqa: T201


async def test_outage_of_s3_that_outlasts_the_processor_loses_and_doubles_nothing(stack: Stack, tmp_path: Path) -> None:
    rng = random.Random(3)
    async with scene_of(stack, tmp_path) as (processors, supervised, s3):
        await processors.insert(ROWS, ACTIVE)
        await eventually(processors.settled, seconds=120, what="all processed")
        slow_down(s3)
        deadline = time.monotonic() + LONG_OUTAGE_SECONDS
        while time.monotonic() < deadline:
            await processors.insert(rng.randint(1, ROWS), ACTIVE, filler=FILLER_BYTES)
            await asyncio.sleep(0.5)  # the load's pace, no wait for anything
        assert 1 in supervised.ends, "the processor gives up in the end"
        assert set(supervised.ends) <= {1, 2}, supervised.ends
        healthy(s3)
        began = time.monotonic()
        await eventually(processors.settled, seconds=120, what="all processed")
        drained = time.monotonic() - began
        assert supervised.peak < MOST_MEMORY_BYTES, f"{supervised.peak >> 20} MB"
        await processors.scene.until_recorded(seconds=60)
        await processors.check()
        events = len(processors.scene.inserted)
    print(f"{events} events, {len(supervised.ends)} ends, drained in {drained:.0f} s")  # noqa: T201
