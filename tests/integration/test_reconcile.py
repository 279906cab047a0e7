"""Reconciliation: a pipeline that is in order balances; each seeded fault is found, and named."""

from __future__ import annotations

import hashlib
import json
import uuid
from collections import Counter, defaultdict
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest

from database.balance import KINDS, Imbalance, Window
from database.ledger import open_pool
from database.reconcile import reconcile
from database.settings import DeepReconcileSettings
from database.status import pipeline_status
from local.stack import Stack
from pipeline import rawfile
from pipeline.gzip import member
from pipeline.keys import hour_of, processed_key, source_client_id
from tests.integration.cleaner_scene import SLOT, Scene, open_scene

TOPIC = "events.raw"
PARTITIONS = 2


class Ledger:
    """A whole pipeline's worth of ledger and objects over a cleaner's scene, as the services would have left it."""

    def __init__(self, scene: Scene) -> None:
        self.scene = scene
        self.role = scene.access
        """How retention reaches the bucket, under its own policy where that is tested."""
        self.raw: list[Any] = []
        self.chunks: list[str] = []
        self.keys: list[str] = []
        self._offsets = [0] * PARTITIONS

    async def build(self) -> None:
        """60 events in three raw objects, processed and delivered."""
        await self.scene.insert(54)
        self.raw = await self.scene.export(per_object=20)
        async with await psycopg.AsyncConnection.connect(self.scene.dsn) as connection:
            for stored in self.raw:
                await self._process(connection, stored)
            await connection.execute("UPDATE pipeline.stream_state SET last_position = %s, caught_up_at = now()",
                                     (await self._tail(connection),))  # fmt: skip
            for client in ("client-0", "client-1", "client-2"):
                await self._deliver(connection, client)
            await connection.commit()

    async def _tail(self, connection: psycopg.AsyncConnection) -> Any:
        row = await (await connection.execute("SELECT max(last_position::text) FROM pipeline.raw_objects")).fetchone()
        return row and row[0]

    async def _process(self, connection: psycopg.AsyncConnection, stored: Any) -> None:
        parts: dict[int, list[tuple[Any, int, bytes, str | None]]] = defaultdict(list)
        for position, commit_time, line in rawfile.decode(stored.body):
            client = json.loads(line, parse_float=str)["client_id"]
            parts[0 if client == "client-0" else 1].append((position, commit_time, line, client))
        for partition, events in sorted(parts.items()):
            first, end = self._offsets[partition], self._offsets[partition] + len(events)
            self._offsets[partition] = end
            chunk = str(uuid.uuid4())
            self.chunks.append(chunk)
            await connection.execute(
                "INSERT INTO pipeline.chunks (id, topic, partition, generation, first_offset, next_offset,"
                " first_position, last_position) VALUES (%s, %s, %s, 1, %s, %s, %s, %s)",
                (chunk, TOPIC, partition, first, end, str(events[0][0]), str(events[-1][0])),
            )
            await connection.execute(
                "INSERT INTO pipeline.consumer_positions (topic, partition, next_offset, last_sequence, last_position)"
                " VALUES (%s, %s, %s, %s, %s) ON CONFLICT (topic, partition) DO UPDATE SET"
                " next_offset = excluded.next_offset, last_sequence = excluded.last_sequence",
                (TOPIC, partition, end, end - 1, str(events[-1][0])),
            )
            by_client: dict[str | None, list[bytes]] = defaultdict(list)
            for _, _, line, client in events:
                by_client[client].append(line)
            hour = hour_of(events[0][1])
            for client, lines in by_client.items():
                kind, name = ("client", client) if client else ("quarantine", "")
                key = processed_key(kind, name or "", hour, TOPIC, partition, first, chunk)
                body = member(b"\n".join(lines) + b"\n")
                await self.scene.bucket.put_new(key, body, sha256=hashlib.sha256(body).digest(), metadata={})
                self.keys.append(key)
                await connection.execute(
                    "INSERT INTO pipeline.chunk_counts VALUES (%s, %s, %s, %s, %s, %s)",
                    (chunk, hour, source_client_id(client), name or "", "out" if client else "quarantine", len(lines)),
                )
                await connection.execute(
                    "INSERT INTO pipeline.processed_objects (chunk_id, kind, client_id, hour, bucket, key, events,"
                    " bytes, sha256, privacy_level, policy_version, min_commit_time, max_commit_time)"
                    " VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, 'standard', 'v', now(), now())",
                    (chunk, kind, name or "", hour, self.scene.bucket.bucket, key, len(lines), len(body),
                     hashlib.sha256(body).hexdigest()),
                )  # fmt: skip
        offsets = json.dumps({str(p): n for p, n in enumerate(self._offsets)})
        sequences = json.dumps({str(p): n - 1 for p, n in enumerate(self._offsets)})
        await connection.execute(
            "UPDATE pipeline.raw_objects SET kafka_end_offsets = %s, kafka_end_sequences = %s WHERE id = %s",
            (offsets, sequences, stored.id),
        )

    async def _deliver(self, connection: psycopg.AsyncConnection, client: str) -> None:
        cursor = await connection.execute(
            "SELECT id, events, hour, key FROM pipeline.processed_objects WHERE client_id = %s ORDER BY id", (client,)
        )
        objects = await cursor.fetchall()
        events = sum(row[1] for row in objects)
        whole = hashlib.sha256(b"".join([await self.scene.bucket.get(row[3]) for row in objects])).hexdigest()
        file = {"key": f"events/{client}.gz", "events": events, "sha256": whole}
        manifest = json.dumps({"files": [file]})
        digest = hashlib.sha256(manifest.encode())
        key = f"manifests/{client}/20261123T0500-hourly.json"
        await self.scene.bucket.put_new(key, manifest.encode(), sha256=digest.digest(), metadata={})
        cursor = await connection.execute(
            "INSERT INTO pipeline.sync_runs (client_id, run_key, frequency, status, bucket, prefix, manifest,"
            " manifest_sha256, finished_at) VALUES (%s, '20261123T0500-hourly', 'hourly', 'finished', 'b', '', %s, %s,"
            " now()) RETURNING id",
            (client, manifest, digest.hexdigest()),
        )
        run = await cursor.fetchone()
        assert run is not None
        cursor = await connection.execute(
            "INSERT INTO pipeline.delivery_files (run_id, bucket, key, hour, state, events, bytes, sha256,"
            " policy_version) VALUES (%s, 'b', %s, %s, 'delivered', %s, 1, %s, 'v') RETURNING id",
            (run[0], file["key"], objects[0][2], events, whole),
        )
        found = await cursor.fetchone()
        assert found is not None
        for ordinal, row in enumerate(objects):
            await connection.execute(
                "INSERT INTO pipeline.delivery_members VALUES (%s, %s, %s)", (found[0], ordinal, row[0])
            )

    async def imbalances(self, window: Window | None = None) -> list[Imbalance]:
        """By the command's own way, deep."""
        environment = self.scene.environment
        settings = DeepReconcileSettings(
            database_url=environment["DATABASE_URL"],
            replication_slot=SLOT,
            kafka_raw_topic=TOPIC,
            raw_s3_bucket=self.scene.access.bucket,
            raw_s3_endpoint_url=self.scene.access.endpoint_url,
            raw_s3_access_key=self.scene.access.access_key,
            raw_s3_secret_key=self.scene.access.secret_key,
            processed_s3_bucket=self.scene.access.bucket,
            processed_s3_endpoint_url=self.scene.access.endpoint_url,
            processed_s3_access_key=self.scene.access.access_key,
            processed_s3_secret_key=self.scene.access.secret_key,
        )
        return await reconcile(settings, window or Window())


