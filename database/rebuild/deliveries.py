"""Deliveries: from the records of plans and the copies of manifests, and the revisions of what they delivered.

A plan's record is written once the plan is committed and before the client gets a byte of it; the copy of a manifest
once all of its files are in the client's bucket. So a plan without a manifest is a run that somebody has to finish.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from urllib.parse import unquote

import orjson
from psycopg import AsyncConnection

from database.ledger.records import MANIFESTS, PLANS, Plan, PlannedFile, decode_plan, plan_name
from database.rebuild.report import Report
from pipeline.errors import PermanentError, PoisonError
from pipeline.s3 import ObjectStore

_MANIFEST_KEY = re.compile(rf"{MANIFESTS}([^/]+)/([^/]+)\.json")

_UNREADABLE = "can't be read: as long as it is there, the syncer takes it for a run that the ledger has lost"

RunName = tuple[str, str]
"""(client_id, run_key)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """The copy of a manifest. `bucket` and `prefix`: where the original is; None when the copy doesn't say."""

    text: str
    document: Mapping[str, Any]
    bucket: str | None
    prefix: str | None
    modified_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Deliveries:
    """What S3 says of deliveries that the ledger doesn't know as finished."""

    plans: Mapping[RunName, Plan]
    manifests: Mapping[RunName, Manifest]

    @property
    def members(self) -> frozenset[str]:
        """Keys of processed objects that are in a plan."""
        return frozenset(key for plan in self.plans.values() for file in plan.files for key in file.members)


@dataclass(frozen=True, slots=True, kw_only=True)
class Membership:
    """That an object belongs into a file of the ledger; entered when the object is there."""

    file_id: int
    ordinal: int
    key: str


async def read(ledger: AsyncConnection, bucket: ObjectStore, report: Report) -> Deliveries:
    """Read the records of all runs that the ledger doesn't have as finished."""
    cursor = await ledger.execute("SELECT client_id, run_key FROM pipeline.sync_runs WHERE status = 'finished'")
    finished: set[RunName] = {(row[0], row[1]) for row in await cursor.fetchall()}
    report.known["deliveries"] = len(finished)
    plans: dict[RunName, Plan] = {}
    async for item in bucket.list(PLANS):
        name = plan_name(item.key)
        if name is None or name in finished:
            continue
        try:
            plans[name] = decode_plan(await bucket.get(item.key))
        except (PoisonError, PermanentError):
            report.doubt(f"{item.key} {_UNREADABLE}")
    manifests: dict[RunName, Manifest] = {}
    async for item in bucket.list(MANIFESTS):
        match = _MANIFEST_KEY.fullmatch(item.key)
        if match is None or (match[1], match[2]) in finished:
            continue
        try:
            body, metadata = await bucket.fetch(item.key)
            manifests[match[1], match[2]] = Manifest(
                text=body.decode(),
                document=orjson.loads(body),
                bucket=metadata.get("bucket"),
                prefix=unquote(metadata["prefix"]) if "prefix" in metadata else None,
                modified_at=item.modified_at,
            )
        except (PermanentError, ValueError):
            report.doubt(f"{item.key} {_UNREADABLE}")
    return Deliveries(plans=plans, manifests=manifests)


async def restore(ledger: AsyncConnection, found: Deliveries, report: Report) -> list[Membership]:
    """Enter all runs with their files, each client's in the order of run keys; returns what is in the files."""
    names = sorted({*found.plans, *found.manifests}, key=lambda name: (name[1], name[0]))
    newest = dict(names)
    memberships: list[Membership] = []
    for name in names:
        plan, manifest = found.plans.get(name), found.manifests.get(name)
        await _forget(ledger, name)
        if manifest is None:
            assert plan is not None
            is_last = newest[name[0]] == name[1] and not await _has_open_run(ledger, name[0])
            memberships += await (_open(ledger, plan) if is_last else _close(ledger, plan, report))
        else:
            memberships += await _finished(ledger, name, manifest, plan, report)
        report.restored["deliveries"] += 1
    return memberships


async def _forget(ledger: AsyncConnection, name: RunName) -> None:
    """The run as an older ledger knew it: planned and not finished."""
    values = {"client": name[0], "key": name[1]}
    for query in (
        "UPDATE pipeline.delivery_replacements p SET run_id = NULL FROM pipeline.sync_runs r"
        " WHERE p.run_id = r.id AND p.state = 'open' AND r.client_id = %(client)s AND r.run_key = %(key)s",
        "DELETE FROM pipeline.delivery_members m USING pipeline.delivery_files f, pipeline.sync_runs r"
        " WHERE m.file_id = f.id AND f.run_id = r.id AND r.client_id = %(client)s AND r.run_key = %(key)s",
        "DELETE FROM pipeline.delivery_files f USING pipeline.sync_runs r"
        " WHERE f.run_id = r.id AND r.client_id = %(client)s AND r.run_key = %(key)s",
        "DELETE FROM pipeline.sync_runs WHERE client_id = %(client)s AND run_key = %(key)s",
    ):
        await ledger.execute(query, values)


