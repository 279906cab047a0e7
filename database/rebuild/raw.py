"""Raw objects: found in S3, put into their order, read back, and entered into the ledger with their counts."""

from __future__ import annotations

import asyncio
import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from psycopg import AsyncConnection

from database.cleaner.record import RecordError, identity
from database.ledger.records import LAYOUTS, History, parse_history, parse_tails
from database.ledger.stream import KafkaTail, RawObject, insert_raw_object, tail_columns
from database.rebuild.choose import Step, Way, choose
from database.rebuild.report import Report
from pipeline import logs, rawfile
from pipeline.errors import PermanentError, PoisonError
from pipeline.gzip import GzipError
from pipeline.keys import hour_of, source_client_id, time_of
from pipeline.layout import Layouts
from pipeline.position import ZERO, Position
from pipeline.record import text_column
from pipeline.s3 import ObjectStore

log = logs.get(__name__)

PREFIX = "raw-events/"
READ_AT_ONCE = 8
HEADS_AT_ONCE = 32
BATCH_ROWS = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class RawFound:
    """A raw object as listing and metadata describe it."""

    key: str
    bytes: int
    modified_at: datetime
    previous: str | None
    first: str
    last: str
    events: int
    sha256: str
    min_commit_time: int
    max_commit_time: int
    histories: tuple[History, ...]
    previous_tails: Mapping[int, KafkaTail]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Known:
    key: str
    previous: str | None
    last: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RawRestored:
    """The end of the chain as it stands now. `body` is that of its last object; None when the ledger knew it."""

    histories: Mapping[int, History]
    last: RawFound | None
    prior_tails: Mapping[int, KafkaTail]
    body: bytes | None


async def restore(ledger: AsyncConnection, source: AsyncConnection, bucket: ObjectStore, report: Report) -> RawRestored:
    """Enter every raw object that was committed, but for the last one's Kafka tails, see `set_tails`.

    Each is read back: its counts are made from its lines, and whether its rows still are in events_log, and stamped, is
    looked up by their (id, event_id).
    """
    known = await _known(ledger)
    found = await _found(bucket, set(known), report)
    way = order(found, list(known.values()))
    report.known["raw objects"] = len(known)
    report.never_committed += [item.key for item in way.left]
    for item in way.conflicts:
        report.doubt(f"raw object {item.key} is in the ledger, but not on the way from the first to the last one")
    for end, begin in way.gaps:
        report.doubt(f"no raw object holds what lies between {end} and {begin}: reconcile will name it too")
    chain = [item for item in way.taken if isinstance(item, RawFound)]
    tails = _tails_of(way.taken)
    body = await _enter(ledger, source, bucket, chain, tails, report)
    last = way.taken[-1] if way.taken else None
    histories = {history.epoch: history for item in chain for history in item.histories}
    return RawRestored(
        histories=histories,
        last=last if isinstance(last, RawFound) else None,
        prior_tails=last.previous_tails if isinstance(last, RawFound) else {},
        body=body,
    )


def order(found: list[RawFound], known: list[_Known]) -> Way[Any]:
    """The chain of raw objects, those that the ledger knows among them. Pure."""
    every: list[RawFound | _Known] = [*found, *known]
    steps: list[Step[Any]] = [
        Step(item=item, before=item.previous, after=item.last, is_proven=isinstance(item, _Known)) for item in every
    ]
    return choose(steps, order=lambda position: position or "")


def _tails_of(chain: Sequence[RawFound | _Known]) -> dict[str, Mapping[int, KafkaTail]]:
    """By key: where Kafka's partitions ended with the object. Its successor says so; else a later one, which is more
    than it was: then its events count as on their way for longer, never for too short."""
    tails: dict[str, Mapping[int, KafkaTail]] = {}
    later: Mapping[int, KafkaTail] = {}
    for item, successor in zip(reversed(chain), [None, *reversed(chain)], strict=False):
        if isinstance(successor, RawFound) and successor.previous_tails:
            later = successor.previous_tails
        tails[item.key] = later
    return tails


