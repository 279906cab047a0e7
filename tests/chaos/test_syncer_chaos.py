"""Syncers killed at every step, paused beyond their leases, given doubled and shuffled messages: each event once."""

from __future__ import annotations

import asyncio
import random
import signal
from collections.abc import AsyncIterator
from contextlib import suppress
from datetime import datetime, timedelta

import pytest

from local.ports import choose
from local.stack import Stack
from pipeline.clients import Client
from tests.faults import Proxy, http_error, proxy_to
from tests.integration.syncer_scene import HOUR, Scene, eventually, open_scene

pytestmark = pytest.mark.chaos

KILLS = 50
REACH_SECONDS = 60
FAILPOINTS = (
    "syncer.after_plan",
    "syncer.after_announce:3",
    "syncer.after_put:2",
    "syncer.before_manifest:2",
    "syncer.after_manifest_row",
    "syncer.before_latest:2",
    "syncer.before_finish:3",
)


@pytest.fixture
async def scene(stack: Stack) -> AsyncIterator[Scene]:
    async with open_scene(stack) as scene:
        yield scene


class Syncers:
    """Processes of the service; all are gone at the end."""

    def __init__(self, scene: Scene) -> None:
        self._scene = scene
        self._running: list[tuple[asyncio.subprocess.Process, asyncio.Task[tuple[bytes, bytes]]]] = []

    async def start(self, **environment: str) -> asyncio.subprocess.Process:
        port = choose(("syncer",), {})["syncer"]
        process = await self._scene.start(
            HEALTH_PORT=str(port), SYNC_VISIBILITY_SECONDS="3", **{"DELIVERY_MAX_BYTES": "1500", **environment}
        )
        self._running.append((process, asyncio.create_task(process.communicate())))
        return process

    async def end(self) -> None:
        for process, output in self._running:
            with suppress(ProcessLookupError):
                process.kill()
            await output


@pytest.fixture
async def syncers(scene: Scene) -> AsyncIterator[Syncers]:
    syncers = Syncers(scene)
    yield syncers
    await syncers.end()


async def order_all(scene: Scene, clients: list[Client], minute: int, rng: random.Random) -> None:
    messages = [
        {"client_id": c.client_id, "run_key": f"20241123T{6 + minute // 60:02d}{minute % 60:02d}-hourly"}
        for c in clients
    ] * 2
    rng.shuffle(messages)
    await scene.send(*messages)


async def all_delivered(scene: Scene) -> bool:
    rows = await scene.execute(
        "SELECT 1 FROM pipeline.delivery_replacements WHERE state = 'open' UNION ALL"
        " SELECT 1 FROM pipeline.processed_objects o WHERE superseded_by IS NULL AND NOT EXISTS ("
        " SELECT FROM pipeline.delivery_members m"
        " JOIN pipeline.delivery_files f ON f.id = m.file_id JOIN pipeline.sync_runs r ON r.id = f.run_id"
        " WHERE m.processed_object_id = o.id AND f.state = 'delivered' AND r.status = 'finished')"
    )
    return not rows


async def assert_true(scene: Scene, clients: list[Client], expected: dict[str, list[str]]) -> None:
    for client in clients:
        found = await scene.read(client)
        assert sorted(found.event_ids.elements()) == sorted(expected[client.client_id])
        assert found.chain()  # digests, counts and replacements, back to the first manifest


async def disturb(proxy: Proxy, rng: random.Random, calm: asyncio.Event) -> None:
    """S3 misbehaves now and then, until `calm`: overloaded, cut off, slow."""

    async def for_(seconds: float) -> None:
        with suppress(TimeoutError):
            await asyncio.wait_for(calm.wait(), seconds)

    while not calm.is_set():
        fault = rng.randrange(4)
        if fault == 0:
            proxy.answer = http_error("503 Slow Down", "SlowDown")
        elif fault == 1:
            proxy.latency_seconds = 0.05
        else:
            proxy.reset()
        await for_(rng.uniform(0.05, 0.4))
        proxy.answer, proxy.latency_seconds = None, 0.0
        await for_(rng.uniform(0.1, 1.0))


