"""How fast a replay may go: the live pipeline uses the same broker, buckets and ledger."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable


class Pace:
    """At most so many events a second on average; what was slow earlier is not caught up in a burst."""

    def __init__(self, events_per_second: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._seconds_per_event = 1 / events_per_second
        self._clock = clock
        self._free_at = clock()

    def rest_seconds(self, events: int) -> float:
        """How long to rest after so many events more."""
        now = self._clock()
        self._free_at = max(self._free_at, now - 1.0) + events * self._seconds_per_event
        return max(0.0, self._free_at - now)

    async def keep(self, events: int) -> None:
        """Rest as long as is due after so many events more."""
        await asyncio.sleep(self.rest_seconds(events))