async def _known(ledger: AsyncConnection) -> dict[str, _Known]:
    cursor = await ledger.execute("SELECT key, previous_position::text, last_position::text FROM pipeline.raw_objects")
    return {row[0]: _Known(key=row[0], previous=row[1], last=row[2]) for row in await cursor.fetchall()}


async def _found(bucket: ObjectStore, known: set[str], report: Report) -> list[RawFound]:
    """Objects that the ledger doesn't know, by their metadata."""
    listed = [item async for item in bucket.list(PREFIX) if item.key not in known and not item.key.startswith(LAYOUTS)]
    slots = asyncio.Semaphore(HEADS_AT_ONCE)

    async def look(key: str, size: int, modified_at: datetime) -> RawFound | None:
        async with slots:
            metadata = await bucket.head(key)
        try:
            return _described(key, size, modified_at, metadata or {})
        except (KeyError, ValueError, PoisonError):
            report.doubt(f"{key} was not written by a streamer, or its metadata are lost: left out")
            return None

    async with asyncio.TaskGroup() as tasks:
        looks = [tasks.create_task(look(item.key, item.bytes, item.modified_at)) for item in listed]
    return [found for task in looks if (found := task.result()) is not None]


def _described(key: str, size: int, modified_at: datetime, metadata: Mapping[str, str]) -> RawFound:
    previous = metadata["previous-position"]
    return RawFound(
        key=key,
        bytes=size,
        modified_at=modified_at,
        previous=str(Position.parse(previous)) if previous else None,
        first=str(Position.parse(metadata["first-position"])),
        last=str(Position.parse(metadata["last-position"])),
        events=int(metadata["events"]),
        sha256=metadata["sha256"],
        min_commit_time=int(metadata["min-commit-time"]),
        max_commit_time=int(metadata["max-commit-time"]),
        histories=tuple(parse_history(metadata.get("history", ""))),
        previous_tails=parse_tails(metadata.get("previous-tails", "")),
    )


async def _enter(
    ledger: AsyncConnection,
    source: AsyncConnection,
    bucket: ObjectStore,
    chain: Sequence[RawFound],
    tails: Mapping[str, Mapping[int, KafkaTail]],
    report: Report,
) -> bytes | None:
    """Read and insert `chain`, in order, a few objects ahead; returns the body of the last one."""
    body: bytes | None = None
    for at in range(0, len(chain), READ_AT_ONCE):
        part = chain[at : at + READ_AT_ONCE]
        bodies = await asyncio.gather(*(_get(bucket, item.key) for item in part))
        for item, body in zip(part, bodies, strict=True):
            counted, rows = await asyncio.to_thread(_read, item, body)
            if counted is None:
                report.doubt(f"{item.key} is not what was written: entered without counts, its rows stay")
            state = await _state(source, rows) if counted is not None else "unverified"
            await _insert(ledger, bucket.bucket, item, tails[item.key], counted or {}, state)
            report.restored["raw objects"] += 1
            report.restored["raw events"] += item.events
        log.info("database.rebuild.raw", objects=at + len(part), of=len(chain))
    return body


async def _get(bucket: ObjectStore, key: str) -> bytes:
    try:
        return await bucket.get(key)
    except PermanentError:
        return b""  # differs from what was written; named then


def _read(item: RawFound, body: bytes) -> tuple[Counter[tuple[datetime, str]] | None, list[tuple[int, str]]]:
    """(events by hour and source client, identities of rows); None when the object is not what was written."""
    counts: Counter[tuple[datetime, str]] = Counter()
    rows = []
    if hashlib.sha256(body).hexdigest() != item.sha256:
        return None, []
    try:
        for _, commit_time, line in rawfile.decode(body):
            counts[hour_of(commit_time), _source(line)] += 1
            rows.append(identity(line))
    except (GzipError, RecordError):
        return None, []
    return (counts, rows) if counts.total() == item.events else (None, [])


def _source(line: bytes) -> str:
    try:
        return source_client_id(text_column(line, "client_id"))
    except PoisonError:
        return "!"


