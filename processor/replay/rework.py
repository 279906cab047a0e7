"""One hour's events on their way into new objects: whose cell, what becomes of them now, what has to change. Pure."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from uuid import UUID

from database.ledger.cells import ChunkSpan, CurrentObject
from database.ledger.chunks import ConsumerPosition, CountKey
from database.ledger.revisions import NewObject, Rows
from pipeline.errors import PoisonError
from pipeline.keys import source_client_id
from pipeline.position import Position
from pipeline.record import text_column
from processor.chunk import Chunk, Draft
from processor.outcome import COLLECTOR_MARKERS, Outcome, Policies, attribute, dead_letter, decide
from processor.replay.cells import QUARANTINE, Cell, Ownership, Tally, differences, tallies_of
from processor.replay.shown import Shown


@dataclass(slots=True)
class Findings:
    """What the summary says about a cell's events as they come out now."""

    policy_versions: set[str] = field(default_factory=set)
    privacy_levels: set[str] = field(default_factory=set)

    def note(self, outcome: Outcome) -> None:
        """One event."""
        if outcome.policy_version:
            self.policy_versions.add(outcome.policy_version)
            self.privacy_levels.add(outcome.privacy_level)


class Rework:
    """Takes the events of the hour's chunks in any order of chunks, and in order within each."""

    def __init__(
        self,
        *,
        cells: Mapping[str, Cell],
        spans: Mapping[UUID, ChunkSpan],
        ownership: Ownership,
        policies: Policies,
        release_to: str | None = None,
    ) -> None:
        """`release_to`: of the quarantine's events only this client's are released; None: everybody's."""
        self._cells = cells
        self._spans = spans
        self._ownership = ownership
        ownership.begin()
        self._policies = policies
        self._release_to = release_to
        self._expected = tallies_of(cells)
        self._found: dict[UUID, Tally] = defaultdict(Counter)
        self._chunks: dict[UUID, dict[str, Chunk]] = defaultdict(dict)
        self.findings: dict[str, Findings] = {client_id: Findings() for client_id in cells}

    def take(self, chunk_id: UUID, position: Position, commit_time: int, line: bytes) -> None:
        """One event of a chunk; passed over when it is in no cell that is reworked. `commit_time` in microseconds."""
        try:
            column = text_column(line, "client_id")
            marked = column is None or column.startswith(COLLECTOR_MARKERS)
            attributed = attribute(line, commit_time, self._policies) if marked else column
            source = source_client_id(column)
        except PoisonError:
            return  # a dead letter of nobody; no cell has it
        owner = self._ownership.of((chunk_id, source), line, attributed or QUARANTINE)
        if owner is None or owner not in self._cells:
            return
        self._found[chunk_id][owner, source] += 1
        outcome = self._decide(owner, line, column, position, commit_time)
        self.findings[owner].note(outcome)
        chunks = self._chunks[chunk_id]
        chunk = chunks.get(owner)
        if chunk is None:
            chunk = chunks[owner] = self._open(chunk_id)
        chunk.add(outcome, source, position, 0, commit_time)

    def _decide(self, owner: str, line: bytes, column: str | None, position: Position, commit_time: int) -> Outcome:
        try:
            outcome = decide(line, column, position, commit_time, self._policies)
        except PoisonError as error:
            return Outcome("dead_letter", "dead_letter", "", dead_letter(line, str(position), str(error)))
        if owner == QUARANTINE and self._release_to not in (None, outcome.client_id):
            return Outcome("quarantine", "quarantine", "", line)
        return outcome

    def _open(self, chunk_id: UUID) -> Chunk:
        span = self._spans[chunk_id]
        before = ConsumerPosition(next_offset=span.first_offset, last_sequence=-1, last_position=span.after)
        return Chunk(chunk_id, before, 0.0)

    def differences(self, chunk_id: UUID) -> list[tuple[str, str]]:
        """(client id of the cell, what is wrong), unless all of the chunk's events were found, and no more."""
        return differences(chunk_id, self._expected.get(chunk_id, Counter()), self._found[chunk_id])

    def close(self, chunk_id: UUID) -> dict[str, Chunk]:
        """What the chunk's events have become, by the client id of the cell that they were in; it is forgotten here."""
        return self._chunks.pop(chunk_id, {})


@dataclass(slots=True)
class Outturn:
    """What a cell comes out as, chunk by chunk, against what there is."""

    cell: Cell
    counts: dict[tuple[UUID, CountKey], int] = field(default_factory=dict)
    new: list[NewObject] = field(default_factory=list)
    kept: set[int] = field(default_factory=set)
    """Ids of objects of now that came out the same."""
    new_objects: int = 0
    """How many there are to be; a dry run writes none of them."""
    shown_before: Shown = field(default_factory=Shown)
    shown_after: Shown = field(default_factory=Shown)

    def add_counts(self, chunk: Chunk) -> None:
        """What became of a chunk's events."""
        self.counts.update({(chunk.id, key): events for key, events in chunk.counts().items()})

    @property
    def superseded(self) -> list[int]:
        """Ids of the objects that are not what they should be now."""
        return [item.id for item in self.cell.objects if item.id not in self.kept]

    @property
    def removed(self) -> Rows:
        """The cell's rows that change, as they were read."""
        return {key: events for key, events in self.cell.rows.items() if self.counts.get(key) != events}

    @property
    def added(self) -> Rows:
        """What takes their place."""
        return {key: events for key, events in self.counts.items() if self.cell.rows.get(key) != events}

    @property
    def is_changed(self) -> bool:
        """False when all came out as it is."""
        return bool(self.superseded or self.new_objects or self.removed or self.added)


def same_object(draft: Draft, sha256: str, chunk_id: UUID, objects: Collection[CurrentObject]) -> CurrentObject | None:
    """The object of now that holds just what the draft does, in the same bytes under the same policy."""
    before = [
        item
        for item in objects
        if (item.chunk_id, item.kind, item.client_id) == (chunk_id, draft.kind, draft.client_id)
    ]
    if len(before) != 1:
        return None
    now = (before[0].sha256, before[0].privacy_level, before[0].policy_version)
    return before[0] if now == (sha256, draft.privacy_level, draft.policy_version) else None
