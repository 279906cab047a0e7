"""A chunk while it fills: what a partition's records become, until it is time to write them. No await, no clock."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from uuid import UUID

from database.ledger.chunks import ConsumerPosition, CountKey
from pipeline.keys import HOUR_MICROSECONDS, hour_of
from pipeline.position import Position
from processor.outcome import Outcome

MAX_EVENTS = 200_000
MAX_BYTES = 64 << 20
MAX_DRAFTS = 5_000
"""Open objects per chunk: hours times clients. Each becomes a PUT."""


@dataclass(slots=True)
class Draft:
    """An object to be: lines of one kind, client, hour and policy."""

    kind: str
    client_id: str
    hour: int
    privacy_level: str
    policy_version: str
    kms_key: str
    """The client's own key at hipaa; '' for none."""
    min_commit_time: int
    max_commit_time: int
    lines: list[bytes] = field(default_factory=list)


class Chunk:
    """What one partition has gathered since `before`. Times in microseconds since 1970."""

    def __init__(self, chunk_id: UUID, before: ConsumerPosition, opened_at: float) -> None:
        """`opened_at`: seconds, monotonic."""
        self.id = chunk_id
        self.before = before
        self.opened_at = opened_at
        self.first_position: Position | None = None
        self.events = 0
        self.bytes = 0
        self.drafts: dict[tuple[str, str, int], Draft] = {}
        self._counts: Counter[tuple[int, str, str, str]] = Counter()
        self._next_offset = before.next_offset
        self.last_sequence = before.last_sequence
        self.last_position = before.last_position

    @property
    def after(self) -> ConsumerPosition:
        """Where the partition stands with what was gathered."""
        return ConsumerPosition(
            next_offset=self._next_offset, last_sequence=self.last_sequence, last_position=self.last_position
        )

    @property
    def is_full(self) -> bool:
        """It must be written now, whatever the clock says."""
        return self.events >= MAX_EVENTS or self.bytes >= MAX_BYTES or len(self.drafts) >= MAX_DRAFTS

    def fits(self, outcome: Outcome, commit_time: int) -> bool:
        """False when the client's settings have changed since its object was begun: one object, one policy, one key."""
        draft = self.drafts.get((outcome.kind, outcome.client_id, commit_time // HOUR_MICROSECONDS))
        return draft is None or (draft.policy_version, draft.kms_key) == (outcome.policy_version, outcome.kms_key)

    def add(self, outcome: Outcome, source_client_id: str, position: Position, sequence: int, commit_time: int) -> None:
        """Take one event. `next_offset` is moved by `passed`."""
        if self.first_position is None:
            self.first_position = position
        self.events += 1
        hour = commit_time // HOUR_MICROSECONDS
        self._counts[(hour, source_client_id, outcome.client_id, outcome.disposition)] += 1
        self.last_sequence, self.last_position = sequence, position
        if outcome.line is None:
            return
        key = (outcome.kind, outcome.client_id, hour)
        draft = self.drafts.get(key)
        if draft is None:
            draft = self.drafts[key] = Draft(
                outcome.kind,
                outcome.client_id,
                hour,
                outcome.privacy_level,
                outcome.policy_version,
                outcome.kms_key,
                commit_time,
                commit_time,
            )
        draft.lines.append(outcome.line)
        if commit_time < draft.min_commit_time:
            draft.min_commit_time = commit_time
        elif commit_time > draft.max_commit_time:
            draft.max_commit_time = commit_time
        self.bytes += len(outcome.line)

    def add_nothing(self, position: Position, sequence: int) -> None:
        """Pass over a record that points to no event, or a streamer's fence, which is none."""
        if self.first_position is None:
            self.first_position = position
        self.last_sequence, self.last_position = sequence, position

    def add_repeat(self, source_client_id: str, position: Position, commit_time: int) -> None:
        """Count a record that was taken before."""
        if self.first_position is None:
            self.first_position = position
        self.events += 1
        self._counts[(commit_time // HOUR_MICROSECONDS, source_client_id, "", "repeat")] += 1

    def passed(self, offset: int) -> None:
        """The record at `offset` is dealt with."""
        self._next_offset = offset + 1

    def counts(self) -> dict[CountKey, int]:
        """Events by hour, source_client_id, client_id and disposition, as the ledger counts them."""
        return {(hour_of(hour * HOUR_MICROSECONDS), *rest): n for (hour, *rest), n in self._counts.items()}  # type: ignore[misc]
