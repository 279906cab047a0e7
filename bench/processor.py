"""From Kafka to S3 at each level, beside the engine alone and a Python stream library; prints JSON.

    python -m bench processor [--events N]

The same events, distinct, of about 1.3 kB and 20 clients, lie in a topic of four partitions. One processor drains it at
each level into a ledger of its own; then quixstreams (`bench/peer.py`) does the same standard-level work, if its
environment is there (`make bench` makes it from requirements/bench.txt). Time runs from the first event taken to the
last one committed.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import json
import shutil
import sys
import tempfile
import time
import uuid
from pathlib import Path
from typing import Any

import httpx
import psycopg
from aiokafka import AIOKafkaProducer
from psycopg import sql

from bench import privacy
from bench.streamer import cpu_seconds, peak_bytes, result
from database.migrate import migrate
from local import ports, provision
from local.process import Command, Process
from local.services import Service
from local.stack import Stack
from pipeline.clients import Client, ClientId, PrivacyLevel, PseudonymKey
from pipeline.events import Event
from pipeline.kafka import headers
from pipeline.position import Position
from pipeline.secrets import SecretBox
from pipeline.stores import open_store

PARTITIONS = 4
CLIENTS = [f"client_{number}" for number in range(20)]
COMMIT_TIME = int(time.time()) * 1_000_000
_BATCH = 500
_PEER = Path(sys.prefix) / "peer" / "bin" / "python"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of this part."""
    parser.add_argument("--events", type=int, default=100_000)


async def main(options: argparse.Namespace) -> dict[str, Any]:
    """The engine alone, then everything from Kafka to S3."""
    engine_options = argparse.Namespace(events=min(options.events, 12_000))
    results: dict[str, Any] = {"engine": privacy.measure(engine_options)}
    folder = Path(tempfile.mkdtemp(prefix="bench-processor-"))
    stack = Stack(folder, say=lambda line: print(line, file=sys.stderr))
    await stack.start()
    try:
        results["kafka_to_s3"] = await _Bench(stack, folder, options.events).run()
    finally:
        await stack.stop()
        shutil.rmtree(folder, ignore_errors=True)
    return results


