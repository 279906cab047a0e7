"""Replay on real parts: what was processed takes another form, and every event stays in exactly one place."""

from __future__ import annotations

import asyncio
import json
import signal
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from local.stack import Stack
from pipeline.clients import ConsentMode, PrivacyLevel
from pipeline.errors import ConfigError, PermanentError
from processor.replay.pipeline import ReplayFailedError, resume, run_requested
from processor.settings import ProcessorSettings
from tests.integration.replay_scene import ReplayScene, open_replay_scene

pytestmark = pytest.mark.timeout(180)


@pytest.fixture
async def scene(stack: Stack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[ReplayScene]:
    async with open_replay_scene(stack, tmp_path, monkeypatch) as opened:
        yield opened


async def test_a_client_moved_to_hipaa_gets_its_old_hours_in_hipaa_form_and_nobody_else_is_touched(
    scene: ReplayScene,
) -> None:
    alpha = await scene.insert(120, "alpha") | await scene.insert(30, None, "alpha.example")
    beta = await scene.insert(60, "beta") | await scene.insert(20, None, "beta.example")
    strangers = await scene.insert(10, None, "nobody.example")
    await scene.settled()
    before = await scene.check(alpha=alpha, beta=beta, quarantine=strangers)
    await scene.client("alpha", "hipaa")

    ledger = await scene.ledger()
    would = await scene.replay("alpha", dry_run=True)
    assert await scene.ledger() == ledger, "a dry run changes nothing"
    assert would["cells"]["changed"] >= 1
    assert would["before"] == would["after"] == {"out": 150}
    assert would["redactions"]["email"] == {"before": 0, "after": 150}
    assert would["redactions"]["ip"] == {"before": 0, "after": 150}
    assert would["by_cell"][0]["paths"]["raw_event_data.eventData.email"]["before"] == 0
    assert "@mail.example" not in json.dumps(would)
    assert would["by_cell"][0]["privacy_levels_before"] == ["standard"]
    assert would["by_cell"][0]["privacy_levels_after"] == ["hipaa"]

    did = await scene.replay("alpha")
    assert {name: did[name] for name in ("before", "after", "redactions")} == {
        name: would[name] for name in ("before", "after", "redactions")
    }
    after = await scene.check(alpha=alpha, beta=beta, quarantine=strangers)
    for item in after:
        if item["client_id"] == "alpha":
            assert item["level"] == "hipaa"
            assert all(record["privacy"]["level"] == "hipaa" for record in item["records"])
            assert "@mail.example" not in json.dumps(item["records"])
    others = {item["key"] for item in before if item["client_id"] != "alpha"}
    assert others == {item["key"] for item in after if item["client_id"] != "alpha"}, "neighbours stay as they are"
    assert not {item["key"] for item in before if item["client_id"] == "alpha"} & {item["key"] for item in after}

    again = await scene.replay("alpha", source="raw")
    assert again["cells"]["changed"] == 0, "raw files give what Kafka gave, byte by byte"
    assert [item["key"] for item in await scene.objects()] == [item["key"] for item in after]

    ledger = await scene.ledger()
    with pytest.raises(ConfigError, match="there is no such client"):
        await scene.replay("nobody")
    with pytest.raises(ConfigError, match="beyond what has been processed"):
        await scene.replay("alpha", first_hour=scene.order().last_hour + timedelta(hours=2))
    await scene.client("alpha", "hipaa", is_active=False)
    with pytest.raises(ConfigError, match="not active"):
        await scene.replay("alpha")
    assert await scene.ledger() == ledger


async def test_quarantined_events_whose_domain_is_registered_go_to_its_client_once_and_the_rest_stays(
    scene: ReplayScene,
) -> None:
    alpha = await scene.insert(20, None, "alpha.example")
    late = await scene.insert(25, None, "late.example") | await scene.insert(5, "newcomer")
    strangers = await scene.insert(10, None, "nobody.example")
    await scene.settled()
    await scene.check(alpha=alpha, quarantine=late | strangers)
    await scene.client("newcomer", "gdpr", "late.example")
    await scene.client("alpha", "hipaa")  # must not matter: only the quarantine is replayed

    assert (await scene.replay("alpha", quarantine=True))["cells"]["changed"] == 0, "nothing of it is alpha's"
    two = await asyncio.gather(scene.replay(quarantine=True), scene.replay(quarantine=True, source="raw"))
    assert sum(said["cells"]["changed"] for said in two) == 1, "two at once: one of them finds it done"
    objects = await scene.check(alpha=alpha, newcomer=late, quarantine=strangers)
    assert {item["level"] for item in objects if item["client_id"] == "newcomer"} == {"gdpr"}
    assert {item["level"] for item in objects if item["client_id"] == "alpha"} == {"standard"}
    assert (await scene.replay(quarantine=True))["cells"]["changed"] == 0


async def test_dropped_events_whose_domain_has_moved_go_to_whom_they_belong_now(
    stack: Stack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drops = {"privacy_level": PrivacyLevel.GDPR, "lawful_basis": "", "consent_mode": ConsentMode.DROP}
    async with open_replay_scene(stack, tmp_path, monkeypatch, **drops) as scene:
        # GIVEN a group of events that the source names no client for, of which one client's were dropped
        dropped = await scene.insert(25, None, "one-site", "alpha.example")
        beta = await scene.insert(15, None, "one-site", "beta.example")
        strangers = await scene.insert(5, None, "one-site", "nobody.example")
        await scene.settled()
        assert {item["client_id"] for item in await scene.objects()} == {"beta", ""}
        # WHEN its domain moves to the other client, for the past too, and the first one's hours are replayed
        await scene.client("alpha", "gdpr", domains=())
        await scene.client("beta", "gdpr", "alpha.example", "beta.example")
        said = await scene.replay("alpha")
        # THEN they are the other one's, each once
        assert said["before"] == {"dropped_consent": 25}
        assert said["after"] == {"out": 25}
        assert all(cell["clients_after"].keys() == {"beta"} for cell in said["by_cell"])
        await scene.check(alpha=set(), beta=beta | dropped, quarantine=strangers)


async def test_killed_anywhere_a_replay_has_changed_whole_cells_or_nothing_and_is_resumed(scene: ReplayScene) -> None:
    alpha = await scene.insert(100, "alpha") | await scene.insert(50, None, "alpha.example")
    beta = await scene.insert(80, "beta") | await scene.insert(20, None, "beta.example")
    await scene.settled()
    hours = ("--since", f"{await scene.first_hour():%Y-%m-%dT%H}", "--until", f"{scene.order().last_hour:%Y-%m-%dT%H}")
    for replay_id, (failpoint, level, cells_changed) in enumerate(
        (
            ("replay.after_put:2", "hipaa", 0),  # of three objects at least
            ("replay.before_record", "standard", 0),
            ("replay.before_commit", "gdpr", 0),
            ("replay.after_commit", "hipaa", 1),
        ),
        start=1,
    ):
        for client_id in ("alpha", "beta"):
            await scene.client(client_id, level)
        before = {item["key"] for item in await scene.objects()}
        status, _, errors = await scene.command(*hours, failpoint=failpoint)
        assert status == -signal.SIGKILL, errors
        objects = await scene.check(alpha=alpha, beta=beta)
        changed = {cell_of(item) for item in objects if item["key"] not in before}
        unchanged = {cell_of(item) for item in objects if item["key"] in before}
        assert len(changed) == cells_changed, failpoint
        assert not changed & unchanged, "a cell is as it was, or all new"

        said: list[dict[str, Any]] = []
        if replay_id % 2:
            await run_requested(ProcessorSettings.load(), said.append)
        else:
            await resume(ProcessorSettings.load(), replay_id, said.append)
        assert [(done["replay_id"], done["cells"]["changed"]) for done in said] == [
            (replay_id, len(changed | unchanged))
        ]
        objects = await scene.check(alpha=alpha, beta=beta)
        assert {item["level"] for item in objects} == {level}
        with pytest.raises(ConfigError, match=f"replay {replay_id} is finished"):
            await resume(ProcessorSettings.load(), replay_id, print)


def cell_of(item: dict[str, Any]) -> tuple[str, str]:
    return item["client_id"], "/".join(item["key"].split("/")[2:4])


async def test_live_traffic_into_the_hour_that_is_replayed_loses_and_doubles_nothing(scene: ReplayScene) -> None:
    alpha = await scene.insert(200, "alpha")
    await scene.settled()
    stop = asyncio.Event()

    async def traffic() -> None:
        while not stop.is_set():
            alpha.update(await scene.insert(20, "alpha"))
            await asyncio.sleep(0.02)

    load = asyncio.create_task(traffic())
    for level, source in (("gdpr", "kafka"), ("hipaa", "raw"), ("standard", "auto"), ("gdpr", "auto")):
        await scene.client("alpha", level)
        assert (await scene.replay("alpha", source=source))["cells"]["changed"] >= 1
    stop.set()
    await load
    await scene.settled()
    await scene.check(alpha=alpha)
    await scene.replay("alpha")
    assert {item["level"] for item in await scene.check(alpha=alpha)} == {"gdpr"}


async def test_a_cell_whose_events_are_not_what_the_ledger_counted_is_refused_and_stays_as_it_is(
    scene: ReplayScene,
) -> None:
    alpha, beta = await scene.insert(40, "alpha"), await scene.insert(40, "beta")
    await scene.settled()
    await scene.client("alpha", "hipaa")
    await scene.client("beta", "hipaa")
    tamper = (
        "UPDATE pipeline.chunk_counts SET events = events + %s WHERE (chunk_id, hour) ="
        " (SELECT min(chunk_id::text)::uuid, min(hour) FROM pipeline.chunk_counts WHERE client_id = 'alpha')"
        " RETURNING 1"
    )
    await scene.scene.fetch(tamper, 1)
    before = {item["key"] for item in await scene.objects() if item["client_id"] == "alpha"}
    with pytest.raises(ReplayFailedError, match=r"alpha.*: \d+ events by the ledger, \d+ found"):
        await scene.replay()
    levels = {(item["client_id"], item["level"]) for item in await scene.objects()}
    assert levels == {("alpha", "standard"), ("beta", "hipaa")}
    assert before == {item["key"] for item in await scene.objects() if item["client_id"] == "alpha"}
    await scene.scene.fetch(tamper, -1)
    await scene.check(alpha=alpha, beta=beta)

    await scene.forget_kafka()
    with pytest.raises(PermanentError, match="Kafka holds offsets"):
        await scene.replay("alpha", source="kafka")
    assert (await scene.replay("alpha", dry_run=True))["by_cell"][0]["source"] == "raw"
    await scene.forget_raw()
    ledger = await scene.ledger()
    with pytest.raises(PermanentError, match="retention may have removed it"):
        await scene.replay("alpha", dry_run=True)
    assert await scene.ledger() == ledger
    await scene.check(alpha=alpha, beta=beta)
