"""Which clients a tick makes due, and which are left out for which reason."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from database.ledger.delivery_status import SyncState
from pipeline.clients import Client, ClientId, SyncFrequency, UnreadableClient
from pipeline.syncqueue import Tick
from syncer.due import due_clients, is_due, is_overdue, stale, why_not

CLIENT = Client(
    client_id=ClientId("c"),
    sync_enabled=True,
    client_s3_bucket="b",
    client_s3_access_key="k",
    client_s3_secret_key="s",
)


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def tick(frequency: str, time: str) -> Tick:
    return Tick(frequency=SyncFrequency(frequency), time=at(time))


def state(key: str | None, *, is_open: bool = False, under_way: bool = False) -> SyncState:
    return SyncState(client_id="c", last_finished_key=key, open=is_open, under_way=under_way, failed=is_open)


@pytest.mark.parametrize(
    ("frequency", "last", "ticked", "time", "due"),
    [
        # own tick, hourly: the minute counts, so a rule of one minute makes a run each minute
        ("hourly", "20261123T0459-hourly", "hourly", "2026-11-23T05:00:00", True),
        ("hourly", "20261123T0500-hourly", "hourly", "2026-11-23T05:00:40", False),  # the tick again
        ("hourly", "20261123T0501-hourly", "hourly", "2026-11-23T05:00:00", False),  # a tick that came late
        ("hourly", "20261123T050030-manual", "hourly", "2026-11-23T05:00:00", False),
        # own tick, daily and weekly: once in the day or week
        ("daily", "20261122T2359-daily", "daily", "2026-11-23T00:15:00", True),
        ("daily", "20261123T0001-daily", "daily", "2026-11-23T23:59:00", False),
        ("weekly", "20261122T2359-weekly", "weekly", "2026-11-23T00:25:00", True),  # a Monday
        ("weekly", "20261123T0000-weekly", "weekly", "2026-11-29T23:59:00", False),
        # foreign tick: good for what was lost, no more
        ("hourly", "20261123T0405-hourly", "daily", "2026-11-23T05:05:00", False),
        ("hourly", "20261123T0405-hourly", "daily", "2026-11-23T05:15:00", True),
        ("daily", "20261122T0600-daily", "hourly", "2026-11-23T00:05:00", False),  # the operator's hour is kept
        ("daily", "20261122T0600-daily", "hourly", "2026-11-23T06:05:00", True),
        ("weekly", "20261116T0025-weekly", "hourly", "2026-11-23T00:05:00", False),
        ("weekly", "20261116T0025-weekly", "hourly", "2026-11-23T01:05:00", True),
    ],
)
def test_due_when_no_finished_run_in_the_period(frequency: str, last: str, ticked: str, time: str, due: bool) -> None:
    assert is_due(SyncFrequency(frequency), state(last), tick(ticked, time)) is due


@pytest.mark.parametrize("found", [None, state(None), state("20991231T0000-hourly", is_open=True)])
def test_new_clients_and_unfinished_runs_are_due_at_any_tick(found: SyncState | None) -> None:
    assert is_due(SyncFrequency.WEEKLY, found, tick("hourly", "2026-11-23T05:00:00"))


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({}, None),
        ({"client_s3_access_key": "", "client_s3_secret_key": "", "client_s3_role_arn": "arn"}, None),
        ({"is_active": False}, "inactive"),
        ({"sync_enabled": False}, "sync is not enabled"),
        ({"client_s3_bucket": ""}, "no bucket configured"),
        ({"client_s3_secret_key": ""}, "neither a role nor keys configured"),
    ],
)
def test_reason_names_what_is_missing(changes: dict[str, Any], reason: str | None) -> None:
    assert why_not(replace(CLIENT, **changes)) == reason


def test_unknown_and_unreadable_clients_have_a_reason() -> None:
    assert why_not(None) == "unknown client"
    broken = UnreadableClient(client_id=ClientId("x"), reason="r", updated_at=at("2026-11-23"))
    assert why_not(broken) == "its settings can't be read"


def test_tick_makes_one_order_per_due_client_and_counts_the_others() -> None:
    clients = [
        replace(CLIENT, client_id=ClientId("due")),
        replace(CLIENT, client_id=ClientId("daily"), sync_frequency=SyncFrequency.DAILY),
        replace(CLIENT, client_id=ClientId("off"), sync_enabled=False),
        replace(CLIENT, client_id=ClientId("busy")),
        replace(CLIENT, client_id=ClientId("done")),
    ]
    states = {"busy": state(None, is_open=True, under_way=True), "done": state("20261123T0500-hourly")}
    orders, skipped = due_clients(clients, states, tick("hourly", "2026-11-23T05:00:59"))
    assert [(order.client_id, order.run_key) for order in orders] == [
        ("due", "20261123T0500-hourly"),
        ("daily", "20261123T0500-daily"),
    ]
    assert skipped == {"sync is not enabled": 1, "under way": 1, "not due": 1}


def test_only_ticks_that_a_later_one_has_overtaken_are_stale() -> None:
    old = tick("hourly", "2026-11-23T05:00:00")
    assert not stale(old, old.time + timedelta(minutes=59))
    assert stale(old, old.time + timedelta(minutes=61))
    assert not stale(tick("daily", "2026-11-23T05:00:00"), old.time + timedelta(hours=23))


def test_client_without_a_finished_run_for_two_periods_is_overdue() -> None:
    now = at("2026-11-23T12:00:00")
    hourly = replace(CLIENT, created_at=at("2026-11-01"))
    assert is_overdue(hourly, None, now)
    assert is_overdue(hourly, state("20261123T0959-hourly"), now)
    assert not is_overdue(hourly, state("20261123T1000-hourly"), now)
    assert not is_overdue(replace(hourly, sync_frequency=SyncFrequency.DAILY), state("20261123T0500-hourly"), now)
    assert not is_overdue(replace(hourly, created_at=now - timedelta(hours=1)), None, now)  # it is new
