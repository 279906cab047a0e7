"""The scene of the processor's tests: a streamer's scene, members of a group of its own, a judge of what they wrote."""

from __future__ import annotations

import gzip
import json
from collections import Counter
from typing import Any

from local import ports
from local.process import Process
from local.samples import SAMPLES
from local.services import Service
from tests.integration.streamer_scene import Scene

ACTIVE = [sample.client_id for sample in SAMPLES if sample.active]
INSERT = (
    "INSERT INTO events_log (event_id, event_type, session_id, site_id, client_id, timestamp, ip_address,"
    " raw_event_data) SELECT gen_random_uuid(), 'pageview', 's' || n %% 7, 'site',"
    " (%s::text[])[1 + n %% array_length(%s::text[], 1)], now(), '192.0.2.7',"
    " jsonb_build_object('n', n, 'filler', repeat('x', %s)) FROM generate_series(1, %s) n RETURNING event_id"
)


class Processors:
    """Members of a group of the scene's own, and a reader of what they wrote."""

    def __init__(self, scene: Scene) -> None:
        self.scene = scene
        self._running: list[Process] = []

    def service(self, **environment: str) -> Service:
        name = f"processor-{len(self._running)}"
        settings = self.scene.environment | {"KAFKA_GROUP": self.scene.topic, "PROCESSED_FLUSH_SECONDS": "1"}
        port = ports.choose((name,), {})[name]
        log = self.scene.folder / f"{name}.log"
        log.parent.mkdir(parents=True, exist_ok=True)
        return Service("processor", settings | environment, port, log)

    async def start(self, **environment: str) -> tuple[Process, Service]:
        service = self.service(**environment)
        process = await service.start()
        self.watch(process)
        return process, service

    def watch(self, process: Process) -> None:
        """It is gone at the end."""
        self._running.append(process)

    async def close(self) -> None:
        for process in self._running:
            if process.exit_status is None:
                await process.kill()

    async def insert(self, count: int, clients: list[str], *, filler: int = 0) -> None:
        async with self.scene.connect() as connection:
            cursor = await connection.execute(INSERT, (clients, clients, filler, count))
            self.scene.inserted |= {str(row[0]) for row in await cursor.fetchall()}

    async def settled(self) -> bool:
        return await self.processed(len(self.scene.inserted))

    async def processed(self, events: int) -> bool:
        row = await self.scene.fetch(
            "SELECT coalesce(sum(events) FILTER (WHERE disposition <> 'repeat'), 0)::bigint FROM pipeline.chunk_counts"
        )
        return int(row[0]) >= events

    async def objects(self) -> list[tuple[Any, ...]]:
        async with self.scene.connect() as connection:
            cursor = await connection.execute(
                "SELECT kind, client_id, bucket, key, events, policy_version FROM pipeline.processed_objects"
                " WHERE superseded_by IS NULL"
            )
            return await cursor.fetchall()

    async def check(self) -> None:
        """Each inserted event in exactly one object, under its client; the ledger's counts agree with the raw ones."""
        found: Counter[str] = Counter()
        async with self.scene.stack.aws.client("s3") as s3:
            for kind, client_id, bucket, key, events, _ in await self.objects():
                body = await (await s3.get_object(Bucket=bucket, Key=key))["Body"].read()
                records = [json.loads(line) for line in gzip.decompress(body).splitlines()]
                assert len(records) == events
                found.update(record["event_id"] for record in records)
                assert kind == "quarantine" or {record["client_id"] for record in records} == {client_id}
                assert kind == "quarantine" or all(record["privacy"]["level"] in client_id for record in records)
        inserted = self.scene.inserted
        assert (len(inserted - found.keys()), len(found.keys() - inserted)) == (0, 0), "lost, strange"
        assert not [event for event, times in found.items() if times > 1], "doubled"
        difference = await self.scene.fetch(
            "SELECT count(*) FROM (SELECT hour, source_client_id, sum(events) FROM pipeline.raw_counts GROUP BY 1, 2) r"
            " FULL JOIN (SELECT hour, source_client_id, sum(events) FROM pipeline.chunk_counts"
            " WHERE disposition <> 'repeat' GROUP BY 1, 2) c USING (hour, source_client_id) WHERE r.sum <> c.sum"
            " OR r.sum IS NULL OR c.sum IS NULL"
        )
        assert difference == (0,), "raw counts and chunk counts differ"
