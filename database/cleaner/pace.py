"""When the delay is over, and how long to rest between two batches. Pure: times are passed in."""

from __future__ import annotations

from collections import deque
from datetime import datetime, timedelta

BUSY_WAL_BYTES = 256 << 20
"""A slot that is so far behind: our own writes would put it back further, since the server decodes them too."""

MOST_SECONDS = 3.0

_MEMORY = 50


class TrustedClock:
    """The database's clock, but never running ahead of the seconds that this process has counted.

    A clock that is set forward would end every delay at once. So the smallest distance between the two clocks within
    the last `window_seconds` counts; what was stamped before that is older than the delay by any clock.
    """

    def __init__(self, window_seconds: float) -> None:
        self._window = window_seconds
        self._zero: datetime | None = None
        self._seen: deque[tuple[float, timedelta]] = (
            deque()
        )  # (monotonic, distance), both rising: the first is the least

    def now(self, database: datetime, monotonic: float) -> datetime:
        """The time to go by, when the database says `database` and this process counts `monotonic` seconds."""
        origin = database - timedelta(seconds=monotonic)
        self._zero = self._zero or origin
        distance = origin - self._zero
        while self._seen and self._seen[-1][1] >= distance:
            self._seen.pop()
        self._seen.append((monotonic, distance))
        while self._seen[0][0] < monotonic - self._window - 1:
            self._seen.popleft()
        return self._zero + self._seen[0][1] + timedelta(seconds=monotonic)


class Pace:
    """Rests as long as the last batch took, and longer the slower the database is than it can be.

    The quicker ones of the last batches tell how fast it can be. One for each kind of batch.
    """

    def __init__(self) -> None:
        self._per_row: deque[float] = deque(maxlen=_MEMORY)

    def rest_seconds(self, rows: int, took_seconds: float, slot_lag_bytes: int) -> float:
        """After a batch of `rows` that took so long. `slot_lag_bytes`: WAL that the slot has to go through."""
        per_row = took_seconds / max(1, rows)
        self._per_row.append(per_row)
        quick = sorted(self._per_row)[len(self._per_row) // 4]
        rest = took_seconds * max(1.0, per_row / max(quick, 1e-9))
        if slot_lag_bytes > BUSY_WAL_BYTES:
            rest = max(rest, 4 * took_seconds)
        return min(rest, MOST_SECONDS)
