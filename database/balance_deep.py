"""Reconciliation by reading: every object is fetched, every event id followed from raw to processed to the manifests.

Memory is about 150 bytes an event: long histories are checked a window at a time.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from itertools import groupby

from psycopg import AsyncConnection
from psycopg.rows import dict_row

from database.balance import MOST_NAMED, Imbalance, Window
from database.ledger.records import manifest_key
from database.translate import translated
from pipeline import gzip, rawfile
from pipeline.errors import PermanentError, PoisonError
from pipeline.gzip import GzipError
from pipeline.keys import hour_of, source_client_id
from pipeline.record import text_column
from pipeline.s3 import ObjectStore

_EVENT_ID = re.compile(rb'"event_id":"([0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12})"')

Cell = tuple[datetime, str]
"""(hour of commit_time, source_client_id)."""

_RAW = """
    SELECT key, bucket, first_position::text AS position, last_position::text, sha256, events,
           (SELECT coalesce(jsonb_object_agg(extract(epoch FROM hour)::bigint || ' ' || source_client_id, c.events),
                            '{}')
              FROM pipeline.raw_counts c WHERE c.raw_object_id = o.id) AS counts,
           EXISTS (SELECT FROM jsonb_each_text(o.kafka_end_sequences) AS e (partition, last_sequence)
                   LEFT JOIN pipeline.consumer_positions c ON c.topic = %(topic)s AND c.partition = e.partition::int
                   WHERE e.last_sequence::bigint > coalesce(c.last_sequence, -1)) AS on_its_way
      FROM pipeline.raw_objects o
     WHERE max_commit_time >= %(since)s AND min_commit_time < %(until)s AND exported_at >= %(kept)s
       AND removed_at IS NULL
     ORDER BY first_position
"""
# In the order of delivered files and their members, then what is in none.
_PROCESSED = """
    SELECT o.kind, o.key, o.sha256, o.events, k.first_position::text AS position, k.last_position::text,
           f.id AS file_id, f.key AS file_key, f.sha256 AS file_sha256,
           f.policy_version = o.policy_version AND f.revision = 0 AND f.dropped_at_delivery = 0 AS is_copied,
           (SELECT count(*) FROM pipeline.delivery_members x WHERE x.file_id = f.id) AS members
      FROM pipeline.processed_objects o JOIN pipeline.chunks k ON k.id = o.chunk_id
      LEFT JOIN pipeline.delivery_members m ON m.processed_object_id = o.id
      LEFT JOIN pipeline.delivery_files f ON f.id = m.file_id AND f.state = 'delivered'
     WHERE o.superseded_by IS NULL AND o.removed_at IS NULL AND o.hour >= %(since)s AND o.hour < %(until)s
       AND k.committed_at >= %(kept)s
     ORDER BY f.id, m.ordinal, k.first_position, o.id
"""
_UNSEEN = """
    SELECT hour, source_client_id, sum(events)::bigint AS events FROM pipeline.chunk_counts
     WHERE disposition IN ('dropped_consent', 'held', 'dead_letter', 'expired')
       AND hour >= %(since)s AND hour < %(until)s
     GROUP BY 1, 2
"""
# Events of chunks up to there may have been in objects that retention took away.
_EDGE = """
    SELECT max(k.last_position::text) AS position FROM pipeline.chunks k
     WHERE k.committed_at < %(kept)s OR EXISTS (SELECT FROM pipeline.processed_objects o
           WHERE o.chunk_id = k.id AND o.removed_at IS NOT NULL AND o.superseded_by IS NULL)
"""
_RUNS = """
    SELECT client_id, run_key, manifest_sha256 FROM pipeline.sync_runs
     WHERE status = 'finished' AND client_id = coalesce(%(client_id)s, client_id)
       AND finished_at >= greatest(%(since)s, %(kept)s) ORDER BY id