class _Bench:
    def __init__(self, stack: Stack, folder: Path, events: int) -> None:
        self._stack, self._folder, self._events = stack, folder, events
        self._topic = "bench"

    async def run(self) -> dict[str, Any]:
        size = await self._fill()
        results: dict[str, Any] = {"events": self._events, "mean_bytes": round(size / self._events)}
        for level in PrivacyLevel:
            results[level.value] = await self._processor(level)
        results["quixstreams_standard"] = await self._peer()
        if results["quixstreams_standard"] is not None:
            ours, theirs = results["standard"], results["quixstreams_standard"]
            results["ratios"] = {
                "standard_to_quixstreams_events_per_second": round(
                    ours["events_per_second"] / theirs["events_per_second"], 2
                ),
                "quixstreams_to_standard_cpu_per_event": round(
                    theirs["cpu_microseconds_per_event"] / ours["cpu_microseconds_per_event"], 2
                ),
            }
        return results

    async def _fill(self) -> int:
        """The topic as the streamer would have left it; returns the bytes of all events."""
        await self._stack.kafka.create_topic(self._topic, partitions=PARTITIONS, retention_hours=1)
        producer = AIOKafkaProducer(
            bootstrap_servers=self._stack.kafka.bootstrap_servers, max_batch_size=1 << 20, linger_ms=5
        )
        await producer.start()
        sequences = [0] * PARTITIONS
        size = 0
        for number in range(self._events):
            client = CLIENTS[number % len(CLIENTS)].encode()
            line = privacy.event(number).replace(b'"client_id":"client_1"', b'"client_id":"%b"' % client, 1)
            size += len(line)
            partition = number % len(CLIENTS) % PARTITIONS
            event = Event(Position(1, 1 + number, 0), COMMIT_TIME, client, client, line)
            sent = await producer.send(
                self._topic, line, key=client, partition=partition, headers=headers(event, sequences[partition])
            )
            sequences[partition] += 1
            if number % _BATCH == 0:
                await sent
        await producer.stop()
        return size

    async def _processor(self, level: PrivacyLevel) -> dict[str, Any]:
        dsn = await self._ledger(level)
        bucket, root = f"bench-{level}", self._stack.aws.root
        await provision.ensure_bucket(self._stack.aws, bucket)
        environment = {
            **self._stack.environment,
            # An empty ledger beside the records of the level before would be refused: it looks like a lost one.
            "PROCESSED_S3_BUCKET": bucket,
            "PROCESSED_S3_ACCESS_KEY": root.key_id,
            "PROCESSED_S3_SECRET_KEY": root.secret,
            "DATABASE_URL": dsn,
            "CLIENT_STORE": "postgres",
            "KAFKA_RAW_TOPIC": self._topic,
            "KAFKA_PARTITIONS": str(PARTITIONS),
            "KAFKA_GROUP": f"bench-{level}",
        }
        port = ports.choose((level.value,), {})[level.value]
        service = Service("processor", environment, port, self._folder / f"{level}.log")
        process = await service.start()
        taken = await _until(service, process, 1)
        start, cpu = time.monotonic(), cpu_seconds(process.pid)
        await _until(service, process, self._events)
        key = environment["ADMIN_API_KEY"]
        async with (
            httpx.AsyncClient(headers={"Authorization": f"Bearer {key}"}) as http,
            await psycopg.AsyncConnection.connect(dsn, autocommit=True) as connection,
        ):
            (await http.post(f"{service.url}/process/run")).raise_for_status()
            while await _committed(connection) < self._events:
                assert process.exit_status is None, service.log.read_text()[-2000:]
                await asyncio.sleep(0.02)
        seconds, cpu = time.monotonic() - start, cpu_seconds(process.pid) - cpu
        peak = peak_bytes(process.pid)
        assert await service.stop() == 0
        return result(self._events - taken, seconds, cpu, peak)

    async def _ledger(self, level: PrivacyLevel) -> str:
        """A database of its own, with clients of that level."""
        name = f"bench_{level}_{uuid.uuid4().hex[:6]}"
        admin_dsn = self._stack.postgres.dsn_for("postgres", user="postgres")
        async with await psycopg.AsyncConnection.connect(admin_dsn, autocommit=True) as admin:
            await admin.execute(sql.SQL("CREATE DATABASE {} OWNER pipeline").format(sql.Identifier(name)))
        dsn = self._stack.postgres.dsn_for(name)
        await migrate(dsn, dsn)
        box = SecretBox(self._stack.environment["CREDENTIALS_KEYS"].split(","))
        key = PseudonymKey(version=1, secret=box.encrypt(base64.b64encode(b"k" * 32).decode()))
        store = await open_store(kind="postgres", project="", dsn=dsn)
        for client_id in CLIENTS:
            client = Client(client_id=ClientId(client_id), privacy_level=level, pseudonym_keys=(key,))
            await store.put(client, actor="bench")
        await store.close()
        return dsn

    async def _peer(self) -> dict[str, Any] | None:
        """quixstreams in a process of its own, as its documentation has it."""
        if not _PEER.exists():
            return None
        environment = {
            name: self._stack.environment[f"PROCESSED_S3_{name}"]
            for name in ("BUCKET", "ACCESS_KEY", "SECRET_KEY", "ENDPOINT_URL")
        }
        log = self._folder / "peer.log"
        report = self._folder / "peer.json"
        process = await Process.start(
            Command(
                argv=(str(_PEER), "-m", "bench.peer", str(report)),
                log=log,
                folder=self._folder,
                environment={
                    **environment,
                    "BROKER": self._stack.kafka.bootstrap_servers,
                    "TOPIC": self._topic,
                    "EVENTS": str(self._events),
                    "CLIENTS": ",".join(CLIENTS),
                    "PYTHONPATH": str(Path(__file__).parents[1]),
                },
            )
        )
        status = await process.wait()
        assert status == 0, log.read_text()[-2000:]
        told = json.loads(report.read_text())
        assert told["written"] == self._events, told
        return result(told["events"], told["seconds"], told["cpu_seconds"], told["peak_bytes"])


async def _until(service: Service, process: Process, events: int) -> int:
    """Until the processor has taken so many events; how many it has taken then."""
    async with httpx.AsyncClient() as http:
        while True:
            assert process.exit_status is None, service.log.read_text()[-2000:]
            try:
                taken = int((await http.get(f"{service.url}/process/status", timeout=30)).json()["events"])
            except httpx.TransportError:
                taken = 0
            if taken >= events:
                return taken
            await asyncio.sleep(0.05)  # an answer costs the processor as much as a hundred events


async def _committed(connection: psycopg.AsyncConnection) -> int:
    cursor = await connection.execute("SELECT coalesce(sum(events), 0)::bigint FROM pipeline.chunk_counts")
    row = await cursor.fetchone()
    return int(row[0]) if row else 0
