"""Files of replayed cells: built again under their keys, named with old and new digest, once, whatever happens."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from local.stack import Stack
from pipeline.clients import Client, PrivacyLevel
from pipeline.errors import FencedError
from pipeline.s3 import ObjectStore
from pipeline.syncqueue import ClientSync, Hours
from syncer import upload
from tests.integration.syncer_scene import HOUR, Scene, open_scene, order


@pytest.fixture(scope="module")
async def scene(stack: Stack) -> AsyncIterator[Scene]:
    async with open_scene(stack) as scene:
        yield scene


async def delivered(scene: Scene, **changes: Any) -> tuple[Client, list[str]]:
    """A client with two delivered hours."""
    client = await scene.add_client(**changes)
    events = await scene.add_objects(client, count=2)
    events += await scene.add_objects(client, hour=HOUR + timedelta(hours=1))
    async with scene.deliverer() as deliverer:
        await deliverer.deliver(order(client))
    return client, events


async def test_file_of_a_replayed_cell_is_built_again_under_its_key_and_named_with_both_digests(scene: Scene) -> None:
    client, events = await delivered(scene)
    before = await scene.read(client)
    tighter = await scene.change(client, privacy_level=PrivacyLevel.GDPR)
    await scene.replay(tighter)
    async with scene.deliverer() as deliverer:
        await deliverer.deliver(order(client, 1))
        await deliverer.deliver(order(client, 2))  # it is done: the next run has nothing to do
    after = await scene.read(client)
    assert after.event_ids == Counter(events)
    assert sorted(line["privacy"]["level"] for line in after.lines) == ["gdpr"] * 6 + ["standard"] * 3
    newest, second, first = after.chain()
    assert (newest["replaced"], newest["files"], first["replaced"]) == ([], [], [])
    (file,) = second["replaced"]
    assert file["key"] == file["old_key"] == first["files"][0]["key"]
    assert file["old_sha256"] == first["files"][0]["sha256"] != file["sha256"]
    assert file["policy_version"] != first["files"][0]["policy_version"]
    assert set(after.objects) - set(before.objects) == {
        f"in/manifests/20241123T06{minute}-hourly.json" for minute in ("01", "02")
    }


@pytest.mark.parametrize("failpoint", ["syncer.after_plan", "syncer.after_announce", "syncer.after_put"])
async def test_killed_while_replacing_then_restarted_it_is_replaced_once(scene: Scene, failpoint: str) -> None:
    client, events = await delivered(scene)
    left = await scene.replay(client, keep=2)
    status, _, log = await scene.finish("run", "--client", client.client_id, FAILPOINT=failpoint)
    assert status == -9, log
    await scene.let_leases_end()
    async with scene.deliverer() as deliverer:
        await deliverer.deliver(ClientSync(client_id=client.client_id, run_key="20991231T0000-hourly"))
    found = await scene.read(client)
    assert found.event_ids == Counter(left + events[6:])
    assert [len(manifest["replaced"]) for manifest in found.chain()] == [0, 1, 0]


async def test_cell_replayed_to_nothing_leaves_a_file_without_events(scene: Scene) -> None:
    client, events = await delivered(scene)
    assert await scene.replay(client, keep=0) == []
    async with scene.deliverer() as deliverer:
        await deliverer.deliver(order(client, 1))
    found = await scene.read(client)
    assert found.event_ids == Counter(events[6:])
    assert [(file["events"], file["old_events"]) for file in found.chain()[0]["replaced"]] == [(0, 6)]


async def test_replay_before_delivery_and_replay_while_delivering_build_what_is_current(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = await scene.add_client()
    await scene.add_objects(client, count=2)
    left: list[str] = []
    real = upload.put_file

    async def while_replayed(*arguments: Any, **named: Any) -> None:
        monkeypatch.setattr(upload, "put_file", real)
        left.extend(await scene.replay(client, keep=2))
        await real(*arguments, **named)

    monkeypatch.setattr(upload, "put_file", while_replayed)
    async with scene.deliverer() as deliverer:
        await deliverer.deliver(order(client))  # the first PUT is void by then
        found = await scene.read(client)
        assert found.event_ids == Counter(left)
        assert found.chain()[0]["replaced"] == []
        # WHEN the file is replaced, and its cell replayed once more in the middle of that
        await scene.replay(client, keep=2)
        left.clear()

        async def again(*arguments: Any, **named: Any) -> None:
            monkeypatch.setattr(upload, "put_file", real)
            left.extend(await scene.replay(client, keep=1))
            await real(*arguments, **named)

        monkeypatch.setattr(upload, "put_file", again)
        await deliverer.deliver(order(client, 1))
    found = await scene.read(client)
    assert found.event_ids == Counter(left)
    assert [file["events"] for file in found.chain()[0]["replaced"]] == [2]


async def test_replaced_file_follows_the_client_to_another_place(scene: Scene) -> None:
    client, _ = await delivered(scene)
    await scene.replay(client, keep=2)
    moved = await scene.change(client, client_s3_prefix="elsewhere/")
    async with scene.deliverer() as deliverer:
        await deliverer.deliver(order(client, 1))
        (file,) = (await scene.read(moved)).latest["replaced"]
        assert (file["old_key"], file["key"]) == (
            "in/events/dt=2024-11-23/hr=05/20241123T0600-hourly-00001.ndjson.gz",
            "elsewhere/events/dt=2024-11-23/hr=05/20241123T0600-hourly-00001.ndjson.gz",
        )
        # AND a second replay finds it where it is now
        left = await scene.replay(moved, keep=1)
        await deliverer.deliver(order(client, 2))
    found = await scene.read(moved)
    (file,) = found.latest["replaced"]
    assert file["old_key"] == file["key"] == "elsewhere/events/dt=2024-11-23/hr=05/20241123T0600-hourly-00001.ndjson.gz"
    assert file["old_events"] == 4
    assert found.events_in(file["key"]) == Counter(left)


async def test_back_fill_replaces_only_files_of_its_hours(scene: Scene) -> None:
    client, _ = await delivered(scene)
    for number in range(2):
        await scene.replay(client, hour=HOUR + timedelta(hours=number), keep=2)
    async with scene.deliverer() as deliverer:
        hours = Hours(first=HOUR + timedelta(hours=1), last=HOUR + timedelta(hours=1))
        await deliverer.deliver(replace(order(client, 1), hours=hours))
        assert [file["hour"] for file in (await scene.read(client)).latest["replaced"]] == ["2024-11-23T06:00:00Z"]
        await deliverer.deliver(order(client, 2))
    assert [file["hour"] for file in (await scene.read(client)).latest["replaced"]] == ["2024-11-23T05:00:00Z"]


async def test_zombie_that_overwrites_a_replaced_file_has_it_built_again(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    # GIVEN a syncer that is paused inside its PUT of a replaced file, while others replace it with what is newer
    client, events = await delivered(scene)
    await scene.replay(client, keep=2)
    real = ObjectStore.put
    left: list[str] = []
    async with scene.deliverer() as zombie, scene.deliverer() as other:

        async def paused(self: ObjectStore, *arguments: Any, **named: Any) -> None:
            monkeypatch.setattr(ObjectStore, "put", real)
            left.extend(await scene.replay(client, keep=1))
            await scene.let_leases_end()
            await other.deliver(order(client, 1))
            await real(self, *arguments, **named)

        monkeypatch.setattr(ObjectStore, "put", paused)
        # WHEN it wakes up and overwrites
        with pytest.raises(FencedError):
            await zombie.deliver(order(client, 1))
        assert (await scene.read(client)).event_ids != Counter(left + events[6:])
        # THEN the next run puts it right
        await other.deliver(order(client, 2))
    found = await scene.read(client)
    assert found.event_ids == Counter(left + events[6:])
    newest, *_ = found.chain()
    assert len(newest["replaced"]) == 1
