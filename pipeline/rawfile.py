"""The format of raw files: gzip members of lines, each with the positions of its lines in its header. Pure.

To `zcat` a raw file is NDJSON. To us each member is a block: its extra field `EP` says, for every line, its position
and commit time, as runs of rows of one transaction. So one immutable object under one checksum holds both, and a hole
in Kafka can be refilled from here. (BAM files in genomics have carried block indexes like this since 2009: BGZF.)
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator, Sequence

from pipeline.events import Event
from pipeline.gzip import GzipError, member, members
from pipeline.position import Position

BLOCK_EVENTS = 1000
"""At 32 bytes a run this keeps even an incompressible index under the 64 KiB that an extra field can hold."""

BLOCK_BYTES = 1 << 20

_ID = b"EP"
_RUN = struct.Struct(">IQQqI")  # epoch, commit LSN, first index, commit time in microseconds, rows


def encode_block(event_batch: Sequence[Event]) -> bytes:
    """One gzip member with at most BLOCK_EVENTS events. The same events give the same bytes."""
    runs: list[list[int]] = []
    for event in event_batch:
        epoch, commit_lsn, index = event.position
        if runs:
            last = runs[-1]
            if last[1] == commit_lsn and last[0] == epoch and last[2] + last[4] == index:
                last[4] += 1
                continue
        runs.append([epoch, commit_lsn, index, event.commit_time, 1])
    index_bytes = zlib.compress(b"".join(_RUN.pack(*run) for run in runs), 1)
    lines = b"\n".join([event.line for event in event_batch]) + b"\n"
    return member(lines, extra=index_bytes, extra_id=_ID)


def decode(data: bytes) -> Iterator[tuple[Position, int, bytes]]:
    """(position, commit time in microseconds, line) of each event of a raw file, in order.

    Raises GzipError, and nothing else, when the file is damaged or its index and its lines disagree.
    """
    for extra, content in members(data, extra_id=_ID):
        lines = content.split(b"\n")
        if lines.pop() != b"":
            raise GzipError("raw file: the last line is cut short")
        positions = list(_positions(extra))
        if len(positions) != len(lines):
            raise GzipError("raw file: index and lines disagree")
        for (position, commit_time), line in zip(positions, lines, strict=True):
            yield position, commit_time, line


def _positions(extra: bytes) -> Iterator[tuple[Position, int]]:
    try:
        runs = list(_RUN.iter_unpack(zlib.decompress(extra)))
    except (zlib.error, struct.error) as error:
        raise GzipError("raw file: the index is damaged") from error
    for epoch, commit_lsn, first_index, commit_time, rows in runs:
        if rows > BLOCK_EVENTS:
            raise GzipError("raw file: the index is damaged")
        for index in range(first_index, first_index + rows):
            yield Position(epoch, commit_lsn, index), commit_time
