"""Does what was delivered agree with what was inserted? The comparison itself; it reads no bucket.

The record of the traffic goes into a temporary SQLite file, so that memory doesn't grow with it: two bytes an event.
"""

from __future__ import annotations

import json
import sqlite3
import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson

from local.traffic_record import COLUMNS, Entry, columns_digest, raw_digest
from pipeline.clients import PrivacyLevel

EXAMPLES = 5
"""How many event ids of each fault are kept."""

_BOOKKEEPING = frozenset({"export_status", "raw_exported_at", "processed_at"})
_RAW = '"raw_event_data":'
_LOAD_ROWS = 5000
# Numbers are not looked at, only walked over; int() refuses very long ones.
_DECODER = json.JSONDecoder(parse_int=str, parse_float=str)


@dataclass(frozen=True, slots=True, kw_only=True)
class Expectation:
    """What a client's settings allow. `may_drop`: events without consent are dropped, not stripped."""

    client_id: str
    level: PrivacyLevel
    may_drop: bool = False
    keeps_ip: bool = True


@dataclass(slots=True, kw_only=True)
class Tally:
    """One client's result, in events. `examples` holds a few event ids (or keys of objects) for each fault."""

    inserted: int = 0
    delivered: int = 0
    dropped: int = 0
    """Not delivered, and rightly so: no consent, and the client wants such events dropped."""
    missing: int = 0
    twice: int = 0
    foreign: int = 0
    """Another client's, or nobody's."""
    unknown: int = 0
    """Not in the record."""
    altered: int = 0
    wrong_level: int = 0
    leaks: int = 0
    files: int = 0
    broken: int = 0
    """Objects and manifests, not events: absent, damaged, or not what the manifest says."""
    examples: dict[str, list[str]] = field(default_factory=dict)

    @property
    def ok(self) -> bool:
        """Everything arrived exactly once, filtered, and nothing else did."""
        events = self.missing + self.twice + self.foreign + self.unknown
        return events + self.altered + self.wrong_level + self.leaks + self.broken == 0

    def note(self, fault: str, example: str, *, count: int = 1) -> None:
        """Count a fault, named like its field."""
        setattr(self, fault, getattr(self, fault) + count)
        kept = self.examples.setdefault(fault, [])
        if len(kept) < EXAMPLES:
            kept.append(example)


class Comparison:
    """Load the record, add every delivered line of every client, then ask for `result`."""

    def __init__(self, path: Path, expectations: Sequence[Expectation]) -> None:
        """`path`: a file that doesn't exist yet, for the index of the record; the caller removes it."""
        self._expectations = {item.client_id: item for item in expectations}
        self._tallies = {item.client_id: Tally() for item in expectations}
        self._database = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
        self._database.execute("PRAGMA journal_mode = OFF")
        self._database.execute("PRAGMA synchronous = OFF")
        self._database.execute(
            "CREATE TABLE record (event_id BLOB, owner TEXT, consent TEXT, digests TEXT, planted BLOB)"
        )
        self._seen = bytearray(1)  # by row number, from 1: how often it was delivered to its owner, 255 for more

    def close(self) -> None:
        """No call may follow."""
        self._database.close()

    def tally(self, client_id: str) -> Tally:
        """The client's tally so far, for faults that are found elsewhere."""
        return self._tallies[client_id]

    def load(self, entries: Iterable[Entry]) -> int:
        """Take in the record; returns the number of its events. Called once, before any `add`."""
        block: list[tuple[Any, ...]] = []
        count = 0
        self._database.execute("BEGIN")
        for entry in entries:
            digests = entry.columns + entry.raw
            planted = orjson.dumps(entry.planted)
            block.append((uuid.UUID(entry.event_id).bytes, entry.owner, entry.consent, digests, planted))
            if entry.owner is not None:
                self._tallies.setdefault(entry.owner, Tally()).inserted += 1
            count += 1
            if len(block) == _LOAD_ROWS:
                self._insert(block)
                block = []
        self._insert(block)
        self._database.execute("COMMIT")
        self._database.execute("CREATE INDEX by_event_id ON record (event_id)")
        self._seen = bytearray(count + 1)
        return count

    def _insert(self, block: Sequence[tuple[Any, ...]]) -> None:
        self._database.executemany("INSERT INTO record VALUES (?, ?, ?, ?, ?)", block)

    def add(self, client_id: str, line: bytes) -> None:
        """One line of one of the client's files, without its line break."""
        expected, tally = self._expectations[client_id], self._tallies[client_id]
        tally.delivered += 1
        try:
            event = orjson.loads(line)
            event_id = uuid.UUID(event["event_id"])
        except (KeyError, TypeError, ValueError, AttributeError):
            tally.note("altered", "a line without an event_id")
            return
        name = str(event_id)
        row = self._database.execute(
            "SELECT rowid, owner, digests, planted FROM record WHERE event_id = ?", (event_id.bytes,)
        ).fetchone()
        if row is None:
            tally.note("unknown", name)
            return
        number, owner, digests, planted = row
        if owner != client_id:
            tally.note("foreign", name)
            return
        self._seen[number] = min(255, self._seen[number] + 1)
        if self._seen[number] > 1:
            tally.note("twice", name)
        privacy = event.get("privacy")
        if not isinstance(privacy, dict) or privacy.get("level") != expected.level:
            tally.note("wrong_level", name)
        if expected.level is PrivacyLevel.STANDARD:
            if not _is_original(event, line, digests, expected):
                tally.note("altered", name)
            return
        if _BOOKKEEPING & event.keys():
            tally.note("altered", name)
        if any(value.encode() in line for _kind, value in orjson.loads(planted)):
            tally.note("leaks", name)

    def result(self) -> dict[str, Tally]:
        """The tallies by client, with what is missing. A client of the record that nobody could read misses all."""
        for number, event_id, owner, consent in self._database.execute(
            "SELECT rowid, event_id, owner, consent FROM record WHERE owner IS NOT NULL"
        ):
            if self._seen[number]:
                continue
            expected, tally = self._expectations.get(owner), self._tallies[owner]
            if expected is not None and expected.may_drop and consent != "granted":
                tally.dropped += 1
            else:
                tally.note("missing", str(uuid.UUID(bytes=event_id)))
        return self._tallies


def raw_member(line: bytes) -> bytes | None:
    """The bytes of the record's member raw_event_data, exactly as they stand in `line`; None when it has none.

    Columns that hold JSON come last in a record, so the first such name in the line is the member's own.
    """
    text = line.decode()
    start = text.find(_RAW)
    if start < 0:
        return None
    start += len(_RAW)
    try:
        _, end = _DECODER.raw_decode(text, start)
    except (ValueError, RecursionError):
        return None
    return text[start:end].encode()


def _is_original(event: dict[str, Any], line: bytes, digests: str, expected: Expectation) -> bool:
    columns, raw = digests[:32], digests[32:]
    if _BOOKKEEPING & event.keys() or any(name not in event for name in COLUMNS):
        return False
    if expected.keeps_ip and columns_digest(event) != columns:
        return False
    member = raw_member(line)
    return member is not None and raw_digest(member) == raw