@pytest.fixture
async def ledger(stack: Stack) -> AsyncIterator[Ledger]:
    async with open_scene(stack) as scene:
        made = Ledger(scene)
        await made.build()
        yield made


async def test_a_pipeline_in_order_balances_and_its_status_has_every_stage(ledger: Ledger) -> None:
    assert await ledger.imbalances() == []
    async with open_pool(ledger.scene.dsn) as pool, pool.connection() as connection:
        status = await pipeline_status(connection, slot=SLOT, topic=TOPIC, window=Window())
    assert status["export"]["events"] == status["processing"]["events"] == 60
    assert status["delivery"]["events"] + status["processing"]["quarantine"] == 60
    assert (status["delivery"]["pending_events"], status["processing"]["lag_seconds"]) == (0, 0)
    assert status["cleanup"]["unverified"] == 3
    assert status["balance"] == {"balances": True, "kinds": {}, "imbalances": []}
    assert all(status[stage]["lag_seconds"] is not None for stage in ("export", "processing", "delivery", "cleanup"))


async def test_what_is_on_its_way_is_no_imbalance(ledger: Ledger) -> None:
    """GIVEN a fourth raw object that no processor has read, THEN the ledger balances."""
    await ledger.scene.insert(10)
    [stored] = await ledger.scene.export()
    await ledger.scene.execute(
        "UPDATE pipeline.raw_objects SET kafka_end_offsets = '{\"0\": 1000, \"1\": 1000}',"
        " kafka_end_sequences = '{\"0\": 999, \"1\": 999}' WHERE id = %s", stored.id
    )  # fmt: skip
    await ledger.scene.execute("UPDATE pipeline.stream_state SET last_position = (SELECT max(last_position::text)"
                               " FROM pipeline.raw_objects)")  # fmt: skip
    assert await ledger.imbalances() == []


