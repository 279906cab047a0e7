"""Copies of the ledger's steps in S3, written before the step is committed: from them a lost ledger is rebuilt.

A record is no proof that its step was committed; what follows on it is. Chunks: `ledger/chunks/...` in the processed
bucket, one for each chunk, also for those without objects. Plans of deliveries: `ledger/plans/...`. What a raw object's
row needs stands in the object itself and in its metadata. Pure, but for the two functions that put.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal
from uuid import UUID

import orjson
from psycopg import AsyncConnection
from psycopg.rows import class_row

from database.ledger.chunks import ChunkCommit, ConsumerPosition, ProcessedObject
from database.ledger.revisions import NewObject, Revision, Rows
from database.ledger.stream import KafkaTail
from pipeline import gzip
from pipeline.errors import PoisonError
from pipeline.gzip import GzipError
from pipeline.layout import Layout
from pipeline.position import ZERO, Lsn, Position
from pipeline.s3 import ObjectStore, digest

CHUNKS = "ledger/chunks/"
PLANS = "ledger/plans/"
REVISIONS = "ledger/revisions/"
MANIFESTS = "manifests/"
LAYOUTS = "raw-events/layouts/"

_MOST_TAILS = 1_000
"""Characters. S3 takes 2 KB of metadata in all; beyond that the tails are found in Kafka."""

_MOST_HISTORIES = 8

_JSON = "application/json"
_DIGITS = "0123456789abcdefghijklmnopqrstuvwxyz"


@dataclass(frozen=True, slots=True, kw_only=True)
class History:
    """An epoch as a raw object's metadata name it."""

    epoch: int
    system_identifier: str
    timeline: int
    begins_at: Lsn


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


@dataclass(frozen=True, slots=True, kw_only=True)
class RevisionRecord:
    """A revision of a cell that was, or was about to be, committed. `superseded` are keys of objects."""

    id: int
    cause: Literal["replay", "quarantine", "release", "retention"]
    client_id: str
    hour: datetime
    superseded: tuple[str, ...]
    removed: Rows
    added: Rows
    objects: tuple[NewObject, ...]
    summary: Mapping[str, Any]


async def known_histories(connection: AsyncConnection) -> list[History]:
    """The ledger's epochs: the newest few, which are those of the server at hand and what went before."""
    cursor = await connection.execute(
        "SELECT epoch, system_identifier, timeline, begins_at_lsn::text FROM pipeline.epochs"
        " ORDER BY epoch DESC LIMIT %s",
        (_MOST_HISTORIES,),
    )
    return [
        History(epoch=epoch, system_identifier=system, timeline=timeline, begins_at=Lsn.parse(begins_at))
        for epoch, system, timeline, begins_at in reversed(await cursor.fetchall())
    ]


def history_text(histories: Sequence[History]) -> str:
    """For the metadata entry `history`: what the epoch numbers in positions mean."""
    return ",".join(f"{h.epoch}:{h.system_identifier}:{h.timeline}:{h.begins_at}" for h in histories)


def parse_history(text: str) -> list[History]:
    """The inverse of `history_text`. Raises PoisonError."""
    try:
        parts = [item.split(":") for item in text.split(",") if item]
        return [
            History(epoch=int(epoch), system_identifier=system, timeline=int(timeline), begins_at=Lsn.parse(begins_at))
            for epoch, system, timeline, begins_at in parts
        ]
    except ValueError as error:
        raise PoisonError("metadata entry history is damaged") from error


def tails_text(tails: Mapping[int, KafkaTail]) -> str:
    """For the metadata entry `previous-tails`: where each partition ended as of the object before; '' if too long.

    `partition.offset.shift` with commas between, numbers to base 36; shift is offset - sequence - 1, left out when 0.
    """
    parts = []
    for partition, tail in sorted(tails.items()):
        shift = tail.next_offset - tail.last_sequence - 1
        parts.append(f"{_base36(partition)}.{_base36(tail.next_offset)}" + (f".{_base36(shift)}" if shift else ""))
    text = ",".join(parts)
    return text if len(text) <= _MOST_TAILS else ""


def parse_tails(text: str) -> dict[int, KafkaTail]:
    """The inverse of `tails_text`. Raises PoisonError."""
    tails = {}
    try:
        for item in text.split(","):
            if item:
                partition, offset, *shift = (int(part, 36) for part in item.split("."))
                tails[partition] = KafkaTail(next_offset=offset, last_sequence=offset - 1 - (shift[0] if shift else 0))
    except ValueError as error:
        raise PoisonError("metadata entry previous-tails is damaged") from error
    return tails


