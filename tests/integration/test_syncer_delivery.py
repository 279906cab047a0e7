"""One delivery against a real ledger and real buckets: whole, chained, under the current policy, whatever happens."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest

from database import ledger
from database.ledger import Pool, connected, open_pool
from local.stack import Stack
from pipeline import metrics, multipart, s3
from pipeline.clients import PrivacyLevel
from pipeline.destination import ClientBucketError
from pipeline.errors import FencedError, TransientError
from pipeline.syncqueue import ClientSync, Hours
from syncer import content, upload
from syncer.delivery import NotNowError
from syncer.watch import look
from tests.integration.syncer_scene import HOUR, Scene, open_scene

FAILPOINTS = (
    "syncer.after_plan",
    "syncer.after_announce",
    "syncer.after_put",
    "syncer.after_put:2",
    "syncer.before_manifest",
    "syncer.after_manifest_row",
    "syncer.before_latest",
    "syncer.before_finish",
)


@pytest.fixture(scope="module")
async def scene(stack: Stack) -> AsyncIterator[Scene]:
    async with open_scene(stack) as scene:
        yield scene


def order(client: Any, minute: int = 0, reason: str = "hourly") -> ClientSync:
    return ClientSync(client_id=client.client_id, run_key=f"20241123T06{minute:02d}-{reason}")


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


@pytest.mark.parametrize("failpoint", FAILPOINTS)
async def test_killed_anywhere_then_restarted_every_event_arrives_once(scene: Scene, failpoint: str) -> None:
    client = await scene.add_client()
    events = await scene.add_objects(client)
    async with scene.deliverer() as deliverer:
        await deliverer.deliver(order(client))
    events += await scene.add_objects(client)
    events += await scene.add_objects(client, hour=HOUR + timedelta(hours=2))
    status, _, log = await scene.finish("run", "--client", client.client_id, FAILPOINT=failpoint)
    assert status == -9, log
    events += await scene.add_objects(client, hour=HOUR + timedelta(hours=3))
    await scene.let_leases_end()
    status, output, log = await scene.finish("run", "--client", client.client_id)
    assert status == 0, log
    runs = json.loads(output)["runs"]
    if len(runs) == 1:  # both orders fell into one second, so they were the same order
        status, output, log = await scene.finish("run", "--client", client.client_id)
        assert status == 0, log
        runs += json.loads(output)["runs"]
    assert len(runs) == 2  # the old one under its own key, then the new one
    found = await scene.read(client)
    assert found.event_ids == Counter(events)
    assert [manifest["events"] for manifest in found.chain()] == [3, 6, 3]


async def test_wrong_key_fails_in_words_and_works_once_it_is_mended(scene: Scene) -> None:
    client = await scene.add_client()
    events = await scene.add_objects(client)
    broken = await scene.change(client, client_s3_secret_key=scene.box.encrypt("wrong"))
    async with scene.deliverer() as deliverer:
        with pytest.raises(ClientBucketError, match="secret key does not belong"):
            await deliverer.deliver(order(broken))
        row = await scene.run_row(client)
        assert (row["status"], row["error_class"]) == ("failed", "SignatureDoesNotMatch")
        assert "enter the keys anew" in row["error"]
        report = await scene.report_of(client)
        assert (report["last_sync_status"], report["last_sync_error_class"]) == ("failed", "SignatureDoesNotMatch")
        assert "last_sync_succeeded_at" not in report
        await look(deliverer.pool, scene.store, datetime.now(UTC))
        failing = metrics.SYNC_FAILING_CLIENTS._value.get()
        assert failing >= 1
        assert (await scene.read(client)).objects == {}
        await scene.change(broken, client_s3_secret_key=client.client_s3_secret_key)
        await deliverer.deliver(order(client, 1))
        await look(deliverer.pool, scene.store, datetime.now(UTC))
        assert metrics.SYNC_FAILING_CLIENTS._value.get() == failing - 1
    found = await scene.read(client)
    assert found.event_ids == Counter(events)
    assert [manifest["run_key"] for manifest in found.chain()] == ["20241123T0601-hourly", "20241123T0600-hourly"]
    row = await scene.run_row(client)
    assert (row["status"], row["error"]) == ("finished", None)
    report = await scene.report_of(client)
    assert (report["last_sync_status"], report["last_sync_error"]) == ("succeeded", None)
    assert (report["last_sync_run_key"], report["last_sync_succeeded_at"]) == (row["run_key"], report["last_sync_at"])


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"client_s3_access_key": "AKIAAAAAAAAAAAAAAAAA"}, "InvalidAccessKeyId"),
        ({"client_s3_bucket": "no-such-bucket-there-is"}, "NoSuchBucket"),
        ({"client_s3_secret_key": "not a token"}, "SecretUnreadable"),
        ({"client_s3_endpoint_url": "nonsense"}, "EndpointInvalid"),
        ({"client_s3_role_arn": "arn:aws:iam::000000000000:role/nobody"}, ""),
    ],
)
async def test_permanent_errors_are_named(scene: Scene, changes: dict[str, Any], code: str) -> None:
    client = await scene.add_client()
    await scene.add_objects(client)
    broken = await scene.change(client, **changes)
    async with scene.deliverer() as deliverer:
        with pytest.raises(ClientBucketError):
            await deliverer.deliver(order(broken))
    row = await scene.run_row(client)
    assert row["status"] == "failed"
    assert row["error_class"] == code or (not code and row["error_class"])
    assert row["owner"] is None


async def test_revoked_key_becomes_access_denied(scene: Scene) -> None:
    client = await scene.add_client()
    await scene.add_objects(client)
    async with scene.stack.aws.client("iam") as iam:
        await iam.delete_user_policy(UserName=client.client_s3_bucket, PolicyName="own")
    async with scene.deliverer() as deliverer:
        with pytest.raises(ClientBucketError):
            await deliverer.deliver(order(client))
    row = await scene.run_row(client)
    assert row["error_class"] == "AccessDenied"
    assert "s3:PutObject" in row["error"]


async def test_private_endpoint_is_refused_unless_allowed(scene: Scene) -> None:
    client = await scene.add_client()
    async with scene.deliverer(allow_private_endpoints=False) as deliverer:
        with pytest.raises(ClientBucketError, match="must be https"):
            await deliverer.deliver(order(client))
        await scene.change(client, client_s3_endpoint_url="https://127.0.0.1:1")
        with pytest.raises(ClientBucketError, match="private network"):
            await deliverer.deliver(order(client, 1))


async def test_role_with_external_id_writes_the_bucket(scene: Scene) -> None:
    client = await scene.add_client()
    events = await scene.add_objects(client)
    name = f"role-{uuid4().hex[:8]}"
    trust = {
        "Version": "2012-10-17",
        "Statement": [
            {
                "Effect": "Allow",
                "Principal": {"AWS": "*"},
                "Action": "sts:AssumeRole",
                "Condition": {"StringEquals": {"sts:ExternalId": "right"}},
            }
        ],
    }
    grant = {
        "Version": "2012-10-17",
        "Statement": [
            {"Effect": "Allow", "Action": "s3:PutObject", "Resource": f"arn:aws:s3:::{client.client_s3_bucket}/*"}
        ],
    }
    async with scene.stack.aws.client("iam") as iam:
        role = await iam.create_role(RoleName=name, AssumeRolePolicyDocument=json.dumps(trust))
        await iam.put_role_policy(RoleName=name, PolicyName="own", PolicyDocument=json.dumps(grant))
    keyless = {"client_s3_access_key": "", "client_s3_secret_key": "", "client_s3_role_arn": role["Role"]["Arn"]}
    wrong = await scene.change(client, **keyless, client_s3_external_id="wrong")
    async with scene.deliverer() as deliverer:
        with pytest.raises(ClientBucketError, match="can't be assumed"):
            await deliverer.deliver(order(client))
        await scene.change(wrong, client_s3_external_id="right")
        await deliverer.deliver(order(client, 1))
    assert (await scene.read(client)).event_ids == Counter(events)


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


async def test_zombie_that_wakes_before_its_put_overwrites_nothing(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    # GIVEN a syncer that is paused just before its PUT, while the client is moved to hipaa and another one takes over
    client = await scene.add_client()
    events = await scene.add_objects(client)
    real = upload.put_file
    async with scene.deliverer() as zombie, scene.deliverer() as other:

        async def paused(*arguments: Any, **named: Any) -> None:
            monkeypatch.setattr(upload, "put_file", real)
            await scene.change(client, privacy_level=PrivacyLevel.HIPAA)
            await scene.let_leases_end()
            await other.deliver(order(client))
            await real(*arguments, **named)

        monkeypatch.setattr(upload, "put_file", paused)
        # WHEN it wakes up THEN it finds itself fenced, and the tighter file is untouched
        with pytest.raises(FencedError):
            await zombie.deliver(order(client))
    found = await scene.read(client)
    assert found.event_ids == Counter(events)
    assert {line["privacy"]["level"] for line in found.lines} == {"hipaa"}
    assert len(found.chain()) == 1


async def test_zombie_that_overwrites_a_key_it_found_taken_lets_the_file_be_built_again(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    # GIVEN a key that is taken at the first try, as when a PUT's answer was lost, and a pause before the second
    client = await scene.add_client()
    events = await scene.add_objects(client)
    real_create, real_put = s3.ObjectStore.create, s3.ObjectStore.put
    async with scene.deliverer() as zombie, scene.deliverer() as other:

        async def answer_lost(self: s3.ObjectStore, key: str, *arguments: Any, **named: Any) -> bool:
            if key.startswith("in/events/"):
                monkeypatch.setattr(s3.ObjectStore, "create", real_create)
                assert await real_create(self, key, *arguments, **named)
                return False
            return await real_create(self, key, *arguments, **named)

        async def paused(self: s3.ObjectStore, *arguments: Any, **named: Any) -> None:
            monkeypatch.setattr(s3.ObjectStore, "put", real_put)
            await scene.change(client, privacy_level=PrivacyLevel.HIPAA)
            await scene.let_leases_end()
            await other.deliver(order(client))
            await real_put(self, *arguments, **named)

        monkeypatch.setattr(s3.ObjectStore, "create", answer_lost)
        monkeypatch.setattr(s3.ObjectStore, "put", paused)
        # WHEN it wakes up after another one has delivered a tighter file under the key
        with pytest.raises(FencedError):
            await zombie.deliver(order(client))
        # THEN the next run puts the tighter file back
        await other.deliver(order(client, 1))
    found = await scene.read(client)
    assert found.event_ids == Counter(events)
    assert {line["privacy"]["level"] for line in found.lines} == {"hipaa"}
    found.chain()


async def test_zombie_that_wakes_before_latest_puts_the_newest_back(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = await scene.add_client()
    events = await scene.add_objects(client)
    real = upload.put_latest
    async with scene.deliverer() as zombie, scene.deliverer() as other:

        async def paused(*arguments: Any) -> None:
            monkeypatch.setattr(upload, "put_latest", real)
            await scene.let_leases_end()
            await other.deliver(order(client))
            events.extend(await scene.add_objects(client))
            await other.deliver(order(client, 1))
            await real(*arguments)

        monkeypatch.setattr(upload, "put_latest", paused)
        with pytest.raises(FencedError):
            await zombie.deliver(order(client))
    found = await scene.read(client)
    assert found.event_ids == Counter(events)
    assert found.latest["run_key"] == "20241123T0601-hourly"
    assert len(found.chain()) == 2


async def test_policy_changed_between_attempts_overwrites_what_the_first_left(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = await scene.add_client()
    events = await scene.add_objects(client)
    status, _, log = await scene.finish("run", "--client", client.client_id, FAILPOINT="syncer.after_put")
    assert status == -9, log
    assert len((await scene.read(client)).lines) == 3
    await scene.change(client, privacy_level=PrivacyLevel.HIPAA)
    await scene.let_leases_end()
    async with scene.deliverer() as deliverer:
        await deliverer.deliver(ClientSync(client_id=client.client_id, run_key="20991231T0000-hourly"))
    found = await scene.read(client)
    assert found.event_ids == Counter(events)
    assert {line["privacy"]["level"] for line in found.lines} == {"hipaa"}
    assert len(found.chain()) == 2


async def test_run_follows_the_client_to_another_bucket(scene: Scene) -> None:
    client = await scene.add_client()
    events = await scene.add_objects(client)
    elsewhere = await scene.add_client()
    typo = await scene.change(client, client_s3_bucket="no-such-bucket-there-is", client_s3_prefix="typo/")
    async with scene.deliverer() as deliverer:
        with pytest.raises(ClientBucketError, match="NoSuchBucket"):
            await deliverer.deliver(order(client))
        moved = await scene.change(
            typo,
            client_s3_bucket=elsewhere.client_s3_bucket,
            client_s3_prefix="",
            client_s3_access_key=elsewhere.client_s3_access_key,
            client_s3_secret_key=elsewhere.client_s3_secret_key,
        )
        await deliverer.deliver(order(client, 1))
    found = await scene.read(moved)
    assert found.event_ids == Counter(events)
    assert len(found.chain()) == 2


async def test_two_clients_with_one_destination_never_overwrite_each_other(scene: Scene) -> None:
    first = await scene.add_client()
    second = await scene.add_client()
    same = {
        name: getattr(first, name)
        for name in ("client_s3_bucket", "client_s3_prefix", "client_s3_access_key", "client_s3_secret_key")
    }
    second = await scene.change(second, **same)
    events = await scene.add_objects(first)
    theirs = await scene.add_objects(second)
    async with scene.deliverer() as deliverer:
        await deliverer.deliver(order(first))
        with pytest.raises(ClientBucketError, match="DestinationShared"):
            await deliverer.deliver(order(second))
        assert (await scene.read(first)).event_ids == Counter(events)
        assert (await scene.run_row(second))["error_class"] == "DestinationShared"
        # Its files stay the first one's, also when that one has left.
        await scene.change(first, is_active=False)
        with pytest.raises(ClientBucketError, match="DestinationShared"):
            await deliverer.deliver(order(second))
        second = await scene.change(second, client_s3_prefix="second/")
        await deliverer.deliver(order(second, 1))
        # What nobody has written to is free.
        typo = await scene.change(await scene.add_client(), client_s3_bucket=second.client_s3_bucket)
        with pytest.raises(ClientBucketError):
            await deliverer.deliver(order(typo))
        moved = await scene.change(await scene.add_client(), **{**same, "client_s3_prefix": "moved/"})
        await scene.change(typo, client_s3_prefix="moved/", client_s3_access_key="AKIAWRONG")
        with pytest.raises(ClientBucketError, match="InvalidAccessKeyId"):
            await deliverer.deliver(order(typo, 1))
        with pytest.raises(ClientBucketError, match="DestinationShared"):
            await deliverer.deliver(order(moved))
        await scene.change(typo, is_active=False)
        await deliverer.deliver(order(moved, 1))
    assert (await scene.read(first)).event_ids == Counter(events + theirs)


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


async def test_process_paused_inside_a_transaction_keeps_nobody_from_taking_over(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = await scene.add_client()
    events = await scene.add_objects(client)
    status, _, log = await scene.finish("run", "--client", client.client_id, FAILPOINT="syncer.after_plan")
    assert status == -9, log
    await scene.let_leases_end()
    monkeypatch.setattr(ledger, "_IDLE_SECONDS", 1)

    async def paused_while_another_takes_over(pool: Pool) -> None:
        async with connected(pool) as paused, paused.transaction():
            await paused.execute(
                "SELECT 1 FROM pipeline.sync_runs WHERE client_id = %s FOR UPDATE", (client.client_id,)
            )
            async with scene.deliverer() as deliverer:  # waits for the lock, which the server takes away
                await deliverer.deliver(ClientSync(client_id=client.client_id, run_key="20991231T0000-hourly"))
            await paused.execute("SELECT 1")

    async with open_pool(scene.dsn) as pool:
        with pytest.raises(TransientError):
            await paused_while_another_takes_over(pool)
    assert (await scene.read(client)).event_ids == Counter(events)
