"""Whether an object that was read back is the one that the ledger speaks of. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from enum import StrEnum
from itertools import islice

from database.cleaner.history import History
from database.ledger.cleanup import CleanupObject
from pipeline import rawfile
from pipeline.gzip import GzipError
from pipeline.position import Position


class Problem(StrEnum):
    """Why nothing is deleted on the strength of an object."""

    MISSING = "missing"
    TRUNCATED = "truncated"
    CHANGED = "changed"
    """Other bytes than the ledger's sha256 says."""
    COUNTS = "counts"
    """The object's events, the ledger's and the sum of raw_counts are not the same number, or positions differ."""
    DAMAGED = "damaged"
    """The right bytes, and yet no raw file."""
    OTHER_BUCKET = "other_bucket"
    OTHER_EPOCH = "other_epoch"
    """It was not exported from the past of this server."""
    ROWS_CHANGED = "rows_changed"
    """Some of its rows are not what was exported; all others are deleted."""
    UNREADABLE = "unreadable"
    """S3 refuses to give it."""


def misplaced(found: CleanupObject, bucket: str, history: History) -> Problem | None:
    """What is wrong with an object before it is read. `bucket`: the one that we read from."""
    if found.bucket != bucket:
        return Problem.OTHER_BUCKET
    if not (history.holds(Position.parse(found.first_position)) and history.holds(Position.parse(found.last_position))):
        return Problem.OTHER_EPOCH
    return None


def differs(found: CleanupObject, body: bytes) -> Problem | None:
    """What is wrong with the bytes that were read; None when they are what the ledger says, event by event."""
    if hashlib.sha256(body).hexdigest() != found.sha256:
        return Problem.TRUNCATED if len(body) < found.bytes else Problem.CHANGED
    first: Position | None = None
    last: Position | None = None
    events = 0
    try:
        for position, _, _ in rawfile.decode(body):
            if last is not None and position <= last:
                return Problem.COUNTS
            first, last = first or position, position
            events += 1
    except GzipError:
        return Problem.DAMAGED
    ends = (str(first), str(last)) == (found.first_position, found.last_position)
    return None if ends and events == found.events == found.counted else Problem.COUNTS


def batches(body: bytes, size: int) -> Iterator[list[bytes]]:
    """The lines of a checked object, `size` at a time."""
    lines = (line for _, _, line in rawfile.decode(body))
    while batch := list(islice(lines, size)):
        yield batch
