"""The scene of the replay's tests: streamer and processor on a database of their own, clients that can be changed."""

from __future__ import annotations

import asyncio
import base64
import gzip
import hashlib
import json
import os
import signal
import sys
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from aiokafka import TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, RecordsToDelete

from database.balance import Window, imbalances
from database.ledger.replays import Order
from local import ports
from local.process import Process
from local.services import Service
from local.stack import Stack
from pipeline.clients import Client, ClientId, Domain, PrivacyLevel, PseudonymKey
from pipeline.secrets import SecretBox
from pipeline.stores.postgres import PostgresClientStore
from processor.replay.pipeline import replay_now
from processor.settings import ProcessorSettings
from tests.integration.streamer_scene import PARTITIONS, Scene, eventually, open_scene

LONG_AGO = datetime(2020, 1, 1, tzinfo=UTC)

INSERT = (
    "INSERT INTO events_log (event_id, event_type, session_id, visitor_id, site_id, client_id, timestamp, url,"
    " ip_address, raw_event_data) SELECT gen_random_uuid(), 'lead_form_submit', 's' || n %% 7, 'v' || n %% 5, %s, %s,"
    " now(), 'https://' || %s || '/contact', '192.0.2.7',"
    " jsonb_build_object('n', n, 'eventData', jsonb_build_object('email', 'p' || n || '@mail.example'))"
    " FROM generate_series(1, %s) n RETURNING event_id::text"
)


