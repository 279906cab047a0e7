"""A raw file while it grows: blocks on a spool file, counts for the ledger. No await, no clock."""

from __future__ import annotations

import hashlib
import tempfile
from collections import Counter, deque
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import datetime
from operator import itemgetter
from typing import IO

from pipeline.events import Event
from pipeline.keys import HOUR_MICROSECONDS, hour_of, raw_key, source_client_id
from pipeline.position import Position
from pipeline.rawfile import BLOCK_BYTES, BLOCK_EVENTS, encode_block

_IN_MEMORY_BYTES = 1 << 20

_BLOCKS_WAITING = 2

_COMPRESSOR = ThreadPoolExecutor(1, "compressor")
"""Beside the event loop: compressing lets other threads run. One thread, so that blocks keep their order."""

_COUNTED = itemgetter(Event._fields.index("commit_time"), Event._fields.index("client_id"))


class RawFile:
    """Events in the order of their positions, becoming one object.

    Blocks are cut by count and size alone, so that the same events always give the same bytes: an upload that is
    tried again after a crash meets itself.
    """

    def __init__(self, opened_at: float) -> None:
        """`opened_at`: seconds since 1970."""
        self.opened_at = opened_at
        self.events = 0
        self.bytes = 0
        """Written so far; a few blocks are on their way."""
        self._block: list[Event] = []
        self._block_bytes = 0
        self._counts: Counter[tuple[int, bytes | None]] = Counter()
        self._spool: IO[bytes] = tempfile.SpooledTemporaryFile(max_size=_IN_MEMORY_BYTES)  # noqa: SIM115 - `discard`
        self._sha256 = hashlib.sha256()
        self._compressing: deque[Future[None]] = deque()
        self.first_position: Position | None = None
        self.last_position: Position | None = None
        self._first_commit_time = self._min_commit_time = self._max_commit_time = 0

    def add(self, event_batch: Sequence[Event]) -> None:
        """Append events, whose positions must be larger than those before. Raises OSError when the disk is full."""
        if not self.events:
            self.first_position = event_batch[0].position
            self._first_commit_time = self._min_commit_time = self._max_commit_time = event_batch[0].commit_time
        self.events += len(event_batch)
        self.last_position = event_batch[-1].position
        for (commit_time, client_id), events in Counter(map(_COUNTED, event_batch)).items():
            self._counts[(commit_time // HOUR_MICROSECONDS, client_id)] += events
            self._min_commit_time = min(self._min_commit_time, commit_time)
            self._max_commit_time = max(self._max_commit_time, commit_time)
        for event in event_batch:
            self._block.append(event)
            self._block_bytes += len(event.line)
            if len(self._block) >= BLOCK_EVENTS or self._block_bytes >= BLOCK_BYTES:
                self._close_block()

    def _close_block(self) -> None:
        while len(self._compressing) >= _BLOCKS_WAITING or (self._compressing and self._compressing[0].done()):
            self._compressing.popleft().result()
        self._compressing.append(_COMPRESSOR.submit(self._write, self._block))
        self._block, self._block_bytes = [], 0

    def _write(self, block: Sequence[Event]) -> None:
        data = encode_block(block)
        self._spool.write(data)
        self._sha256.update(data)
        self.bytes += len(data)

    def finish(self) -> IO[bytes]:
        """Write what is left, blocking; returns the whole file, at its beginning. No `add` may follow."""
        if self._block:
            self._close_block()
        while self._compressing:
            self._compressing.popleft().result()
        self._spool.seek(0)
        return self._spool

    def discard(self) -> None:
        """Give the spool file back."""
        self._spool.close()

    @property
    def sha256(self) -> bytes:
        """Of the finished file, 32 bytes."""
        return self._sha256.digest()

    @property
    def key(self) -> str:
        """Where the finished file goes."""
        assert self.first_position is not None
        assert self.last_position is not None
        return raw_key(self.first_position, self.last_position, self._first_commit_time)

    @property
    def commit_times(self) -> tuple[int, int]:
        """The earliest and the latest commit time, in microseconds since 1970."""
        return self._min_commit_time, self._max_commit_time

    def counts(self) -> dict[tuple[datetime, str], int]:
        """Events by hour of commit_time and source_client_id, as the ledger counts them."""
        counts: Counter[tuple[datetime, str]] = Counter()
        for (hour, client_id), events in self._counts.items():
            name = source_client_id(None if client_id is None else client_id.decode())
            counts[(hour_of(hour * HOUR_MICROSECONDS), name)] += events
        return dict(counts)
