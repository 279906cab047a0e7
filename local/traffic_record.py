"""What was inserted, for the check afterwards: one JSON line for each committed row. Holds digests, not the rows.

A line: event_id, client_id (as in the row), owner (who must receive it; null for nobody), consent, columns and raw (hex
digests), planted ([kind, characters] pairs). Lines are appended after the commit, in one write for a transaction, so
that a kill costs the last line at most.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from local.traffic_events import Row

COLUMNS = (
    "id",
    "event_id",
    "event_type",
    "session_id",
    "visitor_id",
    "site_id",
    "timestamp",
    "url",
    "path",
    "user_agent",
    "ip_address",
    "created_at",
    "client_id",
    "batch_id",
)
"""The record's members but raw_event_data, which has a digest of its own."""

RAW_DIGEST_SQL = "left(encode(sha256(convert_to(coalesce(raw_event_data::text, 'null'), 'UTF8')), 'hex'), 32)"
"""The server's own text of the document, digested by the server: what is compared is what PostgreSQL holds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One committed row."""

    event_id: str
    client_id: str | None
    owner: str | None
    consent: str
    columns: str
    raw: str
    planted: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Stored:
    """What the server made of a row. Times as in the record, RFC 3339 with six digits; the address without mask."""

    id: int
    timestamp: str | None
    ip_address: str | None
    created_at: str
    raw: str


def columns_digest(values: Mapping[str, Any]) -> str:
    """32 hex digits over the members named in `COLUMNS`, as the record has them; a missing one counts as null."""
    return hashlib.blake2b(orjson.dumps([values.get(name) for name in COLUMNS]), digest_size=16).hexdigest()


def raw_digest(text: bytes) -> str:
    """The same as `RAW_DIGEST_SQL`, over the bytes of the record's member."""
    return hashlib.sha256(text).hexdigest()[:32]


def to_line(row: Row, stored: Stored) -> bytes:
    """The line of a committed row, with its line break."""
    columns = {
        "id": stored.id,
        "event_id": str(row.event_id),
        "event_type": row.event_type,
        "session_id": row.session_id,
        "visitor_id": row.visitor_id,
        "site_id": row.site_id,
        "timestamp": stored.timestamp,
        "url": row.url,
        "path": row.path,
        "user_agent": row.user_agent,
        "ip_address": stored.ip_address,
        "created_at": stored.created_at,
        "client_id": row.client_id,
        "batch_id": str(row.batch_id) if row.batch_id else None,
    }
    line = {
        "event_id": columns["event_id"],
        "client_id": row.client_id,
        "owner": row.owner,
        "consent": row.consent,
        "columns": columns_digest(columns),
        "raw": stored.raw,
        "planted": row.planted,
    }
    return orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE)


class Recorder:
    """Appends to a record file, which only its owner can read: made-up or not, it lists personal values."""

    def __init__(self, path: Path) -> None:
        """Goes on behind what an earlier run wrote, on a line of its own."""
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
        size = os.fstat(self._file).st_size
        if size and os.pread(self._file, 1, size - 1) != b"\n":
            os.write(self._file, b"\n")

    def append(self, lines: Iterable[bytes]) -> None:
        """Lines of one transaction, handed to the kernel before this returns. Raises OSError."""
        left = memoryview(b"".join(lines))
        while left:
            left = left[os.write(self._file, left) :]

    def close(self) -> None:
        """No append may follow."""
        os.close(self._file)


def read_record(path: Path) -> Iterator[Entry]:
    """All whole lines, one at a time; a line that a kill cut short is left out."""
    with path.open("rb") as file:
        for line in file:
            try:
                values = orjson.loads(line)
            except orjson.JSONDecodeError:
                continue
            values["planted"] = tuple((kind, value) for kind, value in values["planted"])
            yield Entry(**values)