async def _has_open_run(ledger: AsyncConnection, client_id: str) -> bool:
    cursor = await ledger.execute(
        "SELECT FROM pipeline.sync_runs WHERE client_id = %s AND status <> 'finished'", (client_id,)
    )
    return cursor.rowcount > 0


async def _open(ledger: AsyncConnection, plan: Plan) -> list[Membership]:
    """A run that the syncer will finish under its own keys: what is in the client's bucket already is written again."""
    run_id = await _insert_run(ledger, plan, "running")
    memberships: list[Membership] = []
    for file in plan.files:
        cursor = await ledger.execute(
            "INSERT INTO pipeline.delivery_files (run_id, bucket, key, hour, policy_version, state)"
            " VALUES (%s, %s, %s, %s, %s, 'planned') RETURNING id",
            (run_id, plan.bucket, file.key, file.hour, file.policy_version),
        )
        memberships += _memberships(await _id(cursor), file)
    return memberships


async def _close(ledger: AsyncConnection, plan: Plan, report: Report) -> list[Membership]:
    """A run of which the manifest's copy is lost, though later runs followed on it: it was finished."""
    report.doubt(
        f"manifest {plan.run_key} of client {plan.client_id} has no copy any more: what was planned for it counts as"
        " delivered"
    )
    files = [
        {"bucket": plan.bucket, "key": file.key, "hour": file.hour, "events": 0, "bytes": 0, "sha256": "",
         "policy_version": file.policy_version, "first_commit_time": None, "last_commit_time": None}
        for file in plan.files
    ]  # fmt: skip
    text = orjson.dumps({"rebuilt": True, "files": files}).decode()
    manifest = Manifest(
        text=text,
        document=orjson.loads(text),
        bucket=plan.bucket,
        prefix=plan.prefix,
        modified_at=plan.started_at,
    )
    return await _finished(ledger, (plan.client_id, plan.run_key), manifest, plan, report)


async def _finished(
    ledger: AsyncConnection, name: RunName, manifest: Manifest, plan: Plan | None, report: Report
) -> list[Membership]:
    client_id, run_key = name
    files = manifest.document["files"]
    prefix = manifest.prefix if manifest.prefix is not None else plan.prefix if plan else ""
    bucket = manifest.bucket or (plan.bucket if plan else files[0]["bucket"] if files else "")
    through = manifest.document.get("complete_through")
    run = Plan(
        client_id=client_id,
        run_key=run_key,
        frequency=plan.frequency if plan else run_key.rpartition("-")[2],
        bucket=bucket,
        prefix=prefix,
        started_at=_time(manifest.document.get("generated_at")) or manifest.modified_at,
        complete_through=_time(through),
        files=(),
    )
    run_id = await _insert_run(ledger, run, "finished", manifest)
    planned = {file.key[len(plan.prefix) :]: file for file in plan.files} if plan else {}
    memberships: list[Membership] = []
    for entry in files:
        cursor = await ledger.execute(
            "INSERT INTO pipeline.delivery_files (run_id, bucket, key, hour, policy_version, state, events, bytes,"
            " sha256, first_commit_time, last_commit_time, delivered_at)"
            " VALUES (%s, %s, %s, %s, %s, 'delivered', %s, %s, %s, %s, %s, %s) RETURNING id",
            (run_id, entry["bucket"], entry["key"], _time(entry["hour"]), entry["policy_version"], entry["events"],
             entry["bytes"], entry["sha256"], _time(entry["first_commit_time"]), _time(entry["last_commit_time"]),
             manifest.modified_at),
        )  # fmt: skip
        file_id = await _id(cursor)
        # The run may have moved to another prefix; what follows on it stays.
        file = next((item for suffix, item in planned.items() if entry["key"].endswith(suffix)), None)
        if file is not None:
            memberships += _memberships(file_id, file)
        else:
            await _withhold(ledger, client_id, file_id, entry, report)
    return memberships


async def _withhold(
    ledger: AsyncConnection, client_id: str, file_id: int, entry: Mapping[str, Any], report: Report
) -> None:
    """What is in a delivered file is not known: all that may be in it counts as delivered."""
    cursor = await ledger.execute(
        "INSERT INTO pipeline.delivery_members (file_id, ordinal, processed_object_id)"
        " SELECT %s, row_number() OVER (ORDER BY o.id), o.id FROM pipeline.processed_objects o"
        " WHERE o.kind = 'client' AND o.client_id = %s AND o.hour = %s AND o.min_commit_time <= %s"
        " AND NOT EXISTS (SELECT FROM pipeline.delivery_members m WHERE m.processed_object_id = o.id)",
        (file_id, client_id, _time(entry["hour"]), _time(entry["last_commit_time"])),
    )
    report.doubt(
        f"{entry['key']} was delivered to client {client_id}, but the record of its plan is lost: {cursor.rowcount}"
        " objects of its hour count as delivered; a replay of the hour would show whether any was not"
    )


