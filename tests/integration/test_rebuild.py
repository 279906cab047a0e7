"""The ledger thrown away, or set back to an older state, in the middle of traffic: rebuilt, it goes on.

Streamer and processors as processes, deliveries by the syncer's own command, and a reader that believes nobody.
"""

from __future__ import annotations

import asyncio
import base64
import gzip
import json
import signal
import sys
import uuid
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

import psycopg
import pytest
from psycopg import sql

from database.ledger import open_pool
from database.ledger.replays import Order
from database.rebuild.pipeline import rebuild
from database.rebuild.report import Report
from database.settings import RebuildSettings
from local import provision
from local.aws import AccessKey
from local.process import Command, Process
from local.services import Service
from local.stack import Stack
from pipeline.clients import Client, ClientId, ClientStore, PrivacyLevel, PseudonymKey
from pipeline.errors import ConfigError
from pipeline.secrets import SecretBox
from pipeline.settings import Settings
from pipeline.stores import open_store
from processor.replay.pipeline import replay_now
from processor.settings import ProcessorSettings
from tests.integration import roles
from tests.integration.streamer_scene import Scene, eventually, open_scene

pytestmark = pytest.mark.timeout(180)

S = TypeVar("S", bound=Settings)

ROOT = Path(__file__).parents[2]
INSERT = (
    "INSERT INTO events_log (event_id, event_type, session_id, site_id, client_id, timestamp, raw_event_data)"
    " SELECT gen_random_uuid(), 'pageview', 's', 'site' || n %% 5, (%s::text[])[1 + n %% 3], now(),"
    " jsonb_build_object('n', n) FROM generate_series(1, %s) n RETURNING event_id::text"
)