async def _state(source: AsyncConnection, rows: Sequence[tuple[int, str]]) -> str:
    """`deleted` when none of the rows is left, `stamped` when all that are left carry the stamp, else `verified`."""
    left = unstamped = 0
    for at in range(0, len(rows), BATCH_ROWS):
        batch = rows[at : at + BATCH_ROWS]
        cursor = await source.execute(
            "SELECT count(*), count(*) FILTER (WHERE e.raw_exported_at IS NULL)"
            " FROM unnest(%b::bigint[], %s::uuid[]) AS g (id, event_id) JOIN events_log e"
            " ON e.id = g.id AND e.event_id = g.event_id",
            ([row[0] for row in batch], [row[1] for row in batch]),
        )
        counted = await cursor.fetchone()
        assert counted is not None
        left, unstamped = left + counted[0], unstamped + counted[1]
    if not left:
        return "deleted"
    return "verified" if unstamped else "stamped"


async def _insert(
    ledger: AsyncConnection,
    bucket: str,
    item: RawFound,
    tails: Mapping[int, KafkaTail],
    counts: Mapping[tuple[datetime, str], int],
    state: str,
) -> None:
    raw = RawObject(
        bucket=bucket,
        key=item.key,
        previous_position=Position.parse(item.previous) if item.previous else None,
        first_position=Position.parse(item.first),
        last_position=Position.parse(item.last),
        kafka_tails=tails,
        events=item.events,
        bytes=item.bytes,
        sha256=item.sha256,
        min_commit_time=time_of(item.min_commit_time),
        max_commit_time=time_of(item.max_commit_time),
        counts=counts,
    )
    id_ = await insert_raw_object(ledger, raw, item.modified_at)
    if state != "unverified":
        await ledger.execute(
            "UPDATE pipeline.raw_objects SET verified_at = now(),"
            " stamped_at = CASE WHEN %(state)s IN ('stamped', 'deleted') THEN now() END,"
            " deleted_at = CASE WHEN %(state)s = 'deleted' THEN now() END,"
            " gone_rows = CASE WHEN %(state)s = 'deleted' THEN events END WHERE id = %(id)s",
            {"state": state, "id": id_},
        )


def tails_after(
    body: bytes,
    in_kafka: Mapping[int, tuple[int, int, Position]],
    prior: Mapping[int, KafkaTail],
    layouts: Layouts,
) -> dict[int, KafkaTail]:
    """Where each partition ended with the events of `body`. Pure.

    `in_kafka`: (offset, sequence, position) of each partition's last record that is not behind the object; what the
    object holds beyond that never reached Kafka, or Kafka has lost it: counted on, so that the processor finds the
    hole. `prior`: where the object before ended, for partitions of which Kafka has nothing.
    """
    ends: dict[int, tuple[int, int, Position, int]] = {}
    for partition in range(layouts.partitions):
        if partition in in_kafka:
            ends[partition] = (*in_kafka[partition], 0)
        else:
            tail = prior.get(partition, KafkaTail(next_offset=0, last_sequence=-1))
            ends[partition] = (tail.next_offset - 1, tail.last_sequence, ZERO, 0)
    for position, _, line in rawfile.decode(body):
        partition = layouts.partition_of_line(position, line)
        offset, sequence, until, more = ends[partition]
        if position > until:
            ends[partition] = (offset, sequence, until, more + 1)
    return {
        partition: KafkaTail(next_offset=offset + 1 + more, last_sequence=sequence + more)
        for partition, (offset, sequence, _, more) in ends.items()
    }


async def set_tails(ledger: AsyncConnection, last: RawFound, tails: Mapping[int, KafkaTail]) -> None:
    """Enter the Kafka tails of the last object, and of those before it of which nothing better is known."""
    await ledger.execute(
        "UPDATE pipeline.raw_objects SET kafka_end_offsets = %s, kafka_end_sequences = %s"
        " WHERE key = %s OR kafka_end_offsets = '{}'",
        (*tail_columns(tails), last.key),
    )
