"""The check of the clients' buckets, against the emulator's S3: each fault of objects and manifests is found."""

from __future__ import annotations

import gzip
import hashlib
import uuid
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson
import pytest

from local.aws import REGION
from local.stack import Stack
from local.traffic_events import EventSource
from local.traffic_record import COLUMNS, Recorder, Stored, raw_digest, to_line
from local.verify import Access, report, verify_buckets
from pipeline.clients import PrivacyLevel

PREFIX = "deep/er/"


class Scene:
    """One standard client's bucket, three events in two runs, and the record of them."""

    def __init__(self, s3: Any, access: Access, record: Path) -> None:
        self.s3, self.access, self.record = s3, access, record

    async def put(self, key: str, body: bytes) -> None:
        await self.s3.put_object(Bucket=self.access.bucket, Key=PREFIX + key, Body=body)

    async def faults(self) -> list[str]:
        verdict = await verify_buckets(self.record, [self.access])
        tally = verdict.tallies[self.access.client_id]
        assert verdict.ok == tally.ok
        assert self.access.client_id in report(verdict)
        return [example for found in tally.examples.values() for example in found]


@pytest.fixture
async def scene(stack: Stack, tmp_path: Path) -> AsyncIterator[Scene]:
    now = datetime.now(UTC)
    rows = [row for row in EventSource(["acme"], seed=4).rows(50, now) if row.owner and row.raw_event_data][:3]
    recorder = Recorder(tmp_path / "record")
    lines = []
    for number, row in enumerate(rows):
        raw = row.raw_event_data or b""
        stored = Stored(
            number, "2026-01-01T00:00:00.000000Z", row.ip_address, "2026-01-01T00:00:00.5Z", raw_digest(raw)
        )
        recorder.append([to_line(row, stored)])
        values = {name: getattr(row, name, None) for name in COLUMNS}
        values |= {"id": number, "timestamp": stored.timestamp, "created_at": stored.created_at}
        printed = orjson.dumps(values)[:-1] + b',"raw_event_data":' + raw
        lines.append(printed + b',"privacy":{"level":"standard"}}\n')
    recorder.close()
    async with stack.aws.client("s3") as s3:
        bucket = f"verify-{uuid.uuid4().hex[:8]}"
        await s3.create_bucket(Bucket=bucket)
        access = Access(
            client_id="acme",
            privacy_level=PrivacyLevel.STANDARD,
            bucket=bucket,
            region=REGION,
            endpoint_url=stack.aws.endpoint_url,
            prefix=PREFIX,
            access_key=stack.aws.root.key_id,
            secret_key=stack.aws.root.secret,
        )
        found = Scene(s3, access, tmp_path / "record")
        # Members one after the other, as the syncer joins processed objects.
        first = gzip.compress(lines[0]) + gzip.compress(lines[1])
        second = gzip.compress(lines[2])
        oldest = _manifest("r1", [_file("events/1.ndjson.gz", first, 2)], None)
        newest = _manifest("r2", [_file("events/2.ndjson.gz", second, 1)], oldest)
        await found.put("events/1.ndjson.gz", first)
        await found.put("events/2.ndjson.gz", second)
        await found.put("manifests/r1.json", oldest)
        await found.put("manifests/r2.json", newest)
        await found.put("manifests/latest.json", newest)
        yield found


def _file(key: str, body: bytes, events: int) -> dict[str, Any]:
    return {"key": PREFIX + key, "sha256": hashlib.sha256(body).hexdigest(), "bytes": len(body), "events": events}


def _manifest(run_key: str, files: list[dict[str, Any]], previous: bytes | None) -> bytes:
    link = previous and {
        "key": f"{PREFIX}manifests/{orjson.loads(previous)['run_key']}.json",
        "sha256": hashlib.sha256(previous).hexdigest(),
    }
    values = {"schema_version": 1, "client_id": "acme", "run_key": run_key, "files": files, "replaced": []}
    return orjson.dumps({**values, "previous_manifest": link})


async def test_chain_of_two_runs_is_read_without_fault(scene: Scene) -> None:
    assert await scene.faults() == []


async def test_empty_bucket_misses_everything(scene: Scene) -> None:
    await scene.s3.delete_object(Bucket=scene.access.bucket, Key=f"{PREFIX}manifests/latest.json")
    verdict = await verify_buckets(scene.record, [scene.access])
    assert verdict.tallies["acme"].missing == 3


async def test_changed_file_is_named(scene: Scene) -> None:
    await scene.put("events/2.ndjson.gz", gzip.compress(b""))
    found = await scene.faults()
    assert f"{PREFIX}events/2.ndjson.gz has other bytes than its manifest says" in found
    assert f"{PREFIX}events/2.ndjson.gz has 0 events, its manifest says 1" in found


@pytest.mark.parametrize("body", [b"no gzip", gzip.compress(b"{}\n" * 50)[:-9]], ids=["no gzip", "cut short"])
async def test_damaged_file_is_named(scene: Scene, body: bytes) -> None:
    await scene.put("events/2.ndjson.gz", body)
    assert f"{PREFIX}events/2.ndjson.gz is not a whole gzip file" in await scene.faults()


async def test_absent_file_is_named(scene: Scene) -> None:
    await scene.s3.delete_object(Bucket=scene.access.bucket, Key=f"{PREFIX}events/1.ndjson.gz")
    assert f"{PREFIX}events/1.ndjson.gz is missing" in await scene.faults()


async def test_file_in_no_manifest_is_named(scene: Scene) -> None:
    await scene.put("events/3.ndjson.gz", gzip.compress(b""))
    assert await scene.faults() == [f"{PREFIX}events/3.ndjson.gz is in no manifest"]


async def test_changed_manifest_breaks_the_chain(scene: Scene) -> None:
    await scene.put("manifests/r1.json", _manifest("r1", [], None))
    assert any("r1.json is not the manifest" in fault for fault in await scene.faults())


async def test_latest_that_differs_from_its_run_is_named(scene: Scene) -> None:
    await scene.put("manifests/latest.json", _manifest("r2", [], None))
    assert any("latest.json is not the same" in fault for fault in await scene.faults())


async def test_wrong_key_is_named(scene: Scene) -> None:
    access = Access(**{n: getattr(scene.access, n) for n in Access.__dataclass_fields__} | {"access_key": "AKIAWRONG"})
    tally = (await verify_buckets(scene.record, [access])).tallies["acme"]
    assert tally.broken == 1
    assert tally.missing == 3
