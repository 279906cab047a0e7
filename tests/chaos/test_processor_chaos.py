"""Processors killed at random and at their failpoints, paused, joined and left, under load: each event once."""

from __future__ import annotations

import asyncio
import base64
import os
import random
import signal
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import httpx
import psycopg
import pytest
from pydantic import SecretStr

from bench.streamer import peak_bytes
from database.balance import Window
from database.ledger import audit
from database.reconcile import reconcile
from database.settings import DeepReconcileSettings
from local.process import Process
from local.services import Service
from local.stack import Stack
from pipeline.clients import Client, ClientId, PrivacyLevel, PseudonymKey
from pipeline.secrets import SecretBox
from pipeline.stores import open_store
from tests.integration.processor_scene import Processors
from tests.integration.streamer_scene import eventually, open_scene

pytestmark = pytest.mark.chaos

DISTURBANCES = int(os.environ.get("CHAOS_ROUNDS", "50"))
MEMBERS = 3
FLIPPED = "wobbly-gdpr"
CLIENTS = ["big-standard", "mid-standard", "one-gdpr", FLIPPED, "one-hipaa", "two-hipaa"]
FAILPOINTS = (
    "processor.after_put",
    "processor.after_put:3",
    "processor.after_ledger",
    "processor.after_ledger:2",
)
KINDS = ("kill", "kill", "kill", "failpoint", "failpoint", "join", "leave", "pause")


class Group:
    """Three members, a stream of events, and a client whose settings can't be read now and then."""

    def __init__(self, processors: Processors, rng: random.Random) -> None:
        self.processors, self.rng = processors, rng
        self.members: list[tuple[Process, Service]] = []
        self.done: list[str] = []

    async def start(self) -> None:
        for _ in range(MEMBERS):
            self.members.append(await self.processors.start())

    async def insert_for_ever(self) -> None:
        while True:
            await self.processors.insert(self.rng.randint(1, 40), self.rng.choices(CLIENTS, (9, 3, 2, 2, 2, 1), k=7))
            await asyncio.sleep(0.1)  # the load's pace, no wait for anything

    async def chunks(self) -> int:
        row = await self.processors.scene.fetch("SELECT count(*) FROM pipeline.chunks")
        return int(row[0])

    async def disturb(self) -> None:
        """One disturbance, and what it takes until the group has committed again."""
        kind = self.rng.choice(KINDS)
        place = self.rng.randrange(MEMBERS)
        process, service = self.members[place]
        before = await self.chunks()
        match kind:
            case "kill":
                await process.kill()
                await self.replace(place)
            case "failpoint":
                await process.kill()
                doomed = await service.start(FAILPOINT=self.rng.choice(FAILPOINTS))
                self.processors.watch(doomed)
                await eventually(lambda: ended(doomed), seconds=120, what="its failpoint")
                assert doomed.exit_status == -signal.SIGKILL
                await self.replace(place)
            case "leave":
                await eventually(lambda: listens(service), seconds=60, what="a signal before that ends any program")
                process.signal(signal.SIGTERM)
                assert await asyncio.wait_for(process.wait(), 60) == 0
                await self.replace(place)
            case "join":
                guest, its_service = await self.processors.start()
                await eventually(lambda: has_joined(its_service), seconds=120, what="the guest is in the group")
                guest.signal(signal.SIGTERM)
                assert await asyncio.wait_for(guest.wait(), 60) == 0
            case "pause":
                process.signal(signal.SIGSTOP)
                inserted = len(self.processors.scene.inserted)
                try:
                    await eventually(lambda: self.processors.processed(inserted), seconds=120, what="others go on")
                finally:
                    process.signal(signal.SIGCONT)
        await eventually(lambda: self.committed_beyond(before), seconds=120, what=f"a chunk after {kind}")
        for number, (member, _) in enumerate(self.members):
            if member.exit_status is not None:  # the zombie may end when it finds itself fenced
                assert member.exit_status == 1, self.log_of(number)
                await self.replace(number)
        self.done.append(kind)

    async def committed_beyond(self, before: int) -> bool:
        return await self.chunks() > before

    async def replace(self, place: int) -> None:
        _, service = self.members[place]
        process = await service.start()
        self.processors.watch(process)
        self.members[place] = (process, service)

    def log_of(self, number: int) -> str:
        return "\n".join(self.members[number][1].log.read_text().splitlines()[-10:])

    async def flip(self, readable: bool) -> None:
        """The flipped client's privacy level becomes unreadable, or readable again."""
        async with self.processors.scene.connect() as connection:
            await connection.execute(
                "UPDATE pipeline.clients SET document = jsonb_set(document, '{privacy_level}', to_jsonb(%s::text))"
                " WHERE client_id = %s",
                ("gdpr" if readable else "?", FLIPPED),
            )

    async def stop(self) -> None:
        for process, service in self.members:
            await eventually(lambda at=service: listens(at), seconds=60, what="a signal before that ends any program")
            process.signal(signal.SIGTERM)
        for number, (process, _) in enumerate(self.members):
            assert await asyncio.wait_for(process.wait(), 60) == 0, self.log_of(number)


async def ended(process: Process) -> bool:
    return process.exit_status is not None


async def has_joined(service: Service) -> bool:
    return await listens(service, "/readyz")


async def has_taken(service: Service, events: int) -> bool:
    async with httpx.AsyncClient() as http:
        try:
            return bool((await http.get(f"{service.url}/process/status", timeout=20)).json()["events"] >= events)
        except httpx.TransportError:
            return False


async def listens(service: Service, path: str = "/healthz") -> bool:
    async with httpx.AsyncClient() as http:
        try:
            return (await http.get(f"{service.url}{path}", timeout=20)).status_code == 200
        except httpx.TransportError:
            return False


