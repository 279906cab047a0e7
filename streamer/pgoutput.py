"""Decoder of pgoutput, protocol version 1: bytes of one replication message in, a message object out. Pure.

https://www.postgresql.org/docs/current/protocol-logicalrep-message-formats.html
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from pipeline.errors import PermanentError
from pipeline.position import Lsn

POSTGRES_EPOCH_MICROSECONDS = 946_684_800_000_000
"""2000-01-01 in microseconds since 1970: PostgreSQL counts from there."""

_BEGIN = struct.Struct(">xQqI")
_COMMIT = struct.Struct(">xBQQq")
_RELATION = struct.Struct(">xI")
_INSERT = struct.Struct(">xIcH")
_COLUMN_TYPE = struct.Struct(">Ii")
_U16 = struct.Struct(">H")


class DecodeError(PermanentError):
    """The bytes are not a pgoutput message of version 1. Stop: the server speaks another protocol, or memory is bad."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Begin:
    """A transaction starts. `commit_lsn` is the LSN of its commit record, `commit_time` in microseconds since 1970."""

    commit_lsn: Lsn
    commit_time: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Commit:
    """A transaction ends. `end_lsn` is the first byte after its commit record: what a standby confirms."""

    commit_lsn: Lsn
    end_lsn: Lsn


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """A column as the server announces it."""

    name: str
    type_oid: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Relation:
    """A table as of the rows that follow; sent again when the table has changed."""

    oid: int
    namespace: str
    name: str
    columns: tuple[Column, ...]


Message = Begin | Commit | Relation

INSERT_TUPLE_AT = 8
"""Where the columns of an insert begin. An insert is the path of every event, so it does not become an object."""


def insert_header(data: bytes) -> tuple[int, int]:
    """(relation's oid, number of columns) of an insert. Raises DecodeError for malformed bytes."""
    try:
        oid, new, count = _INSERT.unpack_from(data)
    except struct.error as error:
        raise DecodeError("pgoutput: malformed message") from error
    if new != b"N":
        raise DecodeError("pgoutput: an insert without a new row")
    return oid, count


def decode(data: bytes) -> Message | None:
    """The message in `data`, inserts excepted; None for kinds that are none of ours (origin, type, truncate ...).

    Raises DecodeError, and nothing else, for malformed bytes.
    """
    try:
        match data[:1]:
            case b"B":
                commit_lsn, commit_time, _xid = _BEGIN.unpack(data)
                return Begin(commit_lsn=Lsn(commit_lsn), commit_time=commit_time + POSTGRES_EPOCH_MICROSECONDS)
            case b"C":
                _flags, commit_lsn, end_lsn, _time = _COMMIT.unpack(data)
                return Commit(commit_lsn=Lsn(commit_lsn), end_lsn=Lsn(end_lsn))
            case b"R":
                return _relation(data)
            case b"O" | b"Y" | b"T" | b"U" | b"D" | b"M":
                return None
            case _:
                raise DecodeError("pgoutput: unknown kind of message")
    except (struct.error, UnicodeDecodeError, ValueError, IndexError) as error:
        raise DecodeError("pgoutput: malformed message") from error


def _relation(data: bytes) -> Relation:
    (oid,) = _RELATION.unpack_from(data)
    namespace, at = _text(data, _RELATION.size)
    name, at = _text(data, at)
    (count,) = _U16.unpack_from(data, at + 1)  # one byte before: the replica identity
    at += 3
    columns = []
    for _ in range(count):
        column, end = _text(data, at + 1)  # one byte before: flags
        type_oid, _modifier = _COLUMN_TYPE.unpack_from(data, end)
        at = end + _COLUMN_TYPE.size
        columns.append(Column(name=column, type_oid=type_oid))
    if at != len(data):
        raise DecodeError("pgoutput: a relation of another length than it says")
    return Relation(oid=oid, namespace=namespace or "pg_catalog", name=name, columns=tuple(columns))


def _text(data: bytes, at: int) -> tuple[str, int]:
    end = data.index(0, at)
    return data[at:end].decode(), end + 1
