"""Held events and hipaa objects on a real ledger and a real bucket: released once, audited, never unfiltered."""

from __future__ import annotations

import asyncio
import base64
import gzip
import time
import uuid
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import orjson
import pytest
from cryptography.fernet import Fernet

from database.ledger import Pool, audit, chunks, open_pool
from database.ledger.chunks import ConsumerPosition
from local.stack import Stack
from pipeline.clients import Client, ClientId, ConsentMode, PrivacyLevel, PseudonymKey
from pipeline.directory import ClientDirectory
from pipeline.errors import PermanentError, TransientError
from pipeline.keys import hour_of, source_client_id
from pipeline.position import Position
from pipeline.record import text_column
from pipeline.s3 import ObjectStore, open_bucket
from pipeline.secrets import SecretBox
from pipeline.stores.memory import MemoryClientStore
from processor import release
from processor.chunk import Chunk
from processor.outcome import decide
from processor.policies import FIRST_REST_SECONDS, PolicyCache
from processor.release import Releaser
from processor.writer import UnusableKeyError, Writer
from tests.integration.cleaner_scene import open_scene

TOPIC = "events.raw"
BOX_KEY = Fernet.generate_key().decode()
BOX = SecretBox([BOX_KEY])
KEY = PseudonymKey(version=1, secret=BOX.encrypt(base64.b64encode(b"k" * 32).decode()))
HOUR = hour_of(time.time_ns() // 1000)
NOW = int(HOUR.timestamp()) * 1_000_000 + 60_000_000


class Held:
    """A ledger and a bucket of its own; one member of the group without Kafka: chunks are made from lists of events."""

    def __init__(self, pool: Pool, bucket: ObjectStore) -> None:
        self.pool, self.bucket = pool, bucket
        self.store = MemoryClientStore()
        self.directory = ClientDirectory(self.store)
        self.now = 0.0
        self.policies = PolicyCache(self.directory, BOX, lambda: self.now)
        self.topic = f"t{uuid.uuid4().hex[:8]}"
        self.writer = Writer(bucket, pool, self.topic, clock=lambda: self.now, turned=lambda: None)
        self.releaser = self.another()
        self.taken: list[str] = []
        self._stand: ConsumerPosition | None = None

    def another(self) -> Releaser:
        return Releaser(policies=self.policies, pool=self.pool, bucket=self.bucket, fresh=lambda: True)

    async def client(self, name: str, **fields: Any) -> None:
        fields = {"privacy_level": PrivacyLevel.HIPAA, "pseudonym_keys": (KEY,), **fields}
        await self.store.put(Client(client_id=ClientId(name), **fields), actor="t")
        await self.directory.refresh()

    async def unreadable(self, name: str) -> None:
        self.store.write_raw(name, {"privacy_level": "?"})
        await self.directory.refresh()

    def open(self, *clients: str) -> Chunk:
        assert self._stand is not None
        chunk = Chunk(uuid.uuid4(), self._stand, 0.0)
        for name in clients:
            sequence = chunk.after.last_sequence + 1
            event = str(uuid.uuid4())
            self.taken.append(event)
            line = orjson.dumps(
                {
                    "event_id": event,
                    "client_id": name,
                    "session_id": "s-secret",
                    "raw_event_data": {
                        "email": f"{event}@example.com",
                        "consent": {"analytics": len(self.taken) % 2 > 0},
                    },
                }
            )
            position = Position(1, 1000 + sequence, 0)
            outcome = decide(line, text_column(line, "client_id"), position, NOW, self.policies)
            chunk.add(outcome, source_client_id(name), position, sequence, NOW + sequence)
            chunk.passed(sequence)
        return chunk

    async def write(self, *clients: str) -> None:
        async with self.pool.connection() as connection:
            self._stand = await chunks.consumer_position(connection, self.topic, 0, 0)
        await self.writer.write(self.open(*clients), 0, 1)

    async def rows(self, query: str, *values: Any) -> list[Any]:
        async with self.pool.connection() as connection:
            return await (await connection.execute(query.encode(), values)).fetchall()

    async def counts(self) -> dict[tuple[str, str], int]:
        rows = await self.rows(
            "SELECT n.client_id, n.disposition, sum(n.events)::int FROM pipeline.chunk_counts n"
            " JOIN pipeline.chunks k ON k.id = n.chunk_id WHERE k.topic = %s GROUP BY 1, 2", self.topic
        )  # fmt: skip
        return {(client, disposition): events for client, disposition, events in rows}

    async def check(self) -> dict[str, set[str]]:
        """No event twice in objects of now, nothing unfiltered in a client's; the event ids by kind."""
        found: dict[str, Counter[str]] = {}
        counted: Counter[str] = Counter()
        for kind, key, events in await self.rows(
            "SELECT o.kind, o.key, o.events FROM pipeline.processed_objects o"
            " JOIN pipeline.chunks k ON k.id = o.chunk_id WHERE k.topic = %s AND o.superseded_by IS NULL", self.topic
        ):  # fmt: skip
            lines = gzip.decompress(await self.bucket.get(key)).splitlines()
            assert len(lines) == events
            counted[{"client": "out"}.get(kind, kind)] += events
            if kind == "client":
                assert not any(b"@example.com" in line for line in lines)
            for line in lines:
                record = orjson.loads(line)
                found.setdefault(kind, Counter())[record["event_id"]] += 1
        everywhere = sum(found.values(), Counter())
        assert set(everywhere.values()) <= {1}, "doubled"
        assert everywhere.keys() <= set(self.taken)
        counts = await self.counts()
        for disposition in ("out", "held", "quarantine", "dead_letter"):
            assert counted[disposition] == sum(n for (_, d), n in counts.items() if d == disposition)
        assert sum(counts.values()) == len(self.taken), "counted as many as were taken"
        return {kind: set(events) for kind, events in found.items()}


@pytest.fixture(scope="module")
async def parts(stack: Stack) -> AsyncIterator[tuple[Pool, ObjectStore]]:
    async with open_scene(stack) as scene, open_pool(scene.dsn, max_size=8) as pool:
        access = replace(scene.access, kms_key=stack.environment["PROCESSED_S3_KMS_KEY"])
        async with open_bucket(access) as bucket:
            yield pool, bucket


@pytest.fixture
async def held(parts: tuple[Pool, ObjectStore]) -> Held:
    return Held(*parts)


async def test_held_events_leave_filtered_once_their_client_can_be_read(held: Held) -> None:
    await held.client("good")
    await held.unreadable("bad")
    await held.client("keyless", pseudonym_keys=())
    await held.write("good", *["bad"] * 5, "keyless", "good")
    await held.write("bad", "keyless")
    assert await held.counts() == {("good", "out"): 2, ("bad", "held"): 6, ("keyless", "held"): 2}
    assert await held.releaser.turn() == 0, "nothing has changed"
    await held.client("bad")
    assert await held.releaser.turn() == 2
    assert await held.counts() == {("good", "out"): 2, ("bad", "out"): 6, ("keyless", "held"): 2}
    await held.client("keyless", privacy_level=PrivacyLevel.GDPR, consent_mode=ConsentMode.DROP)
    assert await held.releaser.turn() == 2
    assert await held.releaser.turn() == 0
    counts = await held.counts()
    assert (counts[("keyless", "out")], counts[("keyless", "dropped_consent")]) == (1, 1)
    assert set(await held.check()) == {"client"}


async def test_held_events_of_a_client_that_has_become_inactive_go_to_quarantine(held: Held) -> None:
    await held.unreadable("left")
    await held.write("left", "left")
    await held.client("left", is_active=False)
    assert await held.releaser.turn() == 1
    assert await held.counts() == {("", "quarantine"): 2}
    assert set(await held.check()) == {"quarantine"}


@pytest.mark.parametrize("step", ["processor.release.after_put", "processor.release.after_ledger"])
async def test_a_release_that_breaks_off_is_done_once_all_the_same(
    held: Held, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    await held.unreadable("bad")
    await held.write("bad", "bad", "bad")
    await held.client("bad")

    def reach(name: str) -> None:
        if name == step:
            raise TransientError("killed here")

    with monkeypatch.context() as patched:
        patched.setattr(release.failpoints, "reach", reach)
        with pytest.raises(TransientError):
            await held.releaser.turn()
    await held.check()
    assert await held.releaser.turn() == (1 if step.endswith("after_put") else 0)
    assert await held.counts() == {("bad", "out"): 3}
    await held.check()


async def test_of_two_that_release_the_same_object_the_ledger_takes_one(held: Held) -> None:
    await held.unreadable("bad")
    await held.write("bad", "bad")
    async with held.pool.connection() as connection:
        (item,) = await release.held.objects_of(connection, "bad", 10)
    await held.client("bad")
    both = await asyncio.gather(held.releaser._release(item), held.another()._release(item), return_exceptions=True)
    assert sorted(type(answer).__name__ for answer in both) == ["FencedError", "NoneType"]
    assert await held.counts() == {("bad", "out"): 2}
    await held.check()


async def test_a_damaged_object_stays_and_the_others_go_on(held: Held) -> None:
    await held.unreadable("bad")
    await held.write("bad")
    await held.write("bad", "bad")
    rows = await held.rows("SELECT key FROM pipeline.processed_objects WHERE client_id = 'bad' AND kind = 'held'"
                           " AND superseded_by IS NULL ORDER BY id")  # fmt: skip
    whole = await held.bucket.get(rows[0][0])
    await held.bucket.put(rows[0][0], b"other", sha256=release.hashlib.sha256(b"other").digest(), metadata={})
    await held.client("bad")
    assert await held.releaser.turn() == 1
    assert await held.counts() == {("bad", "held"): 1, ("bad", "out"): 2}
    await held.bucket.put(rows[0][0], whole, sha256=release.hashlib.sha256(whole).digest(), metadata={})
    assert await held.releaser.turn() == 1
    await held.check()


async def test_a_hipaa_chunk_is_audited_with_its_digests_or_not_committed(held: Held) -> None:
    await held.client("clinic")
    await held.client("plain", privacy_level=PrivacyLevel.STANDARD)
    await held.write("plain", "plain")
    async with held.pool.connection() as connection:
        before = (await audit.verify(connection)).head.entries
    await held.write("clinic", "plain", "clinic")
    async with held.pool.connection() as connection:
        verdict = await audit.verify(connection)
        (entry,) = await audit.page(connection, limit=1)
    assert (verdict.broken, verdict.head.entries) == (None, before + 1)
    ((key, sha256),) = await held.rows(
        "SELECT o.key, o.sha256 FROM pipeline.processed_objects o JOIN pipeline.chunks k ON k.id = o.chunk_id"
        " WHERE o.client_id = 'clinic' AND k.topic = %s", held.topic
    )  # fmt: skip
    assert (entry.action, entry.client_id) == ("objects.stored", "clinic")
    assert entry.says() == {"objects": [{"client_id": "clinic", "object": key, "sha256": sha256, "events": 2}]}
    _, metadata = await held.bucket.fetch(key)
    assert metadata["encryption"] == "aws:kms"
    for line in gzip.decompress(await held.bucket.get(key)).splitlines():
        assert orjson.loads(line)["privacy"]["encryption"] == "aws:kms"


class Refusing:
    """A bucket whose PUTs with one KMS key fail."""

    def __init__(self, bucket: ObjectStore, kms_key: str) -> None:
        self._bucket, self._kms_key = bucket, kms_key
        self.refused = True

    def __getattr__(self, name: str) -> Any:
        return getattr(self._bucket, name)

    async def put_new(self, key: str, body: bytes, *, kms_key: str | None = None, **rest: Any) -> None:
        if self.refused and kms_key == self._kms_key:
            raise PermanentError("KMS.DisabledException")
        # The emulator has no key of that name; the real put_new is tested elsewhere.
        await self._bucket.put_new(key, body, **rest)


async def test_a_client_whose_key_refuses_is_held_and_released_by_itself(
    parts: tuple[Pool, ObjectStore], monkeypatch: pytest.MonkeyPatch
) -> None:
    bucket = Refusing(parts[1], "arn:theirs")
    held = Held(parts[0], bucket)  # type: ignore[arg-type]
    await held.client("clinic", client_s3_kms_key="arn:theirs")
    await held.client("other")
    with pytest.raises(UnusableKeyError) as caught:
        await held.write("clinic", "other")
    held.taken.clear()  # the chunk is void: its events come again
    held.policies.refuse(caught.value.client_id)
    await held.write("clinic", "other")
    assert await held.counts() == {("clinic", "held"): 1, ("other", "out"): 1}
    assert await held.releaser.turn() == 0, "its rest isn't over"
    held.now += FIRST_REST_SECONDS
    assert await held.releaser.turn() == 0, "the key still refuses"
    assert await held.counts() == {("clinic", "held"): 1, ("other", "out"): 1}
    bucket.refused = False
    held.now += 2 * FIRST_REST_SECONDS
    assert await held.releaser.turn() == 1
    assert await held.counts() == {("clinic", "out"): 1, ("other", "out"): 1}
    await held.check()


async def test_nothing_is_released_on_settings_that_may_be_old(held: Held) -> None:
    await held.unreadable("bad")
    await held.write("bad")
    await held.client("bad")
    stale = Releaser(policies=held.policies, pool=held.pool, bucket=held.bucket, fresh=lambda: False)
    assert await stale.turn() == 0
    assert await held.releaser.turn() == 1