class ReplayScene:
    """See the module's text. Made by `open_replay_scene`."""

    def __init__(self, scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
        self.scene = scene
        scene.environment |= {
            "CLIENT_STORE": "postgres",
            "KAFKA_GROUP": scene.topic,
            "PROCESSED_FLUSH_SECONDS": "0.5",
            "LOG_LEVEL": "INFO",
        }
        for name, value in scene.environment.items():
            monkeypatch.setenv(name, value)
        self.store = PostgresClientStore(scene.environment["DATABASE_URL"])
        self.box = SecretBox([scene.environment["CREDENTIALS_KEYS"]])
        self._processes: list[Process] = []

    async def start(self) -> None:
        """Streamer and processor, ready."""
        streamer = await self.scene.streamer().start()
        service = self._service("processor")
        self._processes.append(await service.start())
        await streamer.until_state("streaming")

    def _service(self, name: str, **environment: str) -> Service:
        port = ports.choose((name,), {})[name]
        return Service(name, self.scene.environment | environment, port, self.scene.folder / f"{name}.log")

    async def close(self) -> None:
        """Kill what runs."""
        await self.store.close()
        for process in self._processes:
            if process.exit_status is None:
                await process.kill()

    async def client(self, client_id: str, level: str = "standard", *hosts: str, **changes: Any) -> Client:
        """Make or change a client."""
        secret = self.box.encrypt(base64.b64encode(hashlib.sha256(client_id.encode()).digest()).decode())
        before = await self.store.get(ClientId(client_id))
        client = before if isinstance(before, Client) else Client(client_id=ClientId(client_id))
        fields: dict[str, Any] = {
            "privacy_level": PrivacyLevel(level),
            "lawful_basis": "contract",
            "pseudonym_keys": (PseudonymKey(version=1, secret=secret),),
            "domains": tuple(Domain(host=host, valid_from=LONG_AGO) for host in hosts) or client.domains,
        }
        return await self.store.put(replace(client, **(fields | changes)), actor="test")

    async def insert(
        self, count: int, client_id: str | None, site: str = "unheard.example", host: str | None = None
    ) -> set[str]:
        """Events of a client, or of none but with a site, and with a host if that is another; their ids."""
        async with self.scene.connect() as connection:
            cursor = await connection.execute(INSERT, (site, client_id, host or site, count))
            ids = {row[0] for row in await cursor.fetchall()}
        self.scene.inserted |= ids
        return ids

    async def settled(self) -> None:
        """Wait until all is processed and in raw files."""

        async def processed() -> bool:
            assert all(process.exit_status is None for process in self._processes)
            row = await self.scene.fetch(
                "SELECT coalesce(sum(events) FILTER (WHERE disposition <> 'repeat'), 0)::bigint"
                " FROM pipeline.chunk_counts"
            )
            return int(row[0]) >= len(self.scene.inserted)

        await eventually(processed, seconds=60, what="all processed")
        await self.scene.until_recorded(seconds=60)

    def order(self, client_id: str | None = None, **changes: Any) -> Order:
        """All hours of this test."""
        now = datetime.now(UTC).replace(minute=0, second=0, microsecond=0)
        return replace(Order(client_id=client_id, first_hour=now - timedelta(hours=1), last_hour=now), **changes)

    async def replay(self, client_id: str | None = None, **changes: Any) -> dict[str, Any]:
        """Run a replay in this process; its summary. `changes`: of the order."""
        order = self.order(client_id, **({"first_hour": await self.first_hour()} | changes))
        said: list[dict[str, Any]] = []
        await replay_now(ProcessorSettings.load(), order, said.append)
        return said[0]

    async def first_hour(self) -> datetime:
        """The first hour with events."""
        row = await self.scene.fetch("SELECT min(hour) FROM pipeline.chunk_counts")
        return row[0]  # type: ignore[no-any-return]

    async def command(self, *arguments: str, failpoint: str = "") -> tuple[int, str, str]:
        """`python -m processor replay` with these arguments: exit status, output, errors."""
        environment = os.environ | ({"FAILPOINT": failpoint} if failpoint else {})
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "processor", "replay", *arguments,
            env=environment, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        try:
            out, errors = await process.communicate()
        finally:
            if process.returncode is None:
                process.send_signal(signal.SIGKILL)
        return process.returncode or 0, out.decode(), errors.decode()

    async def forget_kafka(self) -> None:
        """Let the topic's retention have passed."""
        admin = AIOKafkaAdminClient(bootstrap_servers=self.scene.stack.kafka.bootstrap_servers)
        await admin.start()
        try:
            await admin.delete_records(
                {TopicPartition(self.scene.topic, n): RecordsToDelete(before_offset=-1) for n in range(PARTITIONS)}
            )
        finally:
            await admin.close()

    async def forget_raw(self) -> None:
        """Let the raw bucket's retention have passed."""
        async with self.scene.connect() as connection, self.scene.stack.aws.client("s3") as s3:
            cursor = await connection.execute("SELECT bucket, key FROM pipeline.raw_objects")
            for bucket, key in await cursor.fetchall():
                await s3.delete_object(Bucket=bucket, Key=key)

    async def ledger(self) -> dict[str, list[tuple[Any, ...]]]:
        """All that a replay may change."""
        tables = ("chunk_counts", "processed_objects", "cell_revisions", "replays", "replay_cells", "delivery_files",
                  "delivery_members", "delivery_replacements", "chunks", "consumer_positions", "audit_log")  # fmt: skip
        async with self.scene.connect() as connection:
            return {
                table: sorted(
                    await (await connection.execute(f"SELECT t::text FROM pipeline.{table} t".encode())).fetchall()
                )
                for table in tables
            }

    async def objects(self) -> list[dict[str, Any]]:
        """The objects of now, with their records."""
        async with self.scene.connect() as connection:
            cursor = await connection.execute(
                "SELECT kind, client_id, bucket, key, events, sha256, privacy_level, policy_version"
                " FROM pipeline.processed_objects WHERE superseded_by IS NULL ORDER BY id"
            )
            rows = await cursor.fetchall()
        found = []
        async with self.scene.stack.aws.client("s3") as s3:
            for kind, client_id, bucket, key, events, sha256, level, version in rows:
                body = await (await s3.get_object(Bucket=bucket, Key=key))["Body"].read()
                assert hashlib.sha256(body).hexdigest() == sha256
                records = [json.loads(line) for line in gzip.decompress(body).splitlines()]
                assert len(records) == events
                found.append({"kind": kind, "client_id": client_id, "key": key, "sha256": sha256, "level": level,
                              "policy_version": version, "records": records})  # fmt: skip
        return found

    async def check(self, **owners: set[str]) -> list[dict[str, Any]]:
        """Each event exactly once in the objects of now, under its owner (quarantine: in none's); the ledger balances.

        Returns the objects.
        """
        objects = await self.objects()
        found: Counter[str] = Counter(record["event_id"] for item in objects for record in item["records"])
        inserted = self.scene.inserted
        assert (len(inserted - found.keys()), len(found.keys() - inserted)) == (0, 0), "lost, strange"
        assert not [event for event, times in found.items() if times > 1], "doubled"
        for owner, ids in owners.items():
            kind, client_id = ("quarantine", "") if owner == "quarantine" else ("client", owner)
            have = {record["event_id"] for item in objects for record in item["records"]
                    if (item["kind"], item["client_id"]) == (kind, client_id)}  # fmt: skip
            assert have == ids, f"{owner}: {len(ids - have)} missing, {len(have - ids)} too many"
        async with self.scene.connect() as connection:
            wrong = await imbalances(connection, Window(), slot=self.scene.slot, topic=self.scene.topic)
        assert not wrong, [str(item) for item in wrong]
        return objects


@asynccontextmanager
async def open_replay_scene(
    stack: Stack, folder: Path, monkeypatch: pytest.MonkeyPatch, **alpha: Any
) -> AsyncIterator[ReplayScene]:
    """A scene with streamer and processor running, and clients `alpha` (alpha.example) and `beta` (beta.example).

    `alpha`: other settings of that client.
    """
    async with AsyncExitStack() as exits:
        scene = ReplayScene(await exits.enter_async_context(open_scene(stack, folder)), monkeypatch)
        exits.push_async_callback(scene.close)
        await scene.client("alpha", "standard", "alpha.example", **alpha)
        await scene.client("beta", "gdpr", "beta.example")
        await scene.start()
        yield scene
