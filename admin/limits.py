"""How often somebody may try to log in, by address."""

from __future__ import annotations

import time
from collections import OrderedDict, deque
from collections.abc import Callable

TRIES = 10
WINDOW_SECONDS = 60.0
_MOST_ADDRESSES = 10_000


class RateLimit:
    """At most `TRIES` in `WINDOW_SECONDS` for each address, in this process; accounts have a lock of their own."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._tries: OrderedDict[str, deque[float]] = OrderedDict()

    def admit(self, address: str) -> bool:
        """Count a try; False when there were too many."""
        now = self._clock()
        tries = self._tries.setdefault(address, deque())
        self._tries.move_to_end(address)
        while len(self._tries) > _MOST_ADDRESSES:
            self._tries.popitem(last=False)
        while tries and now - tries[0] > WINDOW_SECONDS:
            tries.popleft()
        if len(tries) >= TRIES:
            return False
        tries.append(now)
        return True