class Traffic:
    """A pipeline with buckets and clients of its own, that rows are inserted into all the time.

    Each service may do on the buckets what its policy in infra/template.yaml grants, and so may who rebuilds.
    """

    def __init__(self, scene: Scene) -> None:
        self.scene = scene
        self.clients: list[Client] = []
        self.inserted: set[str] = set()
        self._roles: dict[str, AccessKey] = {}
        self._processes: list[Process] = []
        self._runs = 0

    async def prepare(self) -> None:
        """Buckets, two clients and a name that belongs to nobody."""
        stack, name = self.scene.stack, uuid.uuid4().hex[:8]
        root = stack.aws.root
        raw, processed = f"raw-{name}", f"processed-{name}"
        for bucket in (raw, processed):
            await provision.ensure_bucket(stack.aws, bucket)
        for role in ("Streamer", "Processor", "Syncer", "Rebuild"):
            self._roles[role] = await roles.user(stack.aws, role, raw=raw, processed=processed)
        self.scene.environment |= {
            "RAW_S3_BUCKET": raw,
            "PROCESSED_S3_BUCKET": processed,
            "RAW_S3_KMS_KEY": "",
            "PROCESSED_S3_KMS_KEY": "",
            "KAFKA_GROUP": self.scene.topic,
            "PROCESSED_FLUSH_SECONDS": "1",
            "HEALTH_PORT": "0",
            "LOG_LEVEL": "INFO",
        }
        box = SecretBox(self.scene.environment["CREDENTIALS_KEYS"].split(","))
        for number, level in enumerate((PrivacyLevel.STANDARD, PrivacyLevel.GDPR)):
            bucket = f"to-{name}-{number}"
            await provision.ensure_bucket(stack.aws, bucket)
            self.clients.append(
                Client(
                    client_id=ClientId(f"r-{name}-{number}"),
                    privacy_level=level,
                    consent_required=False,
                    pseudonym_keys=(PseudonymKey(version=1, secret=box.encrypt(base64.b64encode(bytes(32)).decode())),),
                    sync_enabled=True,
                    client_s3_bucket=bucket,
                    client_s3_region="us-east-1",
                    client_s3_endpoint_url=stack.aws.endpoint_url,
                    client_s3_access_key=root.key_id,
                    client_s3_secret_key=box.encrypt(root.secret),
                )
            )
        await self.store_clients()

    def environment(self, role: str) -> dict[str, str]:
        """Of a service, or of whoever rebuilds and reconciles."""
        key = self._roles[role.title()]
        keys = {f"{part}_S3_ACCESS_KEY": key.key_id for part in ("RAW", "PROCESSED")}
        secrets = {f"{part}_S3_SECRET_KEY": key.secret for part in ("RAW", "PROCESSED")}
        return self.scene.environment | keys | secrets

    async def store_clients(self) -> None:
        """As from a backup of theirs, where they stand in the ledger's database."""
        store = await self._store()
        try:
            for client in self.clients:
                if await store.get(client.client_id) is None:
                    await store.put(replace(client), actor="test")
        finally:
            await store.close()

    async def _store(self) -> ClientStore:
        environment = self.scene.environment
        return await open_store(
            kind=environment["CLIENT_STORE"],
            project=environment.get("GOOGLE_CLOUD_PROJECT", ""),
            dsn=environment["DATABASE_URL"],
        )

    async def start(self) -> None:
        """A streamer and a processor."""
        for name in ("streamer", "processor"):
            log = self.scene.folder / f"{name}-{len(self._processes)}.log"
            log.parent.mkdir(parents=True, exist_ok=True)
            service = Service(name, self.environment(name), 0, log)
            self._processes.append(await service.start())

    async def kill(self) -> None:
        """All of them, anywhere."""
        for process in self._processes:
            if process.exit_status is None:
                await process.kill()
        self._processes.clear()
        # The broker would wait ten seconds for the dead member.
        self.scene.environment["KAFKA_GROUP"] = f"{self.scene.topic}-{uuid.uuid4().hex[:6]}"
        await self._gone()

    async def stop(self) -> None:
        """All of them, drained."""
        for process in self._processes:
            process.signal(signal.SIGTERM)
            assert await process.wait() == 0
        self._processes.clear()

    async def _gone(self) -> None:
        async def gone() -> bool:
            row = await self.scene.fetch(
                "SELECT count(*) FROM pg_stat_activity WHERE datname = %s AND application_name LIKE 'pipeline%%'",
                self.scene.database,
            )
            active = await self.scene.fetch(
                "SELECT count(*) FROM pg_replication_slots WHERE slot_name = %s AND active", self.scene.slot
            )
            return row == (0,) == active

        await eventually(gone, seconds=60, what="the server has noticed that they are gone")

    async def insert(self, rows: int) -> None:
        """Rows of one transaction."""
        names = [*(client.client_id for client in self.clients), "nobody"]
        async with self.scene.connect() as connection:
            cursor = await connection.execute(INSERT, (names, rows))
            self.inserted |= {row[0] for row in await cursor.fetchall()}

    @asynccontextmanager
    async def flowing(self) -> AsyncIterator[None]:
        """Small transactions all the time."""
        stop = asyncio.Event()

        async def flow() -> None:
            while not stop.is_set():
                await self.insert(7)
                await asyncio.sleep(0.02)

        task = asyncio.create_task(flow())
        try:
            yield
        finally:
            stop.set()
            await task

    async def until_processed(self, events: int) -> None:
        """So many have been processed."""

        async def reached() -> bool:
            row = await self.scene.fetch(
                "SELECT coalesce(sum(events) FILTER (WHERE disposition <> 'repeat'), 0)::bigint"
                " FROM pipeline.chunk_counts"
            )
            return int(row[0]) >= events

        await eventually(reached, seconds=90, what=f"{events} processed")

    async def deliver(self, number: int, *, failpoint: str = "") -> int:
        """One run to a client; the exit status of the syncer."""
        self._runs += 1
        process = await Process.start(
            Command(
                argv=(sys.executable, "-m", "syncer", "run", "--client", self.clients[number].client_id),
                log=self.scene.folder / f"syncer-{self._runs}.log",
                folder=self.scene.folder,
                environment={**self.environment("syncer"), "PYTHONPATH": str(ROOT), "FAILPOINT": failpoint},
            )
        )
        async with asyncio.timeout(60):
            return await process.wait()

    def settings(self, of: type[S], role: str) -> S:
        """A command's, from the scene's environment."""
        return of(**{name.lower(): value for name, value in self.environment(role).items()})

    async def replay(self, number: int, **changes: Any) -> dict[str, Any]:
        """Change a client, then replay all of its hours under the settings of now; the summary."""
        store = await self._store()
        try:
            client = await store.get(self.clients[number].client_id)
            assert isinstance(client, Client)
            await store.put(replace(client, **changes), actor="test")
        finally:
            await store.close()
        self.clients[number] = replace(self.clients[number], **changes)
        (first,) = await self.scene.fetch("SELECT min(hour) FROM pipeline.chunk_counts")
        last = datetime.now(UTC).replace(minute=0, second=0, microsecond=0)
        said: list[dict[str, Any]] = []
        order = Order(client_id=client.client_id, first_hour=first, last_hour=last)
        await replay_now(self.settings(ProcessorSettings, "processor"), order, said.append)
        return said[0]

    async def rebuild(self, *, dry_run: bool = False) -> Report:
        """By the command's own way."""
        return await rebuild(self.settings(RebuildSettings, "rebuild"), dry_run=dry_run)

    async def command(self, *arguments: str) -> tuple[int, str]:
        """`python -m database ...`: its exit status and output."""
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "database", *arguments),
            cwd=ROOT,
            env={**self.environment("rebuild"), "PYTHONPATH": str(ROOT), "PATH": "/usr/bin"},
            stdout=asyncio.subprocess.PIPE,
        )
        output, _ = await process.communicate()
        assert process.returncode is not None
        return process.returncode, output.decode()

    async def finish(self) -> None:
        """Everything through, and everything delivered."""
        await self.until_processed(len(self.inserted))
        assert await asyncio.gather(*(self.deliver(number) for number in range(len(self.clients)))) == [0, 0]

    async def check(self) -> None:
        """Each row exactly once at its client or in quarantine; the ledger balances."""
        found: Counter[str] = Counter()
        async with self.scene.stack.aws.client("s3") as s3:

            async def read(bucket: str, prefix: str) -> list[tuple[str, bytes]]:
                pages = s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)
                keys = [item["Key"] async for page in pages for item in page.get("Contents", ())]
                return [(key, await (await s3.get_object(Bucket=bucket, Key=key))["Body"].read()) for key in keys]

            for client in self.clients:
                listed: Counter[str] = Counter()
                files = await read(client.client_s3_bucket, "events/")
                for _, body in files:
                    found.update(json.loads(line)["event_id"] for line in gzip.decompress(body).splitlines())
                for key, body in await read(client.client_s3_bucket, "manifests/"):
                    if not key.endswith("latest.json"):
                        listed.update(file["key"] for file in json.loads(body)["files"])
                assert listed == Counter(key for key, _ in files), "each file stands in one manifest"
        async with self.scene.connect() as connection:
            cursor = await connection.execute(
                "SELECT bucket, key FROM pipeline.processed_objects WHERE kind = 'quarantine' AND superseded_by IS NULL"
            )
            quarantined = await cursor.fetchall()
        async with self.scene.stack.aws.client("s3") as s3:
            for bucket, key in quarantined:
                body = await (await s3.get_object(Bucket=bucket, Key=key))["Body"].read()
                found.update(json.loads(line)["event_id"] for line in gzip.decompress(body).splitlines())
        lost, strange = len(self.inserted - found.keys()), len(found.keys() - self.inserted)
        doubled = sum(1 for times in found.values() if times > 1)
        assert (lost, doubled, strange) == (0, 0, 0), f"{lost=} {doubled=} {strange=} of {len(self.inserted)}"
        status, output = await self.command("reconcile", "--deep")
        assert status == 0, output


