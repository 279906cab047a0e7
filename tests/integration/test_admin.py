"""The admin on a real ledger."""

from __future__ import annotations

import signal
from pathlib import Path

import httpx

from local import ports
from local.services import Service
from local.stack import Stack
from tests.integration.streamer_scene import eventually, open_scene


async def test_pipeline_status_tells_every_stage_and_that_the_ledger_balances(stack: Stack, tmp_path: Path) -> None:
    async with open_scene(stack, tmp_path) as scene, httpx.AsyncClient(timeout=10) as http:
        streamer = await scene.streamer().start()
        await streamer.until_state("streaming")
        await scene.insert(100)
        await scene.until_recorded()
        port = ports.choose(("admin",), {})["admin"]
        service = Service("admin", scene.environment, port, scene.folder / "admin.log")
        process = await service.start()

        async def is_ready() -> bool:
            try:
                return (await http.get(f"{service.url}/readyz")).status_code == 200
            except httpx.TransportError:
                return False

        await eventually(is_ready)
        status = (await http.get(f"{service.url}/pipeline/status")).json()
        assert status["export"]["events"] == 100
        assert {"processing", "delivery", "cleanup"} <= status.keys()
        assert (await http.get(f"{service.url}/healthz")).json()["live"]
        assert "process_cpu_seconds_total" in (await http.get(f"{service.url}/metrics")).text
        process.signal(signal.SIGTERM)
        assert await process.wait() == 0
