"""Random kills and faults under load, on real parts: nothing lost, nothing doubled. `make chaos`.

CHAOS_FAULTS sets how many (default 50), CHAOS_SEED repeats a run: the seed is part of every failure's message.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack, suppress
from pathlib import Path

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from database.ledger.layouts import LayoutRequest, request
from local.stack import Stack
from tests.faults import Proxy, http_error, proxy_to
from tests.integration.streamer_scene import PARTITIONS, Scene, Streamer, open_scene

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(1800)]

FAULTS = int(os.environ.get("CHAOS_FAULTS", "50"))
SEED = int(os.environ.get("CHAOS_SEED", str(random.randrange(1 << 32))))


class Chaos:
    """Two replicas behind proxies, and ways to hurt them and their servers."""

    def __init__(self, scene: Scene, replicas: list[Streamer], source: Proxy, s3: Proxy, dice: random.Random) -> None:
        self.scene, self.replicas, self.source, self.s3, self.dice = scene, replicas, source, s3, dice
        self.faults: list[tuple[int, Callable[[], Awaitable[None]]]] = [
            (20, self.kill_a_streamer),
            (8, self.pause_a_streamer),
            (6, self.terminate_the_walsender),
            (5, self.reset_connections),
            (4, self.cut_the_network),
            (6, self.s3_errors),
            (3, self.s3_silence),
            (2, self.kill_the_server),
            (2, self.kill_the_broker),
            (3, self.pause_the_broker),
            (3, self.drop_the_slot),
            (4, self.big_transaction),
            (5, self.ask_for_another_layout),
        ]

    async def strike(self) -> str:
        """One random fault; its name."""
        fault = self.dice.choices([f for _, f in self.faults], [weight for weight, _ in self.faults])[0]
        await fault()
        return fault.__name__

    async def kill_a_streamer(self) -> None:
        await self.dice.choice(self.replicas).kill()

    async def pause_a_streamer(self) -> None:
        victim = self.dice.choice(self.replicas)
        victim.signal(signal.SIGSTOP)
        await asyncio.sleep(self.dice.uniform(0.5, 8))  # behind 4 s the server gives the slot to the other one
        victim.signal(signal.SIGCONT)

    async def terminate_the_walsender(self) -> None:
        with suppress(psycopg.Error):
            await self.scene.fetch(
                "SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots WHERE slot_name = %s AND active",
                self.scene.slot,
            )

    async def reset_connections(self) -> None:
        self.source.reset()
        self.s3.reset()

    async def cut_the_network(self) -> None:
        self.source.black_hole = True
        await asyncio.sleep(self.dice.uniform(0.5, 6))
        self.source.black_hole = False

    async def s3_errors(self) -> None:
        self.s3.answer = http_error(*self.dice.choice((("503 Slow Down", "SlowDown"), ("500 Error", "InternalError"))))
        await asyncio.sleep(self.dice.uniform(0.5, 4))
        self.s3.answer = None

    async def s3_silence(self) -> None:
        self.s3.black_hole = True
        await asyncio.sleep(self.dice.uniform(0.5, 3))
        self.s3.reset()
        self.s3.black_hole = False

    async def kill_the_server(self) -> None:
        await self.scene.stack.postgres.kill()
        await self.scene.stack.postgres.start()

    async def kill_the_broker(self) -> None:
        await self.scene.stack.kafka.kill()
        await self.scene.stack.kafka.start()

    async def pause_the_broker(self) -> None:
        self.scene.stack.kafka.process.signal(signal.SIGSTOP)
        await asyncio.sleep(self.dice.uniform(0.5, 4))
        self.scene.stack.kafka.process.signal(signal.SIGCONT)

    async def drop_the_slot(self) -> None:
        """As an operator would by mistake; the streamer that holds it dies of it."""
        with suppress(psycopg.Error, AssertionError):
            await self.terminate_the_walsender()
            await self.scene.fetch("SELECT pg_drop_replication_slot(%s)", self.scene.slot)

    async def ask_for_another_layout(self) -> None:
        wanted = LayoutRequest(
            partitions=self.dice.randint(2, PARTITIONS), fanout={f"client-{self.dice.randrange(5)}": 2}
        )
        with suppress(psycopg.Error):
            async with self.scene.connect() as connection:
                await request(connection, self.scene.topic, wanted)

    async def big_transaction(self) -> None:
        with suppress(psycopg.OperationalError):
            await self.scene.insert(5000)


async def test_random_kills_and_faults_under_load_lose_and_double_nothing(stack: Stack, tmp_path: Path) -> None:
    dice = random.Random(SEED)
    struck: list[str] = []
    async with AsyncExitStack() as exits:
        scene = await exits.enter_async_context(open_scene(stack, tmp_path))
        source = await exits.enter_async_context(proxy_to(stack.postgres.port))
        s3 = await exits.enter_async_context(proxy_to(stack.aws.port))
        scene.numbers_agree = False
        await scene.insert(2000)
        behind = make_conninfo(scene.environment["DATABASE_URL"], port=source.port, options="-c wal_sender_timeout=4s")
        environment = {
            "DATABASE_URL": behind,
            "RAW_S3_ENDPOINT_URL": f"http://127.0.0.1:{s3.port}",
            "RAW_FLUSH_SECONDS": "1",
            "RAW_MAX_BYTES": "50000",
        }
        replicas = [scene.streamer(name, **environment) for name in ("left", "right")]
        chaos = Chaos(scene, replicas, source, s3, dice)
        try:
            async with AsyncExitStack() as running:
                for replica in replicas:
                    await running.enter_async_context(replica.supervised())
                async with scene.load():
                    for _ in range(FAULTS):
                        await asyncio.sleep(dice.uniform(0.2, 3))
                        struck.append(await chaos.strike())
                await scene.until_recorded(seconds=180)
            found = await scene.check()
        except BaseException as error:
            error.add_note(f"CHAOS_SEED={SEED}; struck: {struck}")
            raise
    print(f"{len(scene.inserted)} events, {len(struck)} faults, lost 0, doubled 0; seed {SEED}")  # noqa: T201
    print(f"Kafka holds {found.kafka_records - len(scene.inserted)} repeats, dropped by their positions")  # noqa: T201
