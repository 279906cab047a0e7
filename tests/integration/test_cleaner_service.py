"""The cleaner as a process: kills at every step, orders over HTTP, the command line, servers that go away."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from local import ports
from local.process import Command, Process
from local.stack import Stack
from tests.integration.cleaner_scene import STRANGE, Scene, open_scene

ROOT = Path(__file__).parents[2]


@pytest.fixture
async def scene(stack: Stack) -> AsyncIterator[Scene]:
    async with open_scene(stack) as made:
        yield made


async def eventually(reached: Callable[[], Awaitable[bool]], seconds: float = 30) -> None:
    """Wait until `reached`; AssertionError when that takes longer than `seconds`."""
    deadline = time.monotonic() + seconds
    while not await reached():
        assert time.monotonic() < deadline, "not reached in time"
        await asyncio.sleep(0.05)


async def start(scene: Scene, folder: Path, *arguments: str, **extra: str) -> tuple[Process, str]:
    """A cleaner of its own; returns it and its address."""
    port = ports.choose(("cleaner",), {})["cleaner"]
    process = await Process.start(
        Command(
            argv=(sys.executable, "-m", "database", "cleaner", *arguments),
            log=folder / "cleaner.log",
            folder=folder,
            environment={**scene.environment, "HEALTH_PORT": str(port), "PYTHONPATH": str(ROOT), **extra},
        )
    )
    return process, f"http://127.0.0.1:{port}"


@asynccontextmanager
async def running(scene: Scene, folder: Path, **extra: str) -> AsyncIterator[httpx.AsyncClient]:
    process, url = await start(scene, folder, **extra)
    async with httpx.AsyncClient(base_url=url, timeout=10) as http:

        async def ready() -> bool:
            try:
                return (await http.get("/readyz")).status_code == 200
            except httpx.TransportError:
                return False

        await eventually(ready)
        yield http
    await process.stop(timeout_seconds=20)
    assert process.exit_status == 0


@pytest.mark.parametrize(
    "failpoint", ["cleaner.after_verify:2", "cleaner.after_stamp:3", "cleaner.after_delete:1", "cleaner.after_delete:4"]
)
async def test_after_a_kill_anywhere_the_next_cleaner_finishes(scene: Scene, tmp_path: Path, failpoint: str) -> None:
    await scene.insert(60)
    await scene.export(per_object=30)
    process, _ = await start(scene, tmp_path, FAILPOINT=failpoint, CLEANUP_BATCH_ROWS="10")
    assert await asyncio.wait_for(process.wait(), 30) == -9
    async with running(scene, tmp_path):
        await eventually(lambda: _all_deleted(scene))
    assert await scene.rows_left() == 0


async def _all_deleted(scene: Scene) -> bool:
    return bool(await scene.value("SELECT bool_and(deleted_at IS NOT NULL) FROM pipeline.raw_objects"))


async def test_status_and_orders(scene: Scene, tmp_path: Path) -> None:
    await scene.insert(10)
    [stored] = await scene.export()
    await scene.remove(stored.key)
    key = {"Authorization": f"Bearer {scene.environment['ADMIN_API_KEY']}"}
    async with running(scene, tmp_path, CLEANUP_RETRY_SECONDS="3600") as http:

        async def refused() -> bool:
            return bool((await http.get("/cleanup/status")).json()["refused"])

        await eventually(refused)
        status = (await http.get("/cleanup/status")).json()
        assert [(item["key"], item["problem"]) for item in status["refused"]] == [(stored.key, "missing")]
        assert 'cleaner_refused_objects{problem="missing"} 1.0' in (await http.get("/metrics")).text

        assert (await http.post("/cleanup/run")).status_code == 401
        await scene.overwrite(stored.key, stored.body)
        answer = await http.post("/cleanup/run", headers=key, json={"dry_run": True})
        assert answer.status_code == 202

        async def tried() -> bool:
            return (await http.get("/cleanup/status")).json()["last_dry_run"] is not None

        await eventually(tried)
        dry = (await http.get("/cleanup/status")).json()["last_dry_run"]
        assert dry["rows"]["would_be_deleted"] == 10 + len(STRANGE)
        assert await scene.rows_left() == 10 + len(STRANGE)

        assert (await http.post("/cleanup/run", headers=key)).status_code == 202
        await eventually(lambda: _all_deleted(scene))
        assert (await http.get("/healthz")).json()["live"]
        assert (await http.get("/status")).json()["rows"]["deleted"] == 10 + len(STRANGE)
    assert await scene.rows_left() == 0


async def test_the_dry_run_command_prints_what_would_be_done_and_writes_nothing(scene: Scene, tmp_path: Path) -> None:
    await scene.insert(10)
    await scene.export()
    process, _ = await start(scene, tmp_path, "--dry-run")
    assert await asyncio.wait_for(process.wait(), 30) == 0
    text = await asyncio.to_thread((tmp_path / "cleaner.log").read_text)
    answer: Any = json.loads(text[text.index("{\n") :])
    assert answer["rows"]["would_be_deleted"] == 10 + len(STRANGE)
    assert await scene.value("SELECT bool_and(raw_exported_at IS NULL) FROM events_log")
    assert await scene.value("SELECT bool_and(verified_at IS NULL) FROM pipeline.raw_objects")


async def test_while_s3_is_away_nothing_is_deleted_and_afterwards_it_goes_on(scene: Scene, tmp_path: Path) -> None:
    await scene.insert(10)
    await scene.export()
    async with running(scene, tmp_path, CLEANUP_DELAY_SECONDS="3600") as http:
        await eventually(lambda: _all_stamped(scene))
        await scene.stack.aws.stop()
        try:
            await scene.execute("UPDATE pipeline.raw_objects SET stamped_at = now() - interval '1 day'")

            async def waiting() -> bool:
                return bool((await http.get("/status")).json()["error"])

            await eventually(waiting, 50)
            assert (await http.get("/readyz")).status_code == 503
            assert (await http.get("/healthz")).status_code == 200
            assert await scene.rows_left() == 10 + len(STRANGE)
        finally:
            await scene.stack.aws.start()
        await eventually(lambda: _all_deleted(scene))
    assert await scene.rows_left() == 0


async def _all_stamped(scene: Scene) -> bool:
    return bool(await scene.value("SELECT bool_and(stamped_at IS NOT NULL) FROM pipeline.raw_objects"))


async def test_without_the_right_to_delete_it_names_the_missing_grant(scene: Scene, tmp_path: Path) -> None:
    await scene.execute("REVOKE DELETE ON events_log FROM pipeline")
    process, _ = await start(scene, tmp_path)
    assert await asyncio.wait_for(process.wait(), 30) == 2
    assert "GRANT DELETE ON events_log" in await asyncio.to_thread((tmp_path / "cleaner.log").read_text)
