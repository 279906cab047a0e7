"""Where an event stands in the total order of the source: epoch, commit LSN, ordinal in its transaction."""

from __future__ import annotations

import re
import struct
from typing import NamedTuple

POSITION_BYTES = struct.Struct(">IQQ")
"""The form of `Position.to_bytes`."""

_TEXT = re.compile(r"[0-9A-F]{8}-[0-9A-F]{16}-[0-9]{20}")
_U32 = 0xFFFFFFFF
_U64 = 0xFFFFFFFFFFFFFFFF


class Lsn(int):
    """A place in the write-ahead log, in bytes; PostgreSQL prints it as two hexadecimal halves, `16/B374D848`.

    https://www.postgresql.org/docs/current/datatype-pg-lsn.html
    """

    @classmethod
    def parse(cls, text: str) -> Lsn:
        """Read PostgreSQL's form. Raises ValueError for anything else."""
        high, slash, low = text.partition("/")
        if not slash or len(high) > 8 or len(low) > 8:
            raise ValueError("not an LSN")
        return cls((int(high, 16) << 32) | int(low, 16))

    def __str__(self) -> str:
        return f"{self >> 32:X}/{self & 0xFFFFFFFF:X}"


class Position(NamedTuple):
    """Total order of events, stable across restarts. A tuple, because the path of every event compares positions.

    `epoch` numbers the histories of the database (u32; one for each system identifier and timeline), `commit_lsn` is
    the LSN of the transaction's commit record (u64), `index` is the ordinal of the row among the published inserts of
    that transaction (u64). The text form sorts like the triple, in S3 keys and in SQL (collation "C").
    """

    epoch: int
    commit_lsn: int
    index: int  # type: ignore[assignment]  # the field hides tuple.index, which nobody needs here

    def __str__(self) -> str:
        return f"{self.epoch:08X}-{self.commit_lsn:016X}-{self.index:020d}"

    @classmethod
    def parse(cls, text: str) -> Position:
        """Read the text form. Raises ValueError for anything else."""
        if not _TEXT.fullmatch(text):
            raise ValueError("not a position")
        epoch, commit_lsn, index = text.split("-")
        position = cls(int(epoch, 16), int(commit_lsn, 16), int(index))
        if position.index > _U64:
            raise ValueError("not a position: the index exceeds 64 bits")
        return position

    def to_bytes(self) -> bytes:
        """20 bytes, big-endian: u32, u64, u64. Sorts like the triple."""
        return POSITION_BYTES.pack(*self)

    @classmethod
    def from_bytes(cls, data: bytes) -> Position:
        """The inverse of `to_bytes`. Raises ValueError when `data` isn't 20 bytes long."""
        if len(data) != POSITION_BYTES.size:
            raise ValueError("not a position: 20 bytes expected")
        return cls(*POSITION_BYTES.unpack(data))


ZERO = Position(0, 0, 0)
"""Before every event: epochs begin at 1."""
