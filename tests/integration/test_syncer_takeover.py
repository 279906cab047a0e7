"""Syncers that are killed, paused or late: every event arrives once all the same, and the chain stays whole."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import pytest

from database import ledger
from database.ledger import Pool, connected, open_pool
from local.stack import Stack
from pipeline import s3
from pipeline.clients import PrivacyLevel
from pipeline.errors import FencedError, TransientError
from pipeline.syncqueue import ClientSync
from syncer import upload
from tests.integration.syncer_scene import HOUR, Scene, open_scene, order

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
