"""Writing a chunk: what fails for the moment is tried again, a client's key fails for that client alone."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

import orjson
import pytest

from database.ledger.chunks import ChunkCommit, ConsumerPosition
from pipeline.clients import Client, ClientId, PrivacyLevel
from pipeline.directory import ClientDirectory
from pipeline.errors import FencedError, PermanentError, TransientError
from pipeline.position import Position
from pipeline.privacy import compile_policy
from pipeline.secrets import SecretBox
from pipeline.stores.memory import MemoryClientStore
from processor import writer as module
from processor.chunk import Chunk
from processor.outcome import filtered
from processor.policies import FIRST_REST_SECONDS, PolicyCache
from processor.writer import OUTAGE_SECONDS, UnusableKeyError, Writer

NOW = int(datetime(2026, 1, 1, tzinfo=UTC).timestamp()) * 1_000_000
START = ConsumerPosition(next_offset=10, last_sequence=4, last_position=Position(1, 100, 2))
CLIENTS = [
    Client(client_id=ClientId("plain")),
    Client(client_id=ClientId("clinic"), privacy_level=PrivacyLevel.HIPAA, client_s3_kms_key="arn:clinic"),
    Client(client_id=ClientId("practice"), privacy_level=PrivacyLevel.HIPAA),
]


class Bucket:
    """Takes objects, fails as the test says. `fail` is asked before each PUT with key and KMS key."""

    bucket = "processed"

    def __init__(self, fail: Callable[[str, str | None], Exception | None]) -> None:
        self.fail = fail
        self.stored: dict[str, tuple[str | None, Mapping[str, str]]] = {}
        self.puts: list[str] = []

    async def put_new(
        self, key: str, body: bytes, *, metadata: Mapping[str, str], kms_key: str | None = None, **_: Any
    ) -> None:
        if error := self.fail(key, kms_key):
            raise error
        self.puts.append(key)
        self.stored[key] = (kms_key, metadata)


def chunk() -> Chunk:
    made = Chunk(uuid.uuid4(), START, 0.0)
    for number, client in enumerate(CLIENTS):
        policy = compile_policy(client, pseudonym_keys={1: b"k" * 32})
        outcome = filtered(client, policy, orjson.dumps({"id": number, "raw_event_data": {}}), "")
        made.add(outcome, client.client_id, Position(1, 200 + number, 0), 5 + number, NOW)
        made.passed(10 + number)
    return made


class Scene:
    def __init__(self, fail: Callable[[str, str | None], Exception | None]) -> None:
        self.bucket = Bucket(fail)
        self.commits: list[ChunkCommit] = []
        self.commit_error: list[Exception] = []
        self.now = 0.0
        self.turns = 0
        self.writer = Writer(self.bucket, None, "t", clock=lambda: self.now, turned=self.turned)  # type: ignore[arg-type]

    def turned(self) -> None:
        self.turns += 1

    async def rest(self, seconds: float) -> None:
        self.now += seconds

    async def commit(self, connection: Any, commit: ChunkCommit) -> None:
        if self.commit_error:
            raise self.commit_error.pop()
        self.commits.append(commit)


Make = Callable[[Callable[[str, str | None], Exception | None]], Scene]


@pytest.fixture
def make(monkeypatch: pytest.MonkeyPatch) -> Make:
    def made(fail: Callable[[str, str | None], Exception | None] = lambda *_: None) -> Scene:
        scene = Scene(fail)

        @asynccontextmanager
        async def connected(pool: Any) -> AsyncIterator[None]:
            yield None

        monkeypatch.setattr(module, "connected", connected)
        monkeypatch.setattr(module.ledger, "commit_chunk", scene.commit)
        monkeypatch.setattr(module.asyncio, "sleep", scene.rest)
        return scene

    return made


async def test_hipaa_objects_are_stored_with_the_clients_key_and_say_so(make: Make) -> None:
    scene = make(lambda *_: None)
    await scene.writer.write(chunk(), 0, 1)
    found = {
        key.split("/")[1]: (kms, metadata.get("encryption"))
        for key, (kms, metadata) in scene.bucket.stored.items()
        if key.startswith("processed-events/")
    }
    assert found == {"plain": (None, None), "clinic": ("arn:clinic", "aws:kms"), "practice": ("", "aws:kms")}
    assert len(scene.commits) == 1


async def test_what_fails_for_the_moment_is_tried_again_and_nothing_is_written_twice(make: Make) -> None:
    failures = {"processed-events/plain", "processed-events/clinic", "ledger/chunks"}

    def fail(key: str, _: str | None) -> Exception | None:
        for begin in failures:
            if key.startswith(begin):
                failures.remove(begin)
                return TransientError(begin)
        return None

    scene = make(fail)
    scene.commit_error.append(TransientError("the ledger does not answer"))
    await scene.writer.write(chunk(), 0, 1)
    objects = [key for key in scene.bucket.puts if key.startswith("processed-events/")]
    assert len(objects) == len(set(objects)) == 3
    assert len(scene.commits) == 1
    assert {item.key for item in scene.commits[0].objects} == set(objects)
    assert scene.turns >= 6


async def test_an_outage_that_lasts_ends_the_attempt(make: Make) -> None:
    scene = make(lambda *_: TransientError("S3 is away"))
    with pytest.raises(TransientError):
        await scene.writer.write(chunk(), 0, 1)
    assert OUTAGE_SECONDS / 2 < scene.now <= OUTAGE_SECONDS
    assert not scene.commits


async def test_a_commit_whose_answer_was_lost_is_left_to_the_ledger(make: Make) -> None:
    scene = make(lambda *_: None)
    scene.commit_error += [FencedError("it stands already"), TransientError("the answer was lost")]
    with pytest.raises(FencedError):
        await scene.writer.write(chunk(), 0, 1)


async def test_a_refused_client_key_is_that_clients_trouble(make: Make) -> None:
    scene = make(lambda _, kms: PermanentError("KMS.DisabledException") if kms == "arn:clinic" else None)
    with pytest.raises(UnusableKeyError) as caught:
        await scene.writer.write(chunk(), 0, 1)
    assert caught.value.client_id == "clinic"
    assert not scene.commits


@pytest.mark.parametrize("other", [PermanentError("NoSuchBucket"), RuntimeError("bug")])
async def test_a_refused_bucket_is_nobodys_trouble_but_ours(make: Make, other: Exception) -> None:
    def fail(key: str, kms: str | None) -> Exception:
        return other if "plain" in key else PermanentError("KMS") if kms else TransientError("slow")

    with pytest.raises(type(other)) as caught:
        await make(fail).writer.write(chunk(), 0, 1)
    assert caught.value is other


async def test_cancelled_in_the_middle_of_its_puts_nothing_is_committed(make: Make) -> None:
    scene = make(lambda *_: None)
    started = asyncio.Event()

    async def hangs(*_: Any, **__: Any) -> None:
        started.set()
        await asyncio.Event().wait()

    scene.bucket.put_new = hangs  # type: ignore[method-assign]
    task = asyncio.create_task(scene.writer.write(chunk(), 0, 1))
    await started.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not scene.commits


async def test_a_refused_key_holds_its_client_until_its_settings_change_or_a_rest_that_doubles(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    store = MemoryClientStore()
    stored = await store.put(CLIENTS[0], actor="t")
    directory = ClientDirectory(store)
    await directory.refresh()
    now = 0.0
    cache = PolicyCache(directory, SecretBox(["A" * 43 + "="]), lambda: now)

    def usable() -> bool:
        client = cache.client("plain")
        assert isinstance(client, Client)
        return cache.policy(client) is not None

    assert usable()
    cache.refuse("plain")
    assert not usable()
    now = FIRST_REST_SECONDS
    assert usable()
    cache.refuse("plain")
    now += FIRST_REST_SECONDS
    assert not usable()
    now += FIRST_REST_SECONDS
    assert usable()
    cache.refuse("plain")
    assert not usable()
    await store.put(stored, actor="t")
    await directory.refresh()
    assert usable()
