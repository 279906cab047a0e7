"""Where the events of chunks are to be found, in Kafka and in raw files. Pure."""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from uuid import UUID

from database.ledger.cells import ChunkSpan
from pipeline.position import Position

Taken = tuple[UUID, Position, int, bytes]
"""(chunk id, position, commit time in microseconds, line)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What a reader is asked for: the events of one hour in some chunks."""

    hour: int
    """Since 1970."""
    spans: Sequence[ChunkSpan]
    sources: Collection[str]
    """The source_client_ids that matter; others may be left out."""
    events: Mapping[UUID, int]
    """How many each chunk has in that hour, by the ledger."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """What a reader hands over at a time."""

    events: list[Taken]
    closed: list[UUID]
    """Chunks of which nothing more comes."""


class Partition:
    """The chunks of one partition, in order: finds an event's chunk by its position."""

    def __init__(self, spans: Iterable[ChunkSpan]) -> None:
        self.spans = sorted(spans, key=lambda span: span.until)
        self._ends = [span.until for span in self.spans]

    def span_at(self, position: Position) -> ChunkSpan | None:
        """The chunk that took the event at `position`; None when it is none of these."""
        at = bisect_left(self._ends, position)
        if at == len(self.spans) or position <= self.spans[at].after:
            return None
        return self.spans[at]

    def closed_by(self, position: Position, before: Position) -> list[UUID]:
        """Chunks that end after `before`, and at `position` at the latest."""
        return [span.id for span in self.spans if before < span.until <= position]


def partitions_of(spans: Iterable[ChunkSpan]) -> dict[int, Partition]:
    """The chunks by their partition."""
    found: dict[int, list[ChunkSpan]] = defaultdict(list)
    for span in spans:
        found[span.partition].append(span)
    return {number: Partition(found[number]) for number in sorted(found)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Stretch:
    """Offsets of one partition to be read in one go: from `start`, before `stop`."""

    start: int
    stop: int
    spans: tuple[ChunkSpan, ...]


def stretches(partition: Partition) -> Iterator[Stretch]:
    """What to read of Kafka: neighbouring chunks together. Chunks that Kafka has nothing of are left out."""
    together: list[ChunkSpan] = []
    for span in partition.spans:
        if span.first_offset >= span.next_offset:
            continue
        if together and span.first_offset != together[-1].next_offset:
            yield Stretch(start=together[0].first_offset, stop=together[-1].next_offset, spans=tuple(together))
            together = []
        together.append(span)
    if together:
        yield Stretch(start=together[0].first_offset, stop=together[-1].next_offset, spans=tuple(together))


def passes(
    partitions: Mapping[int, Partition], events: Mapping[UUID, int], most_events: int
) -> list[dict[int, Partition]]:
    """How often raw files are gone through, and for which partitions each time.

    A raw file holds all partitions' events, so in one pass a chunk of each partition is open at a time: together they
    hold at most `most_events`, unless a single chunk has more. `events` by chunk id.
    """
    found: list[dict[int, Partition]] = []
    room = 0
    for number, partition in partitions.items():
        largest = max(events.get(span.id, 0) for span in partition.spans)
        if not found or largest > room:
            found.append({})
            room = most_events
        found[-1][number] = partition
        room -= largest
    return found
