"""A row of the source table as one line of JSON, byte by byte: what `streamer.rows` does, for the compiled build. Pure.

Compiled by mypyc (see `setup.py`) it takes a fifth of the time of the function that `streamer.rows` writes; as plain
Python it takes three times as long, and is only run by tests. Both give the same lines.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from librt.strings import BytesWriter, read_i32_be, read_i64_le
from mypy_extensions import i64

from streamer.pgoutput import DecodeError
from streamer.types import ToJson

# What to do with a column's text; OTHER leaves it to the column's function.
SKIP: Final = 0
AS_IT_IS: Final = 1
TEXT: Final = 2
QUOTED: Final = 3
TIMESTAMPTZ: Final = 4
OTHER: Final = 5

# Which column it is, where that matters.
CLIENT_ID: Final = 1
SITE_ID: Final = 2

_LARGE_BYTES: Final[i64] = 1 << 18
"""After a larger line its buffer is given back."""

_ONES: Final[i64] = 0x0101010101010101
_HIGH_BITS: Final[i64] = -0x7F7F7F7F7F7F7F80


class Step:
    """What to do with one column."""

    def __init__(self, *, kind: int, key: bytes, convert: ToJson, document: bool, role: int) -> None:
        """`key`: of its member, with the brace or comma before it and the colon. `document`: goes to the line's end."""
        self.kind: i64 = kind
        self.key = key
        self.convert = convert
        self.document = document
        self.role: i64 = role


class Walk:
    """All columns of a relation, in the table's order."""

    def __init__(self, steps: Sequence[Step]) -> None:
        """`steps`: documents go to the end of the line, so the key that opens the brace is that of a scalar."""
        self._steps = list(steps)
        self._out = BytesWriter()

    def encode(self, data: bytes, at: i64) -> tuple[bytes | None, bytes | None, bytes]:
        """(key, client_id, line) of an insert message whose first column is at `at`.

        Raises DecodeError when the row is malformed, IndexError when it is cut short.
        """
        out = self._out
        out.truncate(0)
        documents: list[bytes] = []
        client_id: bytes | None = None
        site_id: bytes | None = None
        size: i64 = len(data)
        for step in self._steps:
            kind = step.kind
            tag = data[at]
            if tag == 0x74:  # t: text
                length = i64(read_i32_be(data, at + 1))
                start = at + 5
                at = start + length
                if length < 0 or at > size:
                    raise DecodeError("pgoutput: a value longer than its row")
                if kind == SKIP:
                    continue
                value = data[start:at]
                if step.role == CLIENT_ID:
                    client_id = value
                elif step.role == SITE_ID:
                    site_id = value
                if step.document:
                    documents.append(step.key)
                    documents.append(value if kind == AS_IT_IS else step.convert(value))
                    continue
                out.write(step.key)
                if kind == AS_IT_IS:
                    out.write(value)
                elif kind == QUOTED or (kind == TEXT and is_plain(data, start, at)):
                    out.append(0x22)
                    out.write(value)
                    out.append(0x22)
                elif kind == TIMESTAMPTZ and length == 29 and _is_usual_time(data, start):
                    out.append(0x22)
                    out.write(data[start : start + 10])
                    out.append(0x54)  # T
                    out.write(data[start + 11 : start + 26])
                    out.append(0x5A)  # Z
                    out.append(0x22)
                else:
                    out.write(step.convert(value))
            elif tag == 0x6E:  # n: null
                at += 1
                if kind != SKIP:
                    if step.document:
                        documents.append(step.key)
                        documents.append(b"null")
                    else:
                        out.write(step.key)
                        out.write(b"null")
            else:
                # u: unchanged TOAST, which no insert has; b: binary, which we did not ask for
                raise DecodeError("pgoutput: a value that is neither text nor null")
        if at != size:
            raise DecodeError("pgoutput: an insert of another length than it says")
        for part in documents:
            out.write(part)
        out.append(0x7D)
        if size > _LARGE_BYTES:
            self._out = BytesWriter()
        return (site_id if client_id is None else client_id), client_id, out.getvalue()


def is_plain(data: bytes, at: i64, end: i64) -> bool:
    """Whether `data[at:end]` is ASCII that stands in a JSON string as it is; eight bytes at a time."""
    while at + 8 <= end:
        eight = read_i64_le(data, at)
        quote = eight ^ (_ONES * 0x22)
        backslash = eight ^ (_ONES * 0x5C)
        # A high bit stays where a byte is not ASCII, is less than 0x20, or became zero.
        found = eight | ((eight - _ONES * 0x20) & ~eight)
        found |= ((quote - _ONES) & ~quote) | ((backslash - _ONES) & ~backslash)
        if found & _HIGH_BITS:
            return False
        at += 8
    while at < end:
        byte = data[at]
        if byte < 0x20 or byte == 0x22 or byte == 0x5C or byte >= 0x80:
            return False
        at += 1
    return True


def _is_usual_time(data: bytes, at: i64) -> bool:
    """`2026-11-23 05:57:00.500000+00`, by its marks."""
    return (
        data[at + 4] == 0x2D
        and data[at + 10] == 0x20
        and data[at + 19] == 0x2E
        and data[at + 26] == 0x2B
        and data[at + 27] == 0x30
        and data[at + 28] == 0x30
    )