def _base36(number: int) -> str:
    text, rest = "", abs(number)
    while rest or not text:
        rest, digit = divmod(rest, 36)
        text = _DIGITS[digit] + text
    return f"-{text}" if number < 0 else text


def chunk_key(topic: str, partition: int, first_offset: int, chunk_id: UUID) -> str:
    """The key of a chunk's record; `first_offset` as the ledger has it."""
    return f"{CHUNKS}{topic}/{partition}/{first_offset:020d}-{chunk_id}.json.gz"


def chunks_after(topic: str, partition: int, offset: int) -> tuple[str, str]:
    """(prefix, key) of a listing of the records of that partition's chunks that begin behind `offset`."""
    prefix = f"{CHUNKS}{topic}/{partition}/"
    return prefix, f"{prefix}{offset:020d}."  # a full stop comes after the hyphen of a chunk that begins there


async def put_chunk(bucket: ObjectStore, chunk: ChunkCommit) -> None:
    """Leave the record of `chunk` in the processed bucket: before its commit, durable on return.

    Raises what `ObjectStore.put_new` raises.
    """
    body = encode_chunk(chunk)
    first_offset = min(chunk.before.next_offset, chunk.after.next_offset)
    await bucket.put_new(
        chunk_key(chunk.topic, chunk.partition, first_offset, chunk.id),
        body,
        sha256=digest(body),
        metadata={
            "chunk-id": str(chunk.id),
            "first-position": str(chunk.first_position),
            "last-position": str(chunk.after.last_position),
        },
        content_type=_JSON,
    )


def encode_chunk(chunk: ChunkCommit) -> bytes:
    """The bytes of a chunk's record."""
    document = {
        "id": str(chunk.id),
        "topic": chunk.topic,
        "partition": chunk.partition,
        "generation": chunk.generation,
        "before": _stand(chunk.before),
        "after": _stand(chunk.after),
        "first_position": str(chunk.first_position),
        "counts": [[hour, *names, events] for (hour, *names), events in chunk.counts.items()],
        "objects": [_members(item) for item in chunk.objects],
    }
    return gzip.member(orjson.dumps(document))


def decode_chunk(body: bytes) -> ChunkCommit:
    """The inverse of `encode_chunk`. Raises PoisonError."""
    document = _document(body)
    try:
        return ChunkCommit(
            id=UUID(document["id"]),
            topic=document["topic"],
            partition=document["partition"],
            generation=document["generation"],
            before=_parse_stand(document["before"]),
            after=_parse_stand(document["after"]),
            first_position=Position.parse(document["first_position"]),
            counts={
                (_time(hour), source, client, disposition): events
                for hour, source, client, disposition, events in document["counts"]
            },
            objects=[_object(item) for item in document["objects"]],
        )
    except (KeyError, TypeError, ValueError) as error:
        raise PoisonError("a chunk's record is damaged") from error


_OBJECT_TIMES = ("hour", "min_commit_time", "max_commit_time")


def _object(item: dict[str, Any]) -> ProcessedObject:
    values: dict[str, Any] = {name: _time(value) if name in _OBJECT_TIMES else value for name, value in item.items()}
    return ProcessedObject(**values)


def _members(item: ProcessedObject) -> dict[str, Any]:
    return {name: getattr(item, name) for name in ProcessedObject.__dataclass_fields__}


def _stand(stand: ConsumerPosition) -> list[Any]:
    return [stand.next_offset, stand.last_sequence, str(stand.last_position)]


def _parse_stand(parts: Any) -> ConsumerPosition:
    next_offset, last_sequence, last_position = parts
    return ConsumerPosition(
        next_offset=int(next_offset), last_sequence=int(last_sequence), last_position=Position.parse(last_position)
    )


def revision_key(revision_id: int, body: bytes) -> str:
    """The key of a revision's record. With a digest: a ledger that was rewound gives the same numbers out again."""
    return f"{REVISIONS}{revision_id:020d}-{digest(body).hex()[:16]}.json.gz"


