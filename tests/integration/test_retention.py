"""Retention: only what is old and needed by nobody goes, the dry run says the same, and the ledger still balances."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest
from pydantic import SecretStr

from database.ledger.records import LAYOUTS
from database.retention.pipeline import retain
from database.retention.report import Report
from database.retention.settings import RetentionSettings
from local.stack import Stack
from pipeline.errors import PermanentError
from pipeline.gzip import member
from pipeline.s3 import digest, open_bucket
from tests.integration import roles
from tests.integration.cleaner_scene import SLOT, open_scene
from tests.integration.test_reconcile import TOPIC, Ledger

DAY = 86400


@pytest.fixture
async def ledger(stack: Stack) -> AsyncIterator[Ledger]:
    """60 events, exported, processed, delivered, their rows deleted; all of it two days old."""
    async with open_scene(stack) as scene:
        made = Ledger(scene)
        await made.build()
        await scene.turns(2)
        assert await scene.rows_left() == 0
        for table, columns in (
            ("raw_objects", ("exported_at", "verified_at", "stamped_at", "deleted_at")),
            ("chunks", ("committed_at",)),
            ("sync_runs", ("started_at", "finished_at")),
        ):
            await scene.execute(
                f"UPDATE pipeline.{table} SET " + ", ".join(f"{c} = {c} - interval '2 days'" for c in columns)
            )
        name = scene.access.bucket
        key = await roles.user(scene.stack.aws, "Retention", raw=name, processed=name)
        made.role = replace(scene.access, access_key=SecretStr(key.key_id), secret_key=SecretStr(key.secret))
        yield made


def settings(ledger: Ledger, **changes: Any) -> RetentionSettings:
    access = ledger.role
    bucket = {
        f"{part}_s3_{name}": getattr(access, name)
        for part in ("raw", "processed")
        for name in ("bucket", "endpoint_url", "access_key", "secret_key")
    }
    values: dict[str, Any] = {
        "database_url": ledger.scene.environment["DATABASE_URL"],
        "replication_slot": SLOT,
        "kafka_raw_topic": TOPIC,
        **bucket,
    }
    return RetentionSettings(**{**values, **changes})


async def keys(ledger: Ledger, *prefixes: str) -> set[str]:
    return {item.key for prefix in prefixes or ("",) async for item in ledger.scene.bucket.list(prefix)}


async def run(ledger: Ledger, **changes: Any) -> Report:
    """A dry run, which must change nothing, then the real one, which must do what was said."""
    before = await keys(ledger)
    foretold = await retain(settings(ledger, **changes), dry_run=True)
    assert await keys(ledger) == before
    report = await retain(settings(ledger, **changes))
    assert report.deleted == foretold.deleted
    return report


async def test_nothing_goes_before_its_time(ledger: Ledger) -> None:
    before = await keys(ledger)
    report = await run(ledger)
    assert not any(amount.count for amount in report.deleted.values())
    assert await keys(ledger) == before


async def test_what_is_old_goes_and_the_ledger_balances_before_and_after_its_rows_go(ledger: Ledger) -> None:
    """GIVEN everything delivered, THEN objects go, quarantined events expire, and in the end the ledger's old rows go
    too, but for the last of each chain."""
    report = await run(
        ledger, raw_retention_days=1, processed_retention_days=1, quarantine_retention_days=1, held_retention_days=1
    )
    assert report.deleted["raw"].count == len(ledger.raw) == 3
    assert report.deleted["raw"].events == 60
    quarantine = {key for key in ledger.keys if key.startswith("quarantine/")}
    assert report.deleted["quarantine"].count == len(quarantine) > 0
    assert report.problems == []
    assert await keys(ledger, "raw-events/", "processed-events/", "quarantine/") == set()
    assert await ledger.imbalances() == []

    hours = "hour = hour - interval '2 days'"
    for table, change in (
        ("raw_counts", hours), ("chunk_counts", hours), ("processed_objects", hours), ("delivery_files", hours),
        ("raw_objects", "max_commit_time = max_commit_time - interval '2 days',"
                        " min_commit_time = min_commit_time - interval '2 days'"),
    ):  # fmt: skip
        await ledger.scene.execute(f"UPDATE pipeline.{table} SET {change}")
    assert await ledger.imbalances() == []
    report = await retain(settings(ledger, ledger_retention_days=1))
    assert report.deleted["ledger_raw_objects"].count == 2
    assert report.deleted["ledger_chunks"].count == 0, "a client's last run keeps its chunks"
    for client in range(3):
        await ledger.scene.execute(
            "INSERT INTO pipeline.sync_runs (client_id, run_key, frequency, status, bucket, prefix, finished_at,"
            " manifest, manifest_sha256)"
            " VALUES (%s, 'later', 'hourly', 'finished', 'b', '', now(), '{\"files\": []}', 'x')",
            f"client-{client}",
        )  # fmt: skip
    report = await retain(settings(ledger, ledger_retention_days=1))
    assert report.deleted["ledger_deliveries"].count == 3
    assert report.deleted["ledger_chunks"].count == len(ledger.chunks) - 2
    assert report.problems == []
    found = {item.kind for item in await ledger.imbalances()}
    assert found <= {"manifest_missing"}, "of the runs that this test made up"
    assert await ledger.scene.value("SELECT count(*) FROM pipeline.raw_objects") == 1
    assert await ledger.scene.value("SELECT count(*) FROM pipeline.audit_log WHERE action = 'retention.applied'") >= 2


OF_CLIENT_1 = "(SELECT id FROM pipeline.delivery_files WHERE key = 'events/client-1.gz')"

# (what is done, how it is undone, class, how many of it may still go)
KEEPING = {
    "rows of it still stand in events_log": (
        "UPDATE pipeline.raw_objects SET deleted_at = NULL WHERE id = %(raw0)s",
        "UPDATE pipeline.raw_objects SET deleted_at = now() WHERE id = %(raw0)s", "raw", 2,
    ),
    "the cleaner has a doubt about it": (
        "UPDATE pipeline.raw_objects SET cleanup_problem = 'changed' WHERE id = %(raw0)s",
        "UPDATE pipeline.raw_objects SET cleanup_problem = NULL WHERE id = %(raw0)s", "raw", 2,
    ),
    "not all of it is processed": (
        "UPDATE pipeline.consumer_positions SET last_sequence = last_sequence - 1 WHERE partition = 0",
        "UPDATE pipeline.consumer_positions SET last_sequence = last_sequence + 1 WHERE partition = 0", "raw", 2,
    ),
    "it lies in another bucket": (
        "UPDATE pipeline.raw_objects SET bucket = 'other' || bucket WHERE id = %(raw0)s",
        "UPDATE pipeline.raw_objects SET bucket = substr(bucket, 6) WHERE id = %(raw0)s", "raw", 2,
    ),
    "its file is not delivered": (
        f"UPDATE pipeline.delivery_files SET state = 'planned' WHERE id = {OF_CLIENT_1}",
        f"UPDATE pipeline.delivery_files SET state = 'delivered' WHERE id = {OF_CLIENT_1}", "processed", 6,
    ),
    "its run is not finished": (
        "UPDATE pipeline.sync_runs SET status = 'running', finished_at = NULL WHERE client_id = 'client-1'",
        "UPDATE pipeline.sync_runs SET status = 'finished', finished_at = now() WHERE client_id = 'client-1'",
        "processed", 6,
    ),
    "its file has to be delivered again": (
        "INSERT INTO pipeline.delivery_replacements (file_id, old_events, old_bytes, old_sha256)"
        f" SELECT id, events, bytes, sha256 FROM pipeline.delivery_files WHERE id = {OF_CLIENT_1}",
        "DELETE FROM pipeline.delivery_replacements", "processed", 6,
    ),
}  # fmt: skip


async def test_what_somebody_still_needs_stays_however_old(ledger: Ledger) -> None:
    """Each reason by itself keeps exactly the objects that it is about."""
    names = {f"raw{n}": item.id for n, item in enumerate(ledger.raw)}
    days = {"raw_retention_days": 1, "processed_retention_days": 1}
    for reason, (do, undo, kind, gone) in KEEPING.items():
        await ledger.scene.execute(do % names)
        report = await retain(settings(ledger, **days), dry_run=True)
        await ledger.scene.execute(undo % names)
        assert report.deleted[kind].count == gone, reason
    full = await retain(settings(ledger, **days), dry_run=True)
    assert (full.deleted["raw"].count, full.deleted["processed"].count) == (3, 9)


async def test_undelivered_objects_go_only_when_somebody_decided_so(ledger: Ledger) -> None:
    await ledger.scene.execute(
        "DELETE FROM pipeline.delivery_members; UPDATE pipeline.sync_runs SET manifest = '{\"files\": []}';"
        "DELETE FROM pipeline.delivery_files"
    )
    report = await retain(settings(ledger, processed_retention_days=1), dry_run=True)
    assert report.deleted["processed"].count == 0
    assert report.kept["processed, not delivered"].count == 9
    report = await retain(settings(ledger, processed_retention_days=1, undelivered_retention_days=1))
    assert (report.deleted["undelivered"].count, report.deleted["processed"].count) == (9, 0)
    assert await keys(ledger, "processed-events/") == set()
    found = {item.kind for item in await ledger.imbalances()}
    assert found <= {"manifest_changed"}, found


async def test_orphans_go_and_what_a_set_back_ledger_lacks_does_not(ledger: Ledger) -> None:
    """GIVEN objects beside the ledger's, THEN those go that the ledger has gone past; an object behind its end stays,
    and so does everything when there is too much of it."""
    scene, key = ledger.scene, ledger.keys[0]
    orphan = key.replace(ledger.chunks[0], "00000000-0000-4000-8000-000000000000")
    ahead = orphan.replace(f"{0:020d}", f"{10**9:020d}")
    raw = ledger.raw[1].key
    raw_orphan, raw_ahead = _other_end(raw), _behind(raw)
    for name in (orphan, ahead, raw_orphan, raw_ahead):
        await scene.overwrite(name, member(b"{}\n"))
    report = await retain(settings(ledger).model_copy(update={"orphan_retention_days": -1}))
    assert report.deleted["orphans"].count == 2
    left = await keys(ledger)
    assert left.isdisjoint({orphan, raw_orphan})
    assert left >= {ahead, raw_ahead}
    assert left >= set(ledger.keys)


async def test_the_job_may_neither_read_nor_write_events(ledger: Ledger) -> None:
    """All tests of this file delete with the job's own key; WHEN it reads or writes, THEN the store refuses."""
    async with open_bucket(ledger.role) as bucket:
        for name in await keys(ledger):
            with pytest.raises(PermanentError, match="AccessDenied"):
                await bucket.get(name)
        for name in ("raw-events/x", "processed-events/x", "manifests/x", "ledger/chunks/x"):
            with pytest.raises(PermanentError, match="AccessDenied"):
                await bucket.create(name, b"x", sha256=digest(b"x"), metadata={})
        with pytest.raises(PermanentError, match="AccessDenied"):
            await bucket.delete([f"{LAYOUTS}topic/x.json"])


def _other_end(key: str) -> str:
    """The key of a raw object that begins where this one does and ends elsewhere."""
    return key[: -len("00000.ndjson.gz")] + "99999.ndjson.gz"


def _behind(key: str) -> str:
    """The key of a raw object of a much later position."""
    folder, _, name = key.rpartition("/")
    return f"{folder}/{name.replace('-00000000', '-0000FFFF')}"