async def enter_members(ledger: AsyncConnection, memberships: Sequence[Membership]) -> list[Membership]:
    """Enter what is in the files, and how many events each file lost on the way; returns those without their object."""
    await ledger.execute("DROP TABLE IF EXISTS pg_temp.rebuilt_members")
    await ledger.execute("CREATE TEMPORARY TABLE rebuilt_members (file_id bigint, ordinal integer, key text)")
    async with ledger.cursor() as cursor, cursor.copy("COPY rebuilt_members FROM STDIN") as copy:
        for item in memberships:
            await copy.write_row((item.file_id, item.ordinal, item.key))
    await ledger.execute(
        "INSERT INTO pipeline.delivery_members (file_id, ordinal, processed_object_id)"
        " SELECT r.file_id, r.ordinal, o.id FROM rebuilt_members r JOIN pipeline.processed_objects o ON o.key = r.key"
        " WHERE NOT EXISTS (SELECT FROM pipeline.delivery_members m WHERE m.processed_object_id = o.id)"
    )
    await ledger.execute(
        "UPDATE pipeline.delivery_files f SET dropped_at_delivery = greatest(0, m.events - f.events) FROM"
        " (SELECT m.file_id, sum(o.events)::bigint AS events FROM pipeline.delivery_members m"
        " JOIN pipeline.processed_objects o ON o.id = m.processed_object_id"
        " WHERE m.file_id IN (SELECT file_id FROM rebuilt_members) GROUP BY 1) m"
        " WHERE m.file_id = f.id AND f.state = 'delivered'"
    )
    cursor_left = await ledger.execute(
        "SELECT r.file_id, r.ordinal, r.key FROM rebuilt_members r WHERE NOT EXISTS"
        " (SELECT FROM pipeline.processed_objects o WHERE o.key = r.key) ORDER BY r.key"
    )
    return [Membership(file_id=row[0], ordinal=row[1], key=row[2]) for row in await cursor_left.fetchall()]


def _memberships(file_id: int, file: PlannedFile) -> list[Membership]:
    return [Membership(file_id=file_id, ordinal=n, key=key) for n, key in enumerate(file.members)]


async def _insert_run(ledger: AsyncConnection, run: Plan, status: str, manifest: Manifest | None = None) -> int:
    cursor = await ledger.execute(
        "INSERT INTO pipeline.sync_runs (client_id, run_key, frequency, status, attempts, bucket, prefix, started_at,"
        " complete_through, manifest, manifest_sha256, finished_at)"
        " VALUES (%s, %s, %s, %s, 1, %s, %s, %s, %s, %s::json, %s, %s) RETURNING id",
        (
            run.client_id,
            run.run_key,
            run.frequency,
            status,
            run.bucket,
            run.prefix,
            run.started_at,
            run.complete_through,
            manifest and manifest.text,
            manifest and hashlib.sha256(manifest.text.encode()).hexdigest(),
            manifest and manifest.modified_at,
        ),
    )
    return await _id(cursor)


async def replacements(ledger: AsyncConnection, found: Deliveries, report: Report) -> None:
    """What manifests name as replaced was delivered anew. Whether that was the newest version S3 doesn't tell: a file
    with superseded members stays open too, and is written once more under its key."""
    for name, manifest in sorted(found.manifests.items(), key=lambda item: (item[0][1], item[0][0])):
        for entry in manifest.document.get("replaced", ()):
            cursor = await ledger.execute(
                "INSERT INTO pipeline.delivery_replacements (file_id, run_id, state, old_events, old_bytes, old_sha256,"
                " events, bytes, sha256, policy_version, delivered_at)"
                " SELECT f.id, r.id, 'delivered', f.events, f.bytes, %(old_sha256)s, %(events)s, %(bytes)s, %(sha256)s,"
                " %(policy_version)s, r.finished_at FROM pipeline.delivery_files f, pipeline.sync_runs r"
                " WHERE f.bucket = %(bucket)s AND f.key = %(key)s AND r.client_id = %(client_id)s"
                " AND r.run_key = %(run_key)s ORDER BY f.id LIMIT 1",
                {
                    **{word: entry.get(word) for word in _REPLACED},
                    "client_id": name[0],
                    "run_key": name[1],
                },
            )
            if cursor.rowcount:
                report.restored["replaced files"] += 1
            else:
                report.doubt(f"manifest {name[1]} of client {name[0]} replaces {entry['key']}, which no run delivered")


_REPLACED = ("bucket", "key", "events", "bytes", "sha256", "old_sha256", "policy_version")


async def _id(cursor: Any) -> int:
    row = await cursor.fetchone()
    assert row is not None
    return int(row[0])


def _time(text: Any) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text)