@pytest.mark.timeout(1800)
async def test_kills_at_any_step_with_doubled_messages_deliver_each_event_once(scene: Scene, syncers: Syncers) -> None:
    rng = random.Random(5)
    calm = asyncio.Event()
    async with proxy_to(scene.stack.aws.port) as proxy:
        endpoint = f"http://127.0.0.1:{proxy.port}"
        clients = [await scene.add_client(client_s3_endpoint_url=endpoint) for _ in range(3)]
        expected: dict[str, dict[datetime, list[str]]] = {client.client_id: {} for client in clients}

        async def add(client: Client, hour: datetime) -> None:
            hours = expected[client.client_id]
            hours[hour] = hours.get(hour, []) + await scene.add_objects(client, hour=hour, count=rng.randint(1, 3))

        disturbing = asyncio.create_task(disturb(proxy, rng, calm))
        reached = 0
        for number in range(KILLS):
            for client in clients:
                await add(client, HOUR + timedelta(hours=rng.randrange(3)))
            if number % 5 == 4:  # files that were delivered have to be built again
                client = rng.choice(clients)
                hour = rng.choice(sorted(expected[client.client_id]))
                expected[client.client_id][hour] = await scene.replay(client, hour=hour, keep=rng.randint(1, 2))
            doomed = await syncers.start(FAILPOINT=FAILPOINTS[number % len(FAILPOINTS)])
            await order_all(scene, clients, number, rng)
            try:
                reached += await asyncio.wait_for(doomed.wait(), REACH_SECONDS) == -signal.SIGKILL
            except TimeoutError:  # S3 was so faulty that it never came there
                doomed.kill()
                await doomed.wait()
        assert reached > KILLS / 2
        calm.set()
        await disturbing
        for client in clients:  # so that the last one has work, whatever those before it came to
            await add(client, HOUR)
        last = await syncers.start()
        await order_all(scene, clients, KILLS, rng)
        await order_all(scene, clients, KILLS + 1, rng)  # what is left is more than one run's
        await eventually(lambda: all_delivered(scene), seconds=120)
        last.terminate()
        assert await asyncio.wait_for(last.wait(), 20) == 0
    await assert_true(
        scene, clients, {id_: [event for found in hours.values() for event in found] for id_, hours in expected.items()}
    )
    assert await scene.execute("SELECT 1 FROM pipeline.delivery_replacements WHERE state = 'delivered'")


@pytest.mark.timeout(600)
async def test_paused_syncers_lose_their_runs_and_spoil_nothing(scene: Scene, syncers: Syncers) -> None:
    rng = random.Random(6)
    clients = [await scene.add_client() for _ in range(4)]
    expected: dict[str, list[str]] = {client.client_id: [] for client in clients}
    # one file per object: a run takes long enough to be paused within it
    first, second = [await syncers.start(DELIVERY_MAX_BYTES="1") for _ in range(2)]
    for number in range(6):
        for client in clients:
            expected[client.client_id] += await scene.add_objects(client, count=10)
        await order_all(scene, clients, number, rng)
        paused = rng.choice([first, second])

        async def somebody_delivers() -> bool:
            rows = await scene.execute("SELECT 1 FROM pipeline.sync_runs WHERE status = 'running'")
            return bool(rows) or await all_delivered(scene)

        await eventually(somebody_delivers)
        paused.send_signal(signal.SIGSTOP)
        try:
            await eventually(lambda: all_delivered(scene), seconds=90)
        finally:
            paused.send_signal(signal.SIGCONT)
    for process in (first, second):
        process.terminate()
        assert await asyncio.wait_for(process.wait(), 20) == 0
    await assert_true(scene, clients, expected)