LEDGER_FAULTS = {
    "a raw object's row is lost": (
        "DELETE FROM pipeline.raw_counts WHERE raw_object_id = %(raw1)s;"
        "DELETE FROM pipeline.raw_objects WHERE id = %(raw1)s",
        "raw_chain", "raw2_key",
    ),
    "two raw objects hold the same positions": (
        "UPDATE pipeline.raw_objects SET last_position = (SELECT overlay(first_position::text placing '5' from 45)"
        " FROM pipeline.raw_objects WHERE id = %(raw1)s) WHERE id = %(raw0)s",
        "raw_double", "raw1_key",
    ),
    "an object names another predecessor": (
        "UPDATE pipeline.raw_objects SET previous_position = overlay(previous_position::text placing '0' from 45)"
        " WHERE id = %(raw2)s",
        "raw_overlap", "raw2_key",
    ),
    "the stream's tail lies before the last object": (
        "UPDATE pipeline.stream_state SET last_position = (SELECT last_position FROM pipeline.raw_objects"
        " WHERE id = %(raw1)s)",
        "raw_tail", "slot",
    ),
    "an object's count is changed": (
        "UPDATE pipeline.raw_objects SET events = events + 1 WHERE id = %(raw1)s",
        "raw_count", "raw1_key",
    ),
    "an hour's count is changed": (
        "UPDATE pipeline.raw_counts SET events = events + 1 WHERE raw_object_id = %(raw1)s"
        " AND source_client_id = 'client-1'",
        "hour_count", "client-1",
    ),
    "raw objects hold more than was ever sent": (
        "UPDATE pipeline.raw_counts SET events = events + 5 WHERE raw_object_id = %(raw1)s AND"
        " source_client_id = 'client-1'; UPDATE pipeline.raw_objects SET events = events + 5 WHERE id = %(raw1)s",
        "raw_unsent", "raw objects",
    ),
    "a chunk is missing": (
        "DELETE FROM pipeline.delivery_members WHERE processed_object_id IN"
        " (SELECT id FROM pipeline.processed_objects WHERE chunk_id = %(chunk2)s);"
        "DELETE FROM pipeline.processed_objects WHERE chunk_id = %(chunk2)s;"
        "DELETE FROM pipeline.chunk_counts WHERE chunk_id = %(chunk2)s;"
        "DELETE FROM pipeline.chunks WHERE id = %(chunk2)s",
        "chunk_gap", "chunk4",
    ),
    "the last chunk is missing": (
        "DELETE FROM pipeline.delivery_members WHERE processed_object_id IN"
        " (SELECT id FROM pipeline.processed_objects WHERE chunk_id = %(chunk4)s);"
        "DELETE FROM pipeline.processed_objects WHERE chunk_id = %(chunk4)s;"
        "DELETE FROM pipeline.chunk_counts WHERE chunk_id = %(chunk4)s;"
        "DELETE FROM pipeline.chunks WHERE id = %(chunk4)s",
        "chunk_end", "events.raw-0",
    ),
    "a chunk begins before the one before has ended": (
        "UPDATE pipeline.chunks SET first_offset = first_offset - 1, first_position ="
        " (SELECT first_position FROM pipeline.chunks WHERE id = %(chunk0)s) WHERE id = %(chunk2)s",
        "chunk_overlap", "chunk2",
    ),
    "a row was skipped: a chunk counts less than its sequences": (
        "UPDATE pipeline.chunk_counts SET events = events - 1 WHERE chunk_id = %(chunk2)s",
        "partition_count", "events.raw-0",
    ),
    "a disposition is changed": (
        "UPDATE pipeline.chunk_counts SET disposition = 'dropped_consent' WHERE chunk_id = %(chunk2)s",
        "chunk_object", "key_chunk2",
    ),
    "a processed object's row is lost": (
        "DELETE FROM pipeline.delivery_members WHERE processed_object_id IN"
        " (SELECT id FROM pipeline.processed_objects WHERE chunk_id = %(chunk2)s);"
        "DELETE FROM pipeline.processed_objects WHERE chunk_id = %(chunk2)s",
        "chunk_object", "chunk2",
    ),
    "a delivered file's count is changed": (
        "UPDATE pipeline.delivery_files SET events = events - 1 WHERE key = 'events/client-1.gz'",
        "delivery_count", "events/client-1.gz",
    ),
    "a finished run left a file undelivered": (
        "UPDATE pipeline.delivery_files SET state = 'planned' WHERE key = 'events/client-1.gz'",
        "delivery_unfinished", "events/client-1.gz",
    ),
    "a manifest names a file with another digest": (
        "UPDATE pipeline.delivery_files SET sha256 = 'cd' WHERE key = 'events/client-2.gz'",
        "manifest_count", "events/client-2.gz",
    ),
    "the cleaner refuses an object": (
        "UPDATE pipeline.raw_objects SET cleanup_problem = 'missing' WHERE id = %(raw1)s",
        "cleanup_refused", "raw1_key",
    ),
    "rows were deleted on no evidence": (
        "UPDATE pipeline.raw_objects SET deleted_at = now() WHERE id = %(raw1)s",
        "deleted_unverified", "raw1_key",
    ),
    "a row is in no raw object": (
        "UPDATE events_log SET raw_exported_at = now(); UPDATE pipeline.raw_objects SET stamped_at = now();"
        "UPDATE pipeline.stream_state SET caught_up_at = now();"
        "INSERT INTO events_log (event_type, created_at) VALUES ('pageview', now() - interval '1 hour')",
        "row_not_exported", "events_log id",
    ),
}  # fmt: skip


