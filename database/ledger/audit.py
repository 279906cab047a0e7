"""The audit log: who did what to whose data, as an append-only chain of hashes.

Entry n holds the hash of entry n-1 and a hash of its own over all that it says, so an entry that is changed, removed,
inserted or moved breaks the chain at its place. `pipeline.audit_head` knows the end, which shows when entries were
cut off there. Triggers refuse changes; the chain shows what was done by someone who could lift them. Someone who may
rewrite everything can also compute a whole new chain: against that, keep the head that `verify` prints somewhere
else, and give it as an anchor later.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, NamedTuple

from psycopg import AsyncConnection, sql
from psycopg.pq import TransactionStatus
from psycopg.rows import class_row

from pipeline.errors import PermanentError

GENESIS = "0" * 64
"""What the first entry follows."""

_SECRET = re.compile(r"secret|password|passwd|token|salt|credential|pseudonym_keys|(access|api|private)_?key", re.I)


class Head(NamedTuple):
    """The end of the chain: how many entries there are, and the hash of the last one (64 hexadecimal digits)."""

    entries: int
    hash: str

    def __str__(self) -> str:
        return f"{self.entries}:{self.hash}"

    @classmethod
    def parse(cls, text: str) -> Head:
        """From the form that it prints, such as `17:5f0c...`. Raises ValueError."""
        if not re.fullmatch(r"[0-9]{1,18}:[0-9a-f]{64}", text):
            raise ValueError("expected NUMBER:HASH as verify prints it")
        entries, _, digest = text.partition(":")
        return cls(int(entries), digest)


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One entry, as it stands in the table. `details` is the JSON text that was hashed; `id` counts from 1."""

    id: int
    at: datetime
    actor: str
    action: str
    client_id: str | None
    subject: str
    details: str
    previous_hash: str
    hash: str

    def says(self) -> dict[str, Any]:
        """`details` as an object."""
        said: dict[str, Any] = json.loads(self.details)
        return said

    def own_hash(self) -> str:
        """What `hash` has to be."""
        return _hash(
            self.id, self.at, self.actor, self.action, self.client_id, self.subject, self.details, self.previous_hash
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Break:
    """The first entry at which the chain is not what was written, and how."""

    id: int
    problem: str

    def __str__(self) -> str:
        return f"entry {self.id}: {self.problem}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """The head up to which the chain is whole, and where it breaks, if it does."""

    head: Head
    broken: Break | None


async def append(
    connection: AsyncConnection,
    *,
    actor: str,
    action: str,
    client_id: str | None,
    subject: str = "",
    details: Mapping[str, object],
) -> None:
    """Append one entry inside the caller's transaction: it stands if and only if the rest of the transaction does.

    `action` is dotted and in the past tense (`client.changed`). `details` hold JSON values and no secret; ValueError
    for a member that is named like one, or a value that is none. The chain is locked until the caller's transaction
    ends, so append last. Raises RuntimeError outside of a transaction.
    """
    if connection.info.transaction_status is not TransactionStatus.INTRANS:
        raise RuntimeError("an audit entry belongs into a transaction")
    text = _printed(details)
    cursor = await connection.execute("SELECT entries, hash, clock_timestamp() FROM pipeline.audit_head FOR UPDATE")
    row = await cursor.fetchone()
    if row is None:
        raise PermanentError("pipeline.audit_head has no row", hint="run: python -m database audit verify")
    number, previous, at = row[0] + 1, row[1], row[2]
    digest = _hash(number, at, actor, action, client_id, subject, text, previous)
    await connection.execute(
        "WITH head AS (UPDATE pipeline.audit_head SET entries = %s, hash = %s)"
        " INSERT INTO pipeline.audit_log (id, at, actor, action, client_id, subject, details, previous_hash, hash)"
        " VALUES (%s, %s, %s, %s, %s, %s, %s::json, %s, %s)",
        (number, digest, number, at, actor, action, client_id, subject, text, previous, digest),
    )


async def head(connection: AsyncConnection) -> Head | None:
    """The end of the chain as it is recorded; None when somebody took it away."""
    row = await (await connection.execute("SELECT entries, hash FROM pipeline.audit_head")).fetchone()
    return None if row is None else Head(row[0], row[1])


async def page(
    connection: AsyncConnection,
    *,
    before: int | None = None,
    limit: int = 100,
    client_id: str | None = None,
    changes_only: bool = False,
) -> list[Entry]:
    """Entries, newest first: at most `limit`, with ids below `before`, of one client if it is given.

    `changes_only` leaves out what the processor stored, by far the most of them.
    """
    conditions = [sql.SQL("true")]
    if before is not None:
        conditions.append(sql.SQL("id < %(before)s"))
    if client_id is not None:
        conditions.append(sql.SQL("client_id = %(client_id)s"))
    if changes_only:
        conditions.append(sql.SQL("action <> 'objects.stored'"))
    query = sql.SQL("{} WHERE {} ORDER BY id DESC LIMIT %(limit)s").format(_SELECT, sql.SQL(" AND ").join(conditions))
    async with connection.cursor(row_factory=class_row(Entry)) as cursor:
        await cursor.execute(query, {"before": before, "limit": limit, "client_id": client_id})
        return await cursor.fetchall()


async def verify(connection: AsyncConnection, anchor: Head | None = None) -> Verdict:
    """Follow the chain from its first entry to its end; stop at the first break.

    `anchor` is a head that was noted before: it must still be a part of the chain. Reads row by row, in one snapshot;
    writers are not kept waiting.
    """
    async with connection.transaction():
        await connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        end = await head(connection)
        whole = Head(0, GENESIS)
        async with connection.cursor(name="audit", row_factory=class_row(Entry)) as cursor:
            cursor.itersize = 2000
            await cursor.execute(sql.SQL("{} ORDER BY id").format(_SELECT))
            async for entry in cursor:
                if (problem := _problem(entry, whole, anchor)) is not None:
                    moved = await _follower(connection, whole.hash)
                    return Verdict(head=whole, broken=_explained(entry, whole, problem, moved))
                whole = Head(entry.id, entry.hash)
    return Verdict(head=whole, broken=_end_problem(whole, end, anchor))


_SELECT = sql.SQL(
    "SELECT id, at, actor, action, client_id, subject, details::text AS details, previous_hash, hash"
    " FROM pipeline.audit_log"
)


def _problem(entry: Entry, before: Head, anchor: Head | None) -> str | None:
    if entry.id != before.entries + 1:
        return "missing"
    if entry.hash != entry.own_hash():
        return "changed"
    if entry.previous_hash != before.hash:
        return "foreign"
    if anchor is not None and anchor.entries == entry.id and anchor.hash != entry.hash:
        return "rewritten"
    return None


async def _follower(connection: AsyncConnection, digest: str) -> int | None:
    """The number under which the entry stands that says it follows `digest`."""
    cursor = await connection.execute("SELECT id FROM pipeline.audit_log WHERE previous_hash = %s", (digest,))
    row = await cursor.fetchone()
    return None if row is None else int(row[0])


def _explained(entry: Entry, before: Head, problem: str, follower: int | None) -> Break:
    number = before.entries + 1
    if problem == "rewritten":
        return Break(id=number, problem="it is not the one that was noted: the chain was written anew")
    if entry.id < number:
        return Break(id=entry.id, problem="inserted: the chain begins with entry 1")
    if follower is not None and follower != number:
        return Break(id=number, problem=f"moved: what was entry {number} stands as entry {follower}")
    if problem == "missing":
        missing = f"entries {number} to {entry.id - 1} were" if entry.id - 1 > number else "it was"
        return Break(id=number, problem=f"removed: {missing} taken out")
    if problem == "changed":
        return Break(id=number, problem="changed: what it says is not what was written")
    return Break(
        id=number, problem=f"does not follow entry {before.entries}: it was inserted, or that one was written anew"
    )


def _end_problem(whole: Head, end: Head | None, anchor: Head | None) -> Break | None:
    if end is None:
        return Break(id=whole.entries + 1, problem="the recorded end of the chain (pipeline.audit_head) is gone")
    if end.entries > whole.entries:
        return Break(id=whole.entries + 1, problem=f"removed: the chain had {end.entries} entries")
    if end.entries < whole.entries:
        return Break(id=end.entries + 1, problem=f"inserted: the chain has {end.entries} entries")
    if end.hash != whole.hash:
        return Break(id=whole.entries, problem="changed: it is not the recorded end of the chain")
    if anchor is not None and anchor.entries > whole.entries:
        return Break(id=whole.entries + 1, problem=f"removed: {anchor.entries} entries were noted")
    return None


def _hash(number: int, at: datetime, *said: str | None) -> str:
    """SHA-256 of the entry as one JSON array: unambiguous, and easily computed by others."""
    entry = [number, at.astimezone(UTC).isoformat(timespec="microseconds"), *said]
    return hashlib.sha256(json.dumps(entry, ensure_ascii=True, separators=(",", ":")).encode()).hexdigest()


def _printed(details: Mapping[str, object]) -> str:
    """`details` as JSON in ASCII. Raises ValueError for what is no JSON, and for names of secrets."""
    for name in _names(details):
        if _SECRET.search(name):
            raise ValueError(f"an audit entry's details must not hold {name!r}")
    try:
        return json.dumps(details, ensure_ascii=True, allow_nan=False, separators=(",", ":"), sort_keys=True)
    except TypeError:
        raise ValueError("an audit entry's details must be JSON values") from None


def _names(value: object) -> Iterator[str]:
    if isinstance(value, Mapping):
        for name, inner in value.items():
            yield str(name)
            yield from _names(inner)
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from _names(inner)