@asynccontextmanager
async def group_of(stack: Stack, folder: Path, rng: random.Random) -> AsyncIterator[Group]:
    async with open_scene(stack, folder) as scene:
        scene.environment["CLIENT_STORE"] = "postgres"
        box = SecretBox(scene.environment["CREDENTIALS_KEYS"].split(","))
        store = await open_store(kind="postgres", project="", dsn=scene.environment["DATABASE_URL"])
        key = PseudonymKey(version=1, secret=box.encrypt(base64.b64encode(rng.randbytes(32)).decode()))
        for name in CLIENTS:
            level = PrivacyLevel(name.rpartition("-")[2])
            client = Client(client_id=ClientId(name), privacy_level=level, consent_required=False)
            await store.put(replace(client, pseudonym_keys=(key,)), actor="test")
        await store.close()
        processors = Processors(scene)
        try:
            yield Group(processors, rng)
        finally:
            await processors.close()


@pytest.mark.timeout(3600)
async def test_kills_and_rebalances_under_load_leave_each_event_in_exactly_one_object(
    stack: Stack, tmp_path: Path
) -> None:
    rng = random.Random(11)
    async with group_of(stack, tmp_path, rng) as group:
        scene = group.processors.scene
        streamer = await scene.streamer().start()
        await streamer.until_state("streaming")
        await group.start()
        load = asyncio.create_task(group.insert_for_ever())
        began = time.monotonic()
        try:
            for number in range(DISTURBANCES):
                if number % 10 == 3:
                    await group.flip(readable=False)
                if number % 10 == 8:
                    await group.flip(readable=True)
                await group.disturb()
                assert not load.done()
        finally:
            load.cancel()
        await asyncio.wait([load])
        await group.flip(readable=True)
        await eventually(group.processors.settled, seconds=120, what="all processed")
        held = "SELECT count(*) FROM pipeline.processed_objects WHERE kind = 'held' AND superseded_by IS NULL"

        async def released() -> bool:
            return await scene.fetch(held) == (0,)

        await eventually(released, seconds=120, what="all released")
        await group.stop()
        await scene.until_recorded(seconds=60)
        await group.processors.check()
        released_once = await scene.fetch("SELECT count(*) FROM pipeline.cell_revisions WHERE cause = 'release'")
        assert released_once[0] > 0, "the test must have held something"
        found = await reconcile(settings_of(scene.environment), Window())
        assert not found, [str(item) for item in found][:10]
        async with await psycopg.AsyncConnection.connect(scene.environment["DATABASE_URL"]) as connection:
            verdict = await audit.verify(connection)
        assert verdict.broken is None
        assert verdict.head.entries > 0
        print(  # noqa: T201 - what the run was
            f"{len(group.done)} disturbances { ({kind: group.done.count(kind) for kind in set(group.done)}) },"
            f" {len(scene.inserted)} events, {await group.chunks()} chunks, {released_once[0]} releases,"
            f" {verdict.head.entries} audit entries, {time.monotonic() - began:.0f} s"
        )


SMALL_CLIENTS = 5_000
HOT_EVENTS = 30_000
MOST_MEMORY_BYTES = 700 << 20


@pytest.mark.timeout(900)
async def test_thousands_of_small_clients_and_a_hot_one_in_a_chunk_take_bounded_memory(
    stack: Stack, tmp_path: Path
) -> None:
    async with group_of(stack, tmp_path, random.Random(12)) as group:
        processors, scene = group.processors, group.processors.scene
        names = [f"c{number}-standard" for number in range(SMALL_CLIENTS)]
        async with scene.connect() as connection:
            await connection.execute(
                "INSERT INTO pipeline.clients (client_id, document) SELECT name, jsonb_build_object('client_id', name,"
                " 'privacy_level', 'standard') FROM unnest(%s::text[]) AS name", (names,)
            )  # fmt: skip
        streamer = await scene.streamer().start()
        await streamer.until_state("streaming")
        for _ in range(2):
            await processors.insert(SMALL_CLIENTS, names)
        for _ in range(HOT_EVENTS // 10_000):
            await processors.insert(10_000, ["big-standard"], filler=8_000)
        await scene.until_recorded(seconds=120)
        process, service = await processors.start(PROCESSED_FLUSH_SECONDS="3600")
        await eventually(lambda: has_taken(service, len(scene.inserted)), seconds=300, what="all is gathered")
        async with httpx.AsyncClient() as http:
            key = {"Authorization": f"Bearer {scene.environment['ADMIN_API_KEY']}"}
            (await http.post(f"{service.url}/process/run", headers=key, timeout=20)).raise_for_status()
        await eventually(processors.settled, seconds=300, what="all is written")
        peak = peak_bytes(process.pid)
        process.signal(signal.SIGTERM)
        assert await asyncio.wait_for(process.wait(), 60) == 0
        await processors.check()
        assert peak < MOST_MEMORY_BYTES
        print(f"{SMALL_CLIENTS} clients and a hot one: {peak >> 20} MB at most")  # noqa: T201 - what the run was


def settings_of(environment: dict[str, str]) -> DeepReconcileSettings:
    values = {name.lower(): value for name, value in environment.items()}
    secret = {name: SecretStr(value) for name, value in values.items() if name.endswith(("_key", "_url"))}
    plain = ("raw_s3_endpoint_url", "processed_s3_endpoint_url", "aws_endpoint_url", "raw_s3_kms_key",
             "processed_s3_kms_key")  # fmt: skip
    wanted = DeepReconcileSettings.model_fields
    return DeepReconcileSettings(
        **{name: values[name] if name in plain else secret.get(name, value) for name, value in values.items()
           if name in wanted}  # type: ignore[arg-type]
    )  # fmt: skip
