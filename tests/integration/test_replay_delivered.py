"""A replay of hours that were delivered already, as far as the client's bucket: it holds the new version alone."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest

from local.stack import Stack
from local.verify_manifest import files_of, read_manifest
from pipeline.syncqueue import ClientSync
from syncer.pipeline import open_deliverer
from syncer.settings import SyncerSettings
from tests.integration.replay_scene import open_replay_scene
from tests.integration.syncer_scene import make_destination, read_bucket

pytestmark = pytest.mark.timeout(180)


async def test_delivered_hours_that_are_replayed_after_a_tighter_policy_leave_nothing_of_the_old_one_in_the_bucket(
    stack: Stack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_replay_scene(stack, tmp_path, monkeypatch) as scene:
        place = await make_destination(stack, scene.box, scene.scene.database.replace("_", "-"))
        await scene.client("alpha", "standard", "alpha.example", **place)
        runs = iter(f"20991231T00{minute:02d}-hourly" for minute in range(60))

        async def deliver() -> None:
            async with open_deliverer(SyncerSettings.load()) as (deliverer, _):
                await deliverer.deliver(ClientSync(client_id="alpha", run_key=next(runs)))

        # GIVEN events that were delivered complete, in two runs
        alpha = await scene.insert(60, "alpha") | await scene.insert(20, None, "alpha.example")
        beta = await scene.insert(10, "beta")
        await scene.settled()
        await deliver()
        alpha |= await scene.insert(30, "alpha")
        await scene.settled()
        await deliver()
        before = await read_bucket(stack, place["client_s3_bucket"])
        assert before.event_ids == Counter(alpha)
        assert {line["privacy"]["level"] for line in before.lines} == {"standard"}
        old_files = {file["key"]: file["sha256"] for manifest in before.chain() for file in manifest["files"]}

        # WHEN the policy becomes tighter, new events come in, and the hours are replayed
        await scene.client("alpha", "gdpr")
        alpha |= await scene.insert(25, "alpha")
        await scene.settled()
        would = await scene.replay("alpha", dry_run=True)
        did = await scene.replay("alpha")
        for summary in (would, did):
            assert sum(cell["files_to_rebuild"] for cell in summary["by_cell"]) == len(old_files) >= 2
        await scene.check(alpha=alpha, beta=beta)
        await deliver()
        await deliver()

        # THEN every file stands under its old key with the new content, and the manifests say so
        after = await read_bucket(stack, place["client_s3_bucket"])
        assert after.event_ids == Counter(alpha)
        assert {line["privacy"]["level"] for line in after.lines} == {"gdpr"}
        assert {line["ip_address"] for line in after.lines} == {None}
        assert "@mail.example" not in json.dumps(after.lines)
        idle, rebuilding, *_ = chain = after.chain()
        assert {file["key"]: file["old_sha256"] for file in rebuilding["replaced"]} == old_files
        assert all(file["key"] == file["old_key"] for file in rebuilding["replaced"])
        assert sum(file["events"] for file in rebuilding["files"]) == 25
        assert idle["files"] == idle["replaced"] == []
        # AND so does a reader that shares no code with the syncer
        bodies = (after.objects[f"in/manifests/{manifest['run_key']}.json"] for manifest in chain)
        read = files_of(read_manifest(body, client_id="alpha", prefix="in/") for body in bodies)
        assert sorted(read) == sorted(key for key in after.objects if key.startswith("in/events/"))
        await scene.check(alpha=alpha, beta=beta)
