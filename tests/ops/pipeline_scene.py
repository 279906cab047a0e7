"""A whole pipeline in the session's stack: its own database, topic, slot, queue and clients; any number of services."""

from __future__ import annotations

import asyncio
import json
import signal
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import psycopg

from local import gauge, ports, samples
from local.postgres import Postgres
from local.process import Process
from local.samples import SAMPLES
from local.services import Service
from local.stack import Stack
from local.traffic import run_traffic
from pipeline.secrets import SecretBox
from pipeline.stores import open_store
from tests.integration.streamer_scene import open_scene as open_streamer_scene

ACTIVE = [sample for sample in SAMPLES if sample.active]


async def eventually(condition: Callable[[], Awaitable[Any]], what: str, seconds: float = 60) -> Any:
    """The first true answer of `condition`. Fails after `seconds`, naming `what`."""
    deadline = time.monotonic() + seconds
    while not (answer := await condition()):
        assert time.monotonic() < deadline, f"{what}: not within {seconds:.0f} s"
        await asyncio.sleep(0.2)
    return answer


@dataclass
class Instance:
    """One running service."""

    service: Service
    process: Process

    async def answers(self, path: str) -> bool:
        """Whether GET `path` answers 200."""
        try:
            async with httpx.AsyncClient(timeout=10) as http:
                return (await http.get(self.service.url + path)).status_code == 200
        except httpx.HTTPError:
            return False

    async def metric(self, name: str) -> float:
        """A metric without labels."""
        async with httpx.AsyncClient(timeout=10) as http:
            text = (await http.get(f"{self.service.url}/metrics")).text
        return next(float(line.split()[1]) for line in text.splitlines() if line.startswith(f"{name} "))

    async def drain(self) -> float:
        """SIGTERM, as Kubernetes sends it; the seconds until it has ended with status 0."""
        began = time.monotonic()
        self.process.expected_end = True
        self.process.signal(signal.SIGTERM)
        assert await asyncio.wait_for(self.process.wait(), 120) == 0, self.process.log_tail()
        return time.monotonic() - began


@dataclass
class Pipeline:
    """The scene. `environment` is a service's, without HEALTH_PORT."""

    stack: Stack
    name: str
    folder: Path
    dsn: str
    environment: dict[str, str]
    running: dict[str, Instance] = field(default_factory=dict)
    _started: int = 0

    @property
    def record(self) -> Path:
        """What was inserted."""
        return self.folder / "record.jsonl"

    @property
    def accesses(self) -> Path:
        """How each client reaches its bucket."""
        return self.folder / "clients.json"

    async def start(self, kind: str, *, wait_ready: bool = True, **extra: str) -> Instance:
        """Start one more instance of a service, and wait until it is ready."""
        self._started += 1
        label = f"{kind}-{self._started}"
        port = ports.choose((label,), {})[label]
        service = Service(kind, {**self.environment, **extra}, port, self.folder / f"{label}.log")
        instance = self.running[label] = Instance(service, await service.start())
        if wait_ready:
            await eventually(lambda: instance.answers("/readyz"), f"{label} is ready")
        return instance

    async def stop(self, instance: Instance) -> float:
        """Drain one instance; the seconds it took."""
        label = next(label for label, one in self.running.items() if one is instance)
        seconds = await instance.drain()
        del self.running[label]
        return seconds

    async def close(self) -> None:
        """End what still runs."""
        await asyncio.gather(*(one.process.kill() for one in self.running.values()))

    async def look(self) -> gauge.Gauge:
        """The ledger's counts."""
        async with await psycopg.AsyncConnection.connect(self.dsn, autocommit=True) as connection:
            return await gauge.read(connection)

    async def traffic(self, rate: float, seconds: float, stop: asyncio.Event | None = None, seed: int = 11) -> int:
        """Insert events of the sample clients; how many."""
        return await run_traffic(
            self.dsn,
            rate=rate,
            seconds=seconds,
            record=self.record,
            clients=[sample.client_id for sample in ACTIVE],
            sites={sample.client_id: sample.hosts for sample in ACTIVE},
            inactive=[sample.client_id for sample in SAMPLES if not sample.active],
            stop=stop,
            seed=seed,
        )

    async def order_deliveries(self) -> None:
        """What the admin's "sync now" sends, for each client."""
        async with self.stack.aws.client("sqs") as sqs:
            for sample in ACTIVE:
                body = {"client_id": sample.client_id, "run_key": f"{datetime.now(UTC):%Y%m%dT%H%M%S}-manual"}
                await sqs.send_message(QueueUrl=self.environment["SYNC_QUEUE_URL"], MessageBody=json.dumps(body))

    async def drained(self, inserted: int, seconds: float = 120) -> gauge.Gauge:
        """Order deliveries until everything that was inserted is through."""
        deadline = time.monotonic() + seconds
        while not (look := await self.look()).is_drained(inserted):
            assert time.monotonic() < deadline, f"{inserted} inserted, not through within {seconds:.0f} s: {look}"
            if look.processed >= inserted and not look.open_runs:
                await self.order_deliveries()
            await asyncio.sleep(1)
        return look


@asynccontextmanager
async def open_pipeline(
    stack: Stack, folder: Path, *, postgres: Postgres | None = None, **extra: str
) -> AsyncIterator[Pipeline]:
    """A scene with its own clients under a prefix of the samples' buckets; nothing of it is left but objects."""
    name = f"p_{uuid.uuid4().hex[:10]}"
    async with AsyncExitStack() as exits:
        scene = await exits.enter_async_context(open_streamer_scene(stack, folder, postgres=postgres))
        dsn = scene.environment["DATABASE_URL"]
        async with stack.aws.client("sqs") as sqs:
            queue = (await sqs.create_queue(QueueName=name))["QueueUrl"]
        environment = {
            **scene.environment,
            "KAFKA_GROUP": name,
            "SYNC_QUEUE_URL": queue,
            "AWS_ACCESS_KEY_ID": stack.aws.root.key_id,
            "AWS_SECRET_ACCESS_KEY": stack.aws.root.secret,
            "CLIENT_STORE": "postgres",
            "RAW_FLUSH_SECONDS": "1",
            "PROCESSED_FLUSH_SECONDS": "1",
            "CLEANUP_DELAY_SECONDS": "1",
            **extra,
        }
        pipeline = Pipeline(stack, name, folder, dsn, environment)
        await _fill_client_store(pipeline)
        exits.push_async_callback(pipeline.close)
        yield pipeline


async def _fill_client_store(pipeline: Pipeline) -> None:
    """The samples as they are, but under a prefix: another scene's manifests are not ours."""
    stack, prefix = pipeline.stack, f"{pipeline.name}/"
    store = await open_store(kind="postgres", project="", dsn=pipeline.dsn)
    try:
        box = SecretBox(pipeline.environment["CREDENTIALS_KEYS"].split(","))
        await samples.ensure_clients(store, box, stack.samples, endpoint_url=stack.aws.endpoint_url)
        for sample in SAMPLES:
            client = await store.get(sample.client_id)
            await store.put(replace(client, client_s3_prefix=prefix), actor="tests")  # type: ignore[type-var]
    finally:
        await store.close()
    samples.write_accesses(pipeline.accesses, stack.samples, endpoint_url=stack.aws.endpoint_url)
    document = [{**access, "prefix": prefix} for access in json.loads(pipeline.accesses.read_text())]
    pipeline.accesses.write_text(json.dumps(document))