@pytest.fixture
async def traffic(stack: Stack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Traffic]:
    if host := stack.environment.get("FIRESTORE_EMULATOR_HOST"):
        monkeypatch.setenv("FIRESTORE_EMULATOR_HOST", host)
    async with AsyncExitStack() as exits:
        scene = await exits.enter_async_context(open_scene(stack, tmp_path))
        made = Traffic(scene)
        await made.prepare()
        exits.push_async_callback(made.kill)
        yield made


async def half_delivered(traffic: Traffic) -> None:
    """One client served, the other's first file in its bucket and not in the ledger."""
    await traffic.until_processed(100)
    done, killed = await asyncio.gather(traffic.deliver(0), traffic.deliver(1, failpoint="syncer.after_put"))
    assert done == 0 != killed


async def test_a_ledger_thrown_away_in_the_middle_of_traffic_is_rebuilt_and_nothing_arrives_twice(
    traffic: Traffic,
) -> None:
    """GIVEN a run that is delivered, one that broke off, and a replay of delivered hours, WHEN the ledger is lost, THEN
    rebuilt it has all of it: what was replayed is delivered once more under its keys, each row has arrived once."""
    await traffic.start()
    async with traffic.flowing():
        await half_delivered(traffic)
        assert (await traffic.replay(0, privacy_level=PrivacyLevel.GDPR))["cells"]["changed"] > 0
        await traffic.insert(500)
        await traffic.kill()
        async with traffic.scene.connect() as connection:
            await connection.execute("DROP SCHEMA pipeline CASCADE")
        status, output = await traffic.command("rebuild-ledger", "--json")
        report = json.loads(output)
        assert (status, report["doubts"]) == (0, [])
        assert report["restored"]["deliveries"] == 2
        assert report["restored"]["revisions"] > 0
        await traffic.store_clients()
        await traffic.start()
    await traffic.finish()
    await traffic.check()


