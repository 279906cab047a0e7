"""Plans: every object in exactly one file, files within their bounds, keys unique, the same input the same plan."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from database.ledger.delivery_plans import PendingObject
from syncer.plan import plan_files

HOUR = datetime(2026, 11, 23, 5, tzinfo=UTC)


@st.composite
def object_lists(draw: st.DrawFn) -> list[PendingObject]:
    ids = draw(st.lists(st.integers(1, 10_000), unique=True, max_size=60))
    return [
        PendingObject(
            id=number,
            hour=HOUR + timedelta(hours=draw(st.integers(0, 3))),
            events=draw(st.integers(1, 9)),
            bytes=draw(st.integers(1, 500)),
            privacy_level=draw(st.sampled_from(["standard", "hipaa"])),
            policy_version=draw(st.sampled_from(["v1", "v2"])),
        )
        for number in ids
    ]


@given(object_lists(), st.integers(1, 1000), st.randoms())
def test_plan_holds_every_object_once_within_bounds(objects: list[PendingObject], cap: int, random: object) -> None:
    files = plan_files(objects, prefix="p/", run_key="20261123T0500-hourly", max_bytes=cap)
    by_id = {item.id: item for item in objects}
    assert Counter(member for file in files for member in file.members) == Counter(by_id.keys())
    assert len({file.key for file in files}) == len(files)
    for number, file in enumerate(files, start=1):
        members = [by_id[member] for member in file.members]
        assert file.key == f"p/events/{file.hour:dt=%Y-%m-%d/hr=%H}/20261123T0500-hourly-{number:05d}.ndjson.gz"
        assert {(m.hour, m.policy_version) for m in members} == {(file.hour, file.policy_version)}
        assert len({m.privacy_level for m in members}) == 1
        assert list(file.members) == sorted(file.members)
        assert len(members) == 1 or sum(m.bytes for m in members) <= cap
    shuffled = list(objects)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert plan_files(shuffled, prefix="p/", run_key="20261123T0500-hourly", max_bytes=cap) == files


def test_files_are_filled_before_the_next_one_begins() -> None:
    objects = [
        PendingObject(id=n, hour=HOUR, events=1, bytes=40, privacy_level="standard", policy_version="v")
        for n in range(1, 6)
    ]
    files = plan_files(objects, prefix="", run_key="20261123T0500-hourly", max_bytes=100)
    assert [file.members for file in files] == [(1, 2), (3, 4), (5,)]


def test_nothing_pending_is_an_empty_plan() -> None:
    assert plan_files([], prefix="", run_key="20261123T0500-hourly", max_bytes=1) == []