@pytest.mark.parametrize("fault", LEDGER_FAULTS)
async def test_a_seeded_fault_of_the_ledger_is_found_and_named(ledger: Ledger, fault: str) -> None:
    statements, kind, named = LEDGER_FAULTS[fault]
    names = {f"raw{n}": item.id for n, item in enumerate(ledger.raw)}
    names |= {f"chunk{n}": f"'{chunk}'" for n, chunk in enumerate(ledger.chunks)}
    for statement in (statements % names).split(";"):
        await ledger.scene.execute(statement)
    found = await ledger.imbalances()
    texts = {f"raw{n}_key": item.key for n, item in enumerate(ledger.raw)}
    texts |= {f"chunk{n}": chunk for n, chunk in enumerate(ledger.chunks)}
    texts |= {"key_chunk2": next(key for key in ledger.keys if ledger.chunks[2] in key)}
    subjects = [item.subject for item in found if item.kind == kind]
    assert subjects, found
    assert any(texts.get(named, named) in subject for subject in subjects), subjects
    assert {item.kind for item in found} <= set(KINDS)


@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        ("raw lost", "raw_missing"),
        ("raw changed", "raw_changed"),
        ("processed lost", "processed_missing"),
        ("processed changed", "processed_changed"),
        ("event twice in raw", "raw_double"),
        ("event swapped for another's", "event_missing"),
        ("event delivered to two", "processed_double"),
        ("event of nobody", "processed_unknown"),
        ("delivery of other bytes", "delivery_changed"),
        ("manifest lost", "manifest_missing"),
        ("manifest changed", "manifest_changed"),
    ],
)
async def test_a_seeded_fault_of_the_objects_is_found_and_named(ledger: Ledger, fault: str, kind: str) -> None:
    scene, raw = ledger.scene, ledger.raw[1]
    key = next(key for key in ledger.keys if ledger.chunks[2] in key)
    other = next(key for key in ledger.keys if ledger.chunks[4] in key)
    manifest = "manifests/client-1/20261123T0500-hourly.json"
    named = {
        "raw": raw.key,
        "event": key,
        "processed": key,
        "delivery": "events/client-1.gz",
        "manifest": manifest,
    }[fault.split()[0]]
    match fault:
        case "raw lost":
            await scene.remove(raw.key)
        case "raw changed":
            await scene.overwrite(raw.key, raw.body + b"x")
        case "processed lost":
            await scene.remove(key)
        case "processed changed":
            await scene.overwrite(key, b"x")
        case "event twice in raw":
            await replace(ledger, "raw_objects", raw.key, ledger.raw[0].body)
            named = raw.key
        case "event swapped for another's" | "event delivered to two":
            await replace(ledger, "processed_objects", key, await scene.bucket.get(other))
            named = raw.key if kind == "event_missing" else other
        case "event of nobody":
            line = b'{"id":1,"event_id":"%b"}\n' % str(uuid.uuid4()).encode()
            await replace(ledger, "processed_objects", key, member(line))
        case "delivery of other bytes":
            await scene.execute("UPDATE pipeline.delivery_files SET sha256 = repeat('c', 64) WHERE key = %s", named)
        case "manifest lost":
            await scene.remove(manifest)
        case "manifest changed":
            await scene.overwrite(manifest, b"{}")
    found = await ledger.imbalances()
    assert any(item.kind == kind and named in f"{item.subject} {item.found}" for item in found), found


async def replace(ledger: Ledger, table: str, key: str, body: bytes) -> None:
    """Other content under `key`, and a ledger that agrees with it."""
    await ledger.scene.overwrite(key, body)
    await ledger.scene.execute(
        f"UPDATE pipeline.{table} SET sha256 = %s WHERE key = %s", hashlib.sha256(body).hexdigest(), key
    )


async def test_a_window_leaves_other_hours_and_clients_alone(ledger: Ledger) -> None:
    await ledger.scene.execute(
        "UPDATE pipeline.delivery_files SET events = events - 1 WHERE key = 'events/client-1.gz'"
    )
    now = datetime.now(UTC)
    assert "delivery_count" in Counter(item.kind for item in await ledger.imbalances(Window(client_id="client-1")))
    assert "delivery_count" not in Counter(item.kind for item in await ledger.imbalances(Window(client_id="client-2")))
    later = Window(since=now + timedelta(hours=2))
    assert "delivery_count" not in Counter(item.kind for item in await ledger.imbalances(later))