async def test_nothing_is_rebuilt_while_a_service_has_the_ledger_open_and_none_starts_meanwhile(
    traffic: Traffic,
) -> None:
    async with open_pool(traffic.scene.environment["DATABASE_URL"]):
        with pytest.raises(ConfigError, match="services are running"):
            await traffic.rebuild()
    await traffic._gone()
    async with traffic.scene.connect() as connection:
        await connection.execute("SELECT pg_advisory_lock(%s)", (0x7265_6275_696C_64,))
        assert await traffic.deliver(0) == 2
        assert "rebuild-ledger is at work" in (traffic.scene.folder / "syncer-1.log").read_text()


TABLES = (
    "epochs", "stream_state", "topic_layouts", "raw_objects", "raw_counts", "consumer_positions", "chunks",
    "chunk_counts", "processed_objects", "sync_runs", "delivery_files", "delivery_members",
)  # fmt: skip


async def save(traffic: Traffic, backup: str = "backup") -> str:
    """A copy of the ledger's tables in one snapshot, as a dump would have it; the schema's name."""
    async with traffic.scene.connect() as connection, connection.transaction():
        await connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        await connection.execute(sql.SQL("CREATE SCHEMA {}").format(sql.Identifier(backup)))
        for table in TABLES:
            await connection.execute(
                sql.SQL("CREATE TABLE {} AS TABLE {}").format(
                    sql.Identifier(backup, table), sql.Identifier("pipeline", table)
                )
            )
    return backup


async def restore(traffic: Traffic, backup: str) -> None:
    """What was saved, and nothing of what came after."""
    names = [sql.Identifier("pipeline", table) for table in TABLES]
    async with traffic.scene.connect() as connection, connection.transaction():
        await connection.execute(sql.SQL("TRUNCATE {} RESTART IDENTITY CASCADE").format(sql.SQL(", ").join(names)))
        for table, name in zip(TABLES, names, strict=True):
            await connection.execute(
                sql.SQL("INSERT INTO {} OVERRIDING SYSTEM VALUE TABLE {}").format(name, sql.Identifier(backup, table))
            )
        for table in ("epochs", "raw_objects", "processed_objects", "sync_runs", "delivery_files"):
            column = "epoch" if table == "epochs" else "id"
            await connection.execute(
                sql.SQL("SELECT setval(pg_get_serial_sequence({}, {}), max({})) FROM {}").format(
                    sql.Literal(f"pipeline.{table}"), sql.Literal(column), sql.Identifier(column),
                    sql.Identifier("pipeline", table),
                )
            )  # fmt: skip


async def counts(traffic: Traffic) -> dict[str, Any]:
    """Rows of every table."""
    found = {}
    async with await psycopg.AsyncConnection.connect(traffic.scene.environment["DATABASE_URL"]) as connection:
        for table in TABLES:
            cursor = await connection.execute(
                sql.SQL("SELECT count(*) FROM {}").format(sql.Identifier("pipeline", table))
            )
            found[table] = (await cursor.fetchone() or (0,))[0]
    return found
