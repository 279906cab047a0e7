"""One delivery against a real ledger and real buckets: whole, chained, bounded, and under the current policy."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from local.stack import Stack
from pipeline import multipart, s3
from pipeline.clients import PrivacyLevel
from pipeline.syncqueue import Hours
from syncer import content, upload
from syncer.delivery import NotNowError
from tests.integration.syncer_scene import HOUR, Scene, open_scene, order


@pytest.fixture(scope="module")
async def scene(stack: Stack) -> AsyncIterator[Scene]:
    async with open_scene(stack) as scene:
        # Half an hour off: the hours of keys and manifests are those of UTC wherever the server stands.
        ((name,),) = await scene.execute("SELECT current_database()")
        await scene.execute(f"ALTER DATABASE {name} SET timezone = 'Asia/Kolkata'")
        yield scene


async def test_delivery_writes_files_by_hour_and_a_manifest_that_is_true(scene: Scene) -> None:
    client = await scene.add_client()
    events = await scene.add_objects(client, count=3)
    events += await scene.add_objects(client, hour=HOUR + timedelta(hours=1))
    async with scene.deliverer() as deliverer:
        outcome = await deliverer.deliver(order(client))
    assert outcome.run_keys == ("20241123T0600-hourly",)
    found = await scene.read(client)
    assert found.event_ids == Counter(events)
    assert sorted(found.objects) == [
        "in/events/dt=2024-11-23/hr=05/20241123T0600-hourly-00001.ndjson.gz",
        "in/events/dt=2024-11-23/hr=06/20241123T0600-hourly-00002.ndjson.gz",
        "in/manifests/20241123T0600-hourly.json",
        "in/manifests/latest.json",
    ]
    (manifest,) = found.chain()
    assert manifest["events"] == len(events)
    assert manifest["previous_manifest"] is None
    assert manifest["replaced"] == []
    assert manifest["files"][0]["first_commit_time"] == "2024-11-23T05:01:00Z"
    assert manifest["files"][0]["last_commit_time"] == "2024-11-23T05:02:00.000005Z"
    copy = await scene.processed.get(f"manifests/{client.client_id}/20241123T0600-hourly.json")
    assert copy == found.objects["in/manifests/20241123T0600-hourly.json"]
    async with scene.stack.aws.client("s3") as s3:
        head = await s3.head_object(Bucket=client.client_s3_bucket, Key=manifest["files"][0]["key"])
    assert head["ContentType"] == "application/x-ndjson"
    assert "ContentEncoding" not in head
    assert head["Metadata"]["run-key"] == "20241123T0600-hourly"
    assert head["Metadata"]["events"] == "9"


async def test_same_order_twice_delivers_once_and_empty_run_has_a_manifest(scene: Scene) -> None:
    client = await scene.add_client()
    events = await scene.add_objects(client)
    async with scene.deliverer() as deliverer:
        await deliverer.deliver(order(client))
        assert (await deliverer.deliver(order(client))).run_keys == ()
        assert (await deliverer.deliver(order(client, 1))).run_keys == ("20241123T0601-hourly",)
        assert (await deliverer.deliver(order(client, 0, "daily"))).run_keys == ()  # later ones were there before
    found = await scene.read(client)
    assert found.event_ids == Counter(events)
    newest, first = found.chain()
    assert (newest["events"], newest["files"], first["events"]) == (0, [], len(events))


async def test_many_syncers_on_one_order_make_one_plan(scene: Scene) -> None:
    client = await scene.add_client()
    events = await scene.add_objects(client, count=20)

    async def one() -> str:
        async with scene.deliverer(delivery_max_bytes=1500) as deliverer:
            try:
                return "done" if (await deliverer.deliver(order(client))).run_keys else "nothing"
            except Exception as error:
                return type(error).__name__

    results = await asyncio.gather(*(one() for _ in range(6)))
    assert results.count("done") == 1
    assert set(results) <= {"done", "nothing", "RunBusyError"}
    found = await scene.read(client)
    assert found.event_ids == Counter(events)
    assert len(found.chain()[0]["files"]) > 1


async def test_client_moved_to_hipaa_receives_only_hipaa(scene: Scene) -> None:
    client = await scene.add_client()
    events = await scene.add_objects(client, count=2)
    assert (await scene.change(client, privacy_level=PrivacyLevel.HIPAA)).privacy_level is PrivacyLevel.HIPAA
    async with scene.deliverer() as deliverer:
        await deliverer.deliver(order(client))
    found = await scene.read(client)
    assert found.event_ids == Counter(events)
    assert {line["privacy"]["level"] for line in found.lines} == {"hipaa"}
    assert {line["ip_address"] for line in found.lines} == {None}
    assert "v-1" not in {line["visitor_id"] for line in found.lines}
    (file,) = found.chain()[0]["files"]
    assert {line["privacy"]["policy_version"] for line in found.lines} == {file["policy_version"]}


async def test_loosened_level_keeps_what_was_processed_before(scene: Scene) -> None:
    client = await scene.add_client(PrivacyLevel.HIPAA)
    events = await scene.add_objects(client)
    loosened = await scene.change(client, privacy_level=PrivacyLevel.STANDARD)
    events += await scene.add_objects(loosened)
    async with scene.deliverer() as deliverer:
        await deliverer.deliver(order(client))
    found = await scene.read(client)
    assert found.event_ids == Counter(events)
    assert Counter(line["privacy"]["level"] for line in found.lines) == {"hipaa": 3, "standard": 3}
    assert len({file["policy_version"] for file in found.chain()[0]["files"]}) == 2


async def test_inactive_client_receives_nothing_and_its_run_waits(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = await scene.add_client()
    events = await scene.add_objects(client)
    events += await scene.add_objects(client, hour=HOUR + timedelta(hours=1))
    real = upload.put_file

    async def then_paused(*arguments: Any, **named: Any) -> None:
        await real(*arguments, **named)
        await scene.change(client, is_active=False)

    async with scene.deliverer() as deliverer:
        monkeypatch.setattr(upload, "put_file", then_paused)
        with pytest.raises(NotNowError):
            await deliverer.deliver(order(client))
        monkeypatch.undo()
        assert len((await scene.read(client)).lines) == 3
        with pytest.raises(NotNowError, match="inactive"):
            await deliverer.deliver(order(client, 1))
        await scene.change(client, is_active=True)
        await deliverer.deliver(order(client, 2))
    found = await scene.read(client)
    assert found.event_ids == Counter(events)
    assert len(found.chain()) == 2


async def test_damaged_processed_object_is_never_delivered(scene: Scene) -> None:
    client = await scene.add_client()
    await scene.add_objects(client)
    await scene.execute(
        "UPDATE pipeline.processed_objects SET sha256 = repeat('0', 64) WHERE client_id = %s", client.client_id
    )
    async with scene.deliverer() as deliverer:
        with pytest.raises(content.ProcessedObjectError, match="sha256 differs"):
            await deliverer.deliver(order(client))
    assert (await scene.read(client)).objects == {}
    assert (await scene.run_row(client))["error_class"] == "ProcessedObjectError"


async def test_large_file_goes_from_disk_and_in_parts_with_put_object_alone(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(s3, "LARGE_BYTES", 1 << 20)
    monkeypatch.setattr(multipart, "_PART_BYTES", 5 << 20)
    client = await scene.add_client()
    events = await scene.add_objects(client, count=3, events=4, padding=450_000)
    async with scene.deliverer() as deliverer:
        await deliverer.deliver(order(client))
    found = await scene.read(client)
    assert found.event_ids == Counter(events)
    (file,) = found.chain()[0]["files"]
    assert file["bytes"] > multipart._PART_BYTES
    async with scene.stack.aws.client("s3") as owner:
        head = await owner.head_object(Bucket=client.client_s3_bucket, Key=file["key"])
    assert head["ETag"].strip('"').endswith("-2")
    assert head["Metadata"]["sha256"] == file["sha256"]


async def test_back_fill_takes_only_its_hours(scene: Scene) -> None:
    client = await scene.add_client()
    early = await scene.add_objects(client)
    late = await scene.add_objects(client, hour=HOUR + timedelta(hours=5))
    async with scene.deliverer() as deliverer:
        await deliverer.deliver(replace(order(client), hours=Hours(first=HOUR + timedelta(hours=5))))
        assert (await scene.read(client)).event_ids == Counter(late)
        await deliverer.deliver(order(client, 1))
    assert (await scene.read(client)).event_ids == Counter(early + late)


async def test_complete_through_waits_for_stream_processing_and_held_events(scene: Scene) -> None:
    client = await scene.add_client()
    later = datetime(2024, 11, 23, 9, 30, tzinfo=UTC)

    async def complete(minute: int) -> str | None:
        async with scene.deliverer() as deliverer:
            await deliverer.deliver(order(client, minute))
        value: str | None = (await scene.read(client)).latest["complete_through"]
        return value

    assert await complete(0) is None  # nobody knows how far the stream is
    await scene.execute(
        "WITH e AS (INSERT INTO pipeline.epochs (system_identifier, timeline, begins_at_lsn) VALUES ('1', 1, '0/0')"
        " RETURNING epoch) INSERT INTO pipeline.stream_state (slot, epoch, state, confirmed_lsn, caught_up_at)"
        " SELECT %s, epoch, 'streaming', '0/0', %s FROM e",
        scene.environment["REPLICATION_SLOT"],
        datetime(2024, 11, 23, 7, 0, 4, tzinfo=UTC),
    )
    assert await complete(1) == "2024-11-23T05:00:00Z"  # 07:00:04 less the jitter is not yet 07:00
    await scene.execute("UPDATE pipeline.stream_state SET caught_up_at = %s", later)
    for number, (minute, sequence) in enumerate([(10, 4), (59, 8)], start=1):
        position = f"00000001-0000000000000002-{number:020d}"
        await scene.execute(
            "INSERT INTO pipeline.raw_objects (bucket, key, first_position, last_position, kafka_end_offsets,"
            " kafka_end_sequences, events, bytes, sha256, min_commit_time, max_commit_time)"
            " VALUES ('b', %s, %s, %s, '{}', %s, 1, 1, '', %s, %s)",
            f"k{number}",
            position,
            position,
            json.dumps({"0": sequence}),
            datetime(2024, 11, 23, 8, minute, tzinfo=UTC),
            later,
        )
    await scene.execute(
        "INSERT INTO pipeline.consumer_positions (topic, partition, next_offset, last_sequence, last_position)"
        " VALUES ('events.raw', 0, 5, 4, '00000001-0000000000000002-00000000000000000001')"
    )
    assert await complete(2) == "2024-11-23T07:00:00Z"  # the second raw object, from 08:59 on, is not processed
    await scene.add_objects(client, hour=datetime(2024, 11, 23, 8, tzinfo=UTC))
    # Where a topic was made anew offsets begin anew, and tell nothing.
    await scene.execute("UPDATE pipeline.consumer_positions SET next_offset = 1000000")
    assert await complete(9) == "2024-11-23T07:00:00Z"
    await scene.execute("UPDATE pipeline.consumer_positions SET next_offset = 3, last_sequence = 8")
    await scene.execute("UPDATE pipeline.processed_objects SET kind = 'held' WHERE client_id = %s", client.client_id)
    assert await complete(13) == "2024-11-23T07:00:00Z"  # held events of 08
    await scene.execute("UPDATE pipeline.processed_objects SET kind = 'client' WHERE client_id = %s", client.client_id)
    assert await complete(14) == "2024-11-23T08:00:00Z"
    await scene.execute("UPDATE pipeline.stream_state SET state = 'snapshot'")
    assert await complete(15) == "2024-11-23T08:00:00Z"  # what was promised stays promised