"""


@dataclass
class _Seen:
    """Event ids of raw objects, and what is wrong so far."""

    found: list[Imbalance] = field(default_factory=list)
    raw: dict[bytes, tuple[int, Cell]] = field(default_factory=dict)
    """Event id: (index of its object, cell)."""
    objects: list[tuple[str, str]] = field(default_factory=list)
    """(key, first position) by index."""
    due: set[int] = field(default_factory=set)
    """Objects that are processed to their end."""
    tail: str = ""
    begin: str = ""
    """Where the first object begins that is still there."""
    removed_until: str = ""
    """Processed objects up to there may be gone."""

    def note(self, kind: str, subject: str, position: str, expected: str, found: str) -> None:
        self.found.append(Imbalance(kind=kind, subject=subject, position=position, expected=expected, found=found))


async def deep_imbalances(
    connection: AsyncConnection,
    raw: ObjectStore,
    processed: ObjectStore,
    window: Window,
    *,
    topic: str,
    raw_kept_since: datetime,
    processed_kept_since: datetime,
) -> list[Imbalance]:
    """What the objects themselves say against the ledger. Objects older than what is kept are left out.

    The ledger is read in one snapshot. Raises TransientError or PermanentError when a bucket does not answer.
    """
    values = {
        "topic": topic,
        "since": window.since or datetime.fromisoformat("1970-01-01T00:00:00+00:00"),
        "until": window.until or datetime.fromisoformat("9999-01-01T00:00:00+00:00"),
        "client_id": window.client_id,
    }
    rows = {}
    with translated("LEDGER_DATABASE_URL"):
        async with connection.transaction(), connection.cursor(row_factory=dict_row) as cursor:
            await cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
            for name, query, kept in (
                ("raw", _RAW, raw_kept_since),
                ("processed", _PROCESSED, processed_kept_since),
                ("unseen", _UNSEEN, processed_kept_since),
                ("edge", _EDGE, processed_kept_since),
                ("runs", _RUNS, processed_kept_since),
            ):
                await cursor.execute(query, values | {"kept": kept})
                rows[name] = await cursor.fetchall()
    seen = _Seen()
    since, until = values["since"], values["until"]
    assert isinstance(since, datetime)
    assert isinstance(until, datetime)
    seen.removed_until = rows["edge"][0]["position"] or ""
    seen.begin = rows["raw"][0]["position"] if rows["raw"] else "~"
    for row in rows["raw"]:
        await _check_raw(row, raw, seen, since, until)
    arrived: dict[bytes, str] = {}
    for _, members in groupby(rows["processed"], key=lambda row: row["file_id"]):
        await _check_file(list(members), processed, seen, arrived)
    allowed = {(row["hour"], row["source_client_id"]): row["events"] for row in rows["unseen"]}
    _check_missing(seen, arrived, allowed)
    for row in rows["runs"]:
        await _check_manifest(row, processed, seen)
    return seen.found


async def _check_raw(
    row: dict[str, object], bucket: ObjectStore, seen: _Seen, since: datetime, until: datetime
) -> None:
    key, position = str(row["key"]), str(row["position"])
    seen.tail = max(seen.tail, str(row["last_position"]))
    body = await _get(bucket, key)
    if body is None:
        return seen.note("raw_missing", key, position, "an object", "none")
    digest = hashlib.sha256(body).hexdigest()
    if digest != row["sha256"]:
        return seen.note("raw_changed", key, position, f"sha256 {row['sha256']}", digest)
    number = len(seen.objects)
    seen.objects.append((key, position))
    if not row["on_its_way"] and position > seen.removed_until:
        seen.due.add(number)
    counts: Counter[Cell] = Counter()
    try:
        for at, commit_time, line in rawfile.decode(body):
            cell = hour_of(commit_time), _source(line)
            counts[cell] += 1
            if not since <= cell[0] < until:
                continue
            event_id = _event_id(line)
            if event_id in seen.raw:
                other = seen.objects[seen.raw[event_id][0]][0]
                seen.note("raw_double", key, str(at), "an event once", f"also in {other}")
            else:
                seen.raw[event_id] = number, cell
    except (GzipError, PoisonError) as error:
        return seen.note("raw_events", key, position, "a raw file", str(error))
    expected = {str(name): events for name, events in dict(row["counts"]).items()}  # type: ignore[call-overload]
    found = {f"{int(hour.timestamp())} {client}": events for (hour, client), events in counts.items()}
    if expected != found:
        seen.note(
            "raw_events", key, position, f"{sum(expected.values())} events", f"{sum(found.values())} by its lines"
        )
    return None


async def _check_file(
    members: list[dict[str, object]], bucket: ObjectStore, seen: _Seen, arrived: dict[bytes, str]
) -> None:
    """Objects of one delivered file, or of none.

    Objects that were copied have, one behind the other, the file's digest; by that digest S3 took the client's file. So
    the client has these events.
    """
    whole, is_whole = hashlib.sha256(), members[0]["members"] == len(members)
    for row in members:
        body = await _get(bucket, str(row["key"]))
        if body is None:
            is_whole = False
            seen.note("processed_missing", str(row["key"]), str(row["position"]), "an object", "none")
        else:
            _check_processed(row, body, seen, arrived)
            whole.update(body)
    first = members[0]
    if first["file_id"] is None or not is_whole or not all(row["is_copied"] for row in members):
        return
    if whole.hexdigest() != first["file_sha256"]:
        seen.note(
            "delivery_changed",
            str(first["file_key"]),
            str(first["position"]),
            f"sha256 {whole.hexdigest()} of its objects",
            str(first["file_sha256"]),
        )


def _check_processed(row: dict[str, object], body: bytes, seen: _Seen, arrived: dict[bytes, str]) -> None:
    key, position = str(row["key"]), str(row["position"])
    digest = hashlib.sha256(body).hexdigest()
    if digest != row["sha256"]:
        return seen.note("processed_changed", key, position, f"sha256 {row['sha256']}", digest)
    if row["kind"] not in ("client", "quarantine"):
        return None  # held events are encrypted, dead letters may be anything: their number is compared
    events = 0
    try:
        for line in _lines(body):
            events += 1
            event_id = _event_id(line)
            if event_id in arrived:
                seen.note("processed_double", key, position, "an event once", f"also in {arrived[event_id]}")
            elif event_id not in seen.raw and seen.begin <= position and str(row["last_position"]) <= seen.tail:
                seen.note("processed_unknown", key, position, "an exported event", "one that no raw object holds")
            arrived[event_id] = key
    except (GzipError, PoisonError) as error:
        return seen.note("processed_changed", key, position, "lines with event ids", str(error))
    if events != row["events"]:
        seen.note("processed_changed", key, position, f"{row['events']} events", str(events))
    return None


def _check_missing(seen: _Seen, arrived: dict[bytes, str], allowed: dict[Cell, int]) -> None:
    missing: dict[Cell, list[int]] = defaultdict(list)
    for event_id, (number, cell) in seen.raw.items():
        if number in seen.due and event_id not in arrived:
            missing[cell].append(number)
    for (hour, client), numbers in sorted(missing.items()):
        may = allowed.get((hour, client), 0)
        if len(numbers) > may:
            objects = [seen.objects[number] for number in sorted(set(numbers))[:MOST_NAMED]]
            seen.note(
                "event_missing",
                ", ".join(key for key, _ in objects),
                objects[0][1],
                f"at most {may} events of {hour:%Y-%m-%dT%HZ} {client or '(none)'} in no processed object",
                str(len(numbers)),
            )


async def _check_manifest(row: dict[str, object], bucket: ObjectStore, seen: _Seen) -> None:
    key = manifest_key(str(row["client_id"]), str(row["run_key"]))
    body = await _get(bucket, key)
    if body is None:
        seen.note("manifest_missing", key, "", "a copy of the manifest", "none")
    elif hashlib.sha256(body).hexdigest() != row["manifest_sha256"]:
        seen.note("manifest_changed", key, "", f"sha256 {row['manifest_sha256']}", hashlib.sha256(body).hexdigest())


async def _get(bucket: ObjectStore, key: str) -> bytes | None:
    try:
        return await bucket.get(key)
    except PermanentError as error:
        if str(error.args[0]).endswith(("NoSuchKey", "404")):
            return None
        raise


def _lines(body: bytes) -> Iterator[bytes]:
    for _, content in gzip.members(body):
        yield from content.split(b"\n")[:-1]


def _event_id(line: bytes) -> bytes:
    match = _EVENT_ID.search(line)  # scalars come first: the first one is the column
    if match is None:
        raise PoisonError("a record has no event_id")
    return bytes.fromhex(match[1].decode().replace("-", ""))


def _source(line: bytes) -> str:
    try:
        return source_client_id(text_column(line, "client_id"))
    except PoisonError:
        return "!"