async def put_revision(bucket: ObjectStore, revision: Revision, superseded: Sequence[str]) -> None:
    """Leave the record of `revision` in the processed bucket: after its objects, before it is committed.

    `superseded`: the keys of the objects whose ids it names. Raises what `ObjectStore.put_new` raises.
    """
    body = encode_revision(revision, superseded)
    metadata = {"revision": str(revision.id), "client-id": revision.client_id}
    key = revision_key(revision.id, body)
    await bucket.put_new(key, body, sha256=digest(body), metadata=metadata, content_type=_JSON)


def encode_revision(revision: Revision, superseded: Sequence[str]) -> bytes:
    """The bytes of a revision's record."""
    document = {
        "id": revision.id,
        "cause": revision.cause,
        "client_id": revision.client_id,
        "hour": revision.hour,
        "superseded": list(superseded),
        "removed": [[str(chunk), *key, events] for (chunk, key), events in revision.removed.items()],
        "added": [[str(chunk), *key, events] for (chunk, key), events in revision.added.items()],
        "objects": [[str(new.chunk_id), _members(new.object)] for new in revision.objects],
        "summary": dict(revision.summary),
    }
    return gzip.member(orjson.dumps(document))


def decode_revision(body: bytes) -> RevisionRecord:
    """The inverse of `encode_revision`. Raises PoisonError."""
    document = _document(body)
    try:
        return RevisionRecord(
            id=int(document["id"]),
            cause=document["cause"],
            client_id=document["client_id"],
            hour=_time(document["hour"]),
            superseded=tuple(document["superseded"]),
            removed=_rows(document["removed"]),
            added=_rows(document["added"]),
            objects=tuple(NewObject(chunk_id=UUID(chunk), object=_object(item)) for chunk, item in document["objects"]),
            summary=document["summary"],
        )
    except (KeyError, TypeError, ValueError) as error:
        raise PoisonError("a revision's record is damaged") from error


def _rows(rows: Any) -> Rows:
    return {
        (UUID(chunk), (_time(hour), source, client, disposition)): int(events)
        for chunk, hour, source, client, disposition, events in rows
    }


async def put_layouts(bucket: ObjectStore, topic: str, layouts: Iterable[Layout]) -> None:
    """Leave layouts in the raw bucket: once the ledger has them, before an event is sent by one, durable on return.

    The first layout of a topic needs no record. May be repeated.
    """
    for layout in layouts:
        if layout.from_position != ZERO:
            await _put_layout(bucket, topic, layout)


async def _put_layout(bucket: ObjectStore, topic: str, layout: Layout) -> None:
    fanout = {key.decode(): width for key, width in layout.fanout.items()}
    body = orjson.dumps(
        {
            "topic": topic,
            "from_position": str(layout.from_position),
            "partitions": layout.partitions,
            "fanout": fanout,
        }
    )
    key = f"{LAYOUTS}{topic}/{layout.from_position}.json"
    await bucket.create(key, body, sha256=digest(body), metadata={"topic": topic}, content_type=_JSON)


def decode_layout(body: bytes) -> tuple[str, Layout]:
    """(topic, layout). Raises PoisonError."""
    try:
        document = orjson.loads(body)
        layout = Layout(
            from_position=Position.parse(document["from_position"]),
            partitions=int(document["partitions"]),
            fanout={str(key).encode(): int(width) for key, width in document["fanout"].items()},
        )
        return str(document["topic"]), layout
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise PoisonError("a layout's record is damaged") from error


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
            plan_key(plan.client_id, plan.run_key), body, sha256=digest(body), metadata=metadata, content_type=_JSON
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
    return gzip.member(orjson.dumps(document))


def decode_plan(body: bytes) -> Plan:
    """The inverse of `encode_plan`. Raises PoisonError."""
    document = _document(body)
    try:
        through = document["complete_through"]
        return Plan(
            client_id=document["client_id"],
            run_key=document["run_key"],
            frequency=document["frequency"],
            bucket=document["bucket"],
            prefix=document["prefix"],
            started_at=_time(document["started_at"]),
            complete_through=None if through is None else _time(through),
            files=tuple(
                PlannedFile(
                    key=item["key"],
                    hour=_time(item["hour"]),
                    policy_version=item["policy_version"],
                    members=tuple(item["members"]),
                )
                for item in document["files"]
            ),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise PoisonError("a plan's record is damaged") from error


def _document(body: bytes) -> Any:
    try:
        return orjson.loads(b"".join(content for _, content in gzip.members(body)))
    except (GzipError, ValueError) as error:
        raise PoisonError("a record is damaged") from error


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text).astimezone(UTC)
