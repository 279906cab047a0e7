"""Which raw objects speak of the rows of this very server. Pure.

A restored copy, a promoted standby and the server itself have the same rows under the same ids, until they part. Only
what was committed on the way to the present of the connected server may be deleted there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pipeline.position import Lsn, Position


@dataclass(frozen=True, slots=True, kw_only=True)
class Epoch:
    """A history that a streamer has met: a row of the ledger's `epochs`."""

    epoch: int
    system_identifier: str
    timeline: int
    begins_at: Lsn


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """What the connected server says about itself."""

    system_identifier: str
    timeline: int
    in_recovery: bool


class History:
    """The way to the present of one server."""

    def __init__(self, epochs: Sequence[Epoch], server: Server, current: int | None) -> None:
        """`current`: the epoch that the streamer works in; None when the ledger knows of no stream."""
        present = next((item for item in epochs if item.epoch == current), None)
        self.is_known = (
            present is not None
            and present.system_identifier == server.system_identifier
            and present.timeline == server.timeline
        )
        """The streamer works on this server, in its present history."""
        self._ends: dict[int, Lsn | None] = {}
        if present is None or not self.is_known:
            return
        earlier = [
            item
            for item in epochs
            if item.system_identifier == present.system_identifier and item.timeline < present.timeline
        ]
        self._ends[present.epoch] = None
        end = present.begins_at
        for item in sorted(earlier, key=lambda item: item.timeline, reverse=True):
            self._ends[item.epoch] = end
            end = min(end, item.begins_at)

    def holds(self, position: Position) -> bool:
        """What was committed at `position` is in this server's past: its epoch ended later, or has not ended."""
        if position.epoch not in self._ends:
            return False
        end = self._ends[position.epoch]
        return end is None or position.commit_lsn < end
