"""Which partition an event belongs to: a pure function of the event and of the layout in force at its position.

A layout is in force from its position on, up to the next one's. So neither a changed number of partitions nor the
fan-out of a hot client moves an event that was sent before, whoever asks, and whenever: the streamer after a restart,
the processor that refills a hole, a replay from raw files.
"""

from __future__ import annotations

import zlib
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from pipeline.errors import PoisonError
from pipeline.events import Event, partition_of
from pipeline.position import ZERO, Position
from pipeline.record import text_column


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """How events from `from_position` on are spread."""

    from_position: Position = ZERO
    partitions: int
    fanout: Mapping[bytes, int] = field(default_factory=dict)
    """Keys (a client_id, or a site_id where rows carry none) whose sessions are spread over so many partitions."""

    def partition_of(self, key: bytes | None, line: bytes) -> int:
        """The partition of an event: its key's; with a fan-out one of those that follow it, by session."""
        first = partition_of(key, self.partitions)
        width = self.fanout.get(key) if self.fanout and key is not None else None
        return first if width is None else (first + zlib.crc32(_session(line)) % width) % self.partitions


class Layouts:
    """All layouts of one topic."""

    def __init__(self, layouts: Iterable[Layout]) -> None:
        """At least one; the first is in force from the beginning."""
        self._layouts = sorted(layouts, key=lambda layout: layout.from_position)
        self._begins = [layout.from_position for layout in self._layouts]

    def __iter__(self) -> Iterator[Layout]:
        """In the order of their positions."""
        return iter(self._layouts)

    @property
    def current(self) -> Layout:
        """The last one."""
        return self._layouts[-1]

    @property
    def partitions(self) -> int:
        """As many as the topic must have: the most of any layout."""
        return max(layout.partitions for layout in self._layouts)

    def at(self, position: Position) -> Layout:
        """The layout in force at `position`."""
        return self._layouts[max(0, bisect_right(self._begins, position) - 1)]

    def partition_of_line(self, position: Position, line: bytes) -> int:
        """The partition that the streamer sent the record `line` to. Raises PoisonError when it is no record."""
        key = text_column(line, "client_id")
        if key is None:
            key = text_column(line, "site_id")
        return self.at(position).partition_of(None if key is None else key.encode(), line)

    def split(self, event_batch: Sequence[Event]) -> Iterator[tuple[Layout, Sequence[Event]]]:
        """`event_batch`, whose positions ascend, cut where another layout begins."""
        while event_batch:
            layout = self.at(event_batch[0].position)
            if layout is self.at(event_batch[-1].position):
                yield layout, event_batch
                return
            following = self._begins[self._layouts.index(layout) + 1]
            cut = next(n for n, event in enumerate(event_batch) if event.position >= following)
            yield layout, event_batch[:cut]
            event_batch = event_batch[cut:]

    def followed_by(self, layout: Layout) -> Layouts:
        """These and one more."""
        return Layouts([*self._layouts, layout])


def _session(line: bytes) -> bytes:
    try:
        return (text_column(line, "session_id") or "").encode()
    except PoisonError:  # a table without that column, or with another type in it
        return b""
