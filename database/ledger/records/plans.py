"""Records of the plans of deliveries, and where the copies of manifests lie."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime

from psycopg import AsyncConnection
from psycopg.rows import class_row

from database.ledger.records.form import JSON, pack, time_of, unpack
from pipeline.errors import PoisonError
from pipeline.s3 import ObjectStore, digest

PLANS = "ledger/plans/"
MANIFESTS = "manifests/"


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedFile:
    """A file of a plan: `members` are keys of processed objects, in order."""

    key: str
    hour: datetime
    policy_version: str | None
    members: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """A run as it was planned. Keys of files begin with `prefix`."""

    client_id: str
    run_key: str
    frequency: str
    bucket: str
    prefix: str
    started_at: datetime
    complete_through: datetime | None
    files: tuple[PlannedFile, ...]


def plan_key(client_id: str, run_key: str) -> str:
    """The key of a plan's record."""
    return f"{PLANS}{client_id}/{run_key}.json.gz"


def plans_after(client_id: str, run_key: str) -> tuple[str, str]:
    """(prefix, key) of a listing of the plans of that client's later runs."""
    return f"{PLANS}{client_id}/", plan_key(client_id, run_key)


def manifest_key(client_id: str, run_key: str) -> str:
    """The key of the copy of a manifest."""
    return f"{MANIFESTS}{client_id}/{run_key}.json"


def manifests_after(client_id: str, run_key: str) -> tuple[str, str]:
    """(prefix, key) of a listing of the copies of that client's later manifests."""
    return f"{MANIFESTS}{client_id}/", manifest_key(client_id, run_key)


_PLAN_KEY = re.compile(rf"{PLANS}([^/]+)/([^/]+)\.json\.gz")


def plan_name(key: str) -> tuple[str, str] | None:
    """(client_id, run_key) of a plan's key; None for another key."""
    match = _PLAN_KEY.fullmatch(key)
    return (match[1], match[2]) if match else None


async def put_plan(bucket: ObjectStore, connection: AsyncConnection, run_id: int) -> None:
    """Leave the plan of a run in the processed bucket: after it was committed, before its first PUT to the client.

    May be repeated; the first one stays. A plan without files needs none.
    """
    plan = await _read_plan(connection, run_id)
    if plan.files:
        body = encode_plan(plan)
        metadata = {"client-id": plan.client_id, "run-key": plan.run_key}
        await bucket.create(
            plan_key(plan.client_id, plan.run_key), body, sha256=digest(body), metadata=metadata, content_type=JSON
        )


async def _read_plan(connection: AsyncConnection, run_id: int) -> Plan:
    cursor = await connection.execute(
        "SELECT client_id, run_key, frequency, bucket, prefix, started_at, complete_through"
        " FROM pipeline.sync_runs WHERE id = %s",
        (run_id,),
    )
    run = await cursor.fetchone()
    assert run is not None
    async with connection.cursor(row_factory=class_row(PlannedFile)) as files:
        await files.execute(
            "SELECT f.key, f.hour, f.policy_version, (SELECT array_agg(o.key ORDER BY m.ordinal)"
            " FROM pipeline.delivery_members m JOIN pipeline.processed_objects o ON o.id = m.processed_object_id"
            " WHERE m.file_id = f.id) AS members FROM pipeline.delivery_files f WHERE f.run_id = %s ORDER BY f.id",
            (run_id,),
        )
        found = tuple(await files.fetchall())
    names = ("client_id", "run_key", "frequency", "bucket", "prefix", "started_at", "complete_through")
    return Plan(**dict(zip(names, run, strict=True)), files=found)


def encode_plan(plan: Plan) -> bytes:
    """The bytes of a plan's record."""
    document = {name: getattr(plan, name) for name in Plan.__dataclass_fields__ if name != "files"}
    document["files"] = [
        {"key": f.key, "hour": f.hour, "policy_version": f.policy_version, "members": f.members or ()}
        for f in plan.files
    ]
    return pack(document)


def decode_plan(body: bytes) -> Plan:
    """The inverse of `encode_plan`. Raises PoisonError."""
    document = unpack(body)
    try:
        through = document["complete_through"]
        return Plan(
            client_id=document["client_id"],
            run_key=document["run_key"],
            frequency=document["frequency"],
            bucket=document["bucket"],
            prefix=document["prefix"],
            started_at=time_of(document["started_at"]),
            complete_through=None if through is None else time_of(through),
            files=tuple(
                PlannedFile(
                    key=item["key"],
                    hour=time_of(item["hour"]),
                    policy_version=item["policy_version"],
                    members=tuple(item["members"]),
                )
                for item in document["files"]
            ),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise PoisonError("a plan's record is damaged") from error
