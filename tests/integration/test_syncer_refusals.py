"""Buckets that refuse, and places where a delivery may not go: named in the client's words, and nobody else waits."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import pytest

from local.stack import Stack
from pipeline import metrics
from pipeline.destination import ClientBucketError
from syncer.watch import look
from tests.integration.syncer_scene import Scene, open_scene, order


@pytest.fixture(scope="module")
async def scene(stack: Stack) -> AsyncIterator[Scene]:
    async with open_scene(stack) as scene:
        yield scene


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


async def test_revoked_keys_are_told_in_status_and_the_others_go_on(scene: Scene) -> None:
    # GIVEN clients who were delivered to, and are to receive more
    unchanged, denied, deactivated, deleted = clients = [await scene.add_client() for _ in range(4)]
    for client in clients:
        await scene.add_objects(client)
    async with scene.deliverer() as deliverer:
        await asyncio.gather(*(deliverer.deliver(order(client)) for client in clients))
        more = [await scene.add_objects(client) for client in clients]
        # WHEN keys are revoked in each of the ways that IAM has
        async with scene.stack.aws.client("iam") as iam:
            await iam.delete_user_policy(UserName=denied.client_s3_bucket, PolicyName="own")
            await iam.update_access_key(
                UserName=deactivated.client_s3_bucket, AccessKeyId=deactivated.client_s3_access_key, Status="Inactive"
            )
            await iam.delete_access_key(UserName=deleted.client_s3_bucket, AccessKeyId=deleted.client_s3_access_key)
        outcomes = await asyncio.gather(
            *(deliverer.deliver(order(client, 1)) for client in clients), return_exceptions=True
        )
    # THEN each status says so, and the one whose key is valid received everything
    assert [type(outcome) for outcome in outcomes[1:]] == [ClientBucketError] * 3
    said = [(await scene.run_row(client))["error_class"] for client in (denied, deactivated, deleted)]
    assert said == ["AccessDenied", "InvalidAccessKeyId", "InvalidAccessKeyId"]
    assert "s3:PutObject" in (await scene.run_row(denied))["error"]
    assert "revoked" in (await scene.run_row(deleted))["error"]
    found = await scene.read(unchanged)
    assert found.event_ids.keys() >= set(more[0])
    assert len(found.chain()) == 2


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
