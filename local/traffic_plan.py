"""When and in which transactions rows are written. Pure: clocks and random numbers are passed in."""

from __future__ import annotations

import random
from bisect import bisect
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from itertools import accumulate


class Way(Enum):
    """How a transaction writes its rows."""

    SINGLE = "single"
    INSERT = "insert"
    COPY = "copy"


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """One transaction. `rows` are kept unless `rolled_back`; `aborted_rows` more go into a savepoint that is undone."""

    way: Way
    rows: int
    rolled_back: bool = False
    aborted_rows: int = 0


def plan_transaction(rng: random.Random, rate: float) -> Plan:
    """The next transaction at `rate` rows a second: small ones at low rates, so that rows come evenly.

    A few are rolled back as a whole or in part; their rows must arrive nowhere, and leave gaps in the ids.
    """
    choice, undone = rng.random(), rng.random()
    most = max(1, min(400, round(rate / 10)))
    if choice < 0.35 or most == 1:
        plan = Plan(way=Way.SINGLE, rows=1, rolled_back=undone < 0.03)
    elif choice < 0.75:
        rows = rng.randint(2, max(2, most))
        aborted = rng.randint(1, rows) if 0.03 <= undone < 0.06 else 0
        plan = Plan(way=Way.INSERT, rows=rows, rolled_back=undone < 0.03, aborted_rows=aborted)
    else:
        plan = Plan(way=Way.COPY, rows=rng.randint(1, most), rolled_back=undone < 0.03)
    return plan


class TokenBucket:
    """Paces rows on a monotonic clock. A stall is made good for `burst_seconds` at most, then it is lost."""

    def __init__(self, rate: float, now: float, *, burst_seconds: float = 2.0) -> None:
        """`rate`: rows a second, above 0. Starts empty, so that the first second isn't a burst."""
        self._rate = rate
        self._most = max(1.0, rate * burst_seconds)
        self._tokens = 0.0
        self._at = now

    def take(self, rows: int, now: float) -> float:
        """Take `rows` at once; returns the seconds to wait before they may be written, 0 for none.

        May go into debt, so that a transaction larger than a second's rate passes, and the next ones wait for it.
        """
        self._tokens = min(self._most, self._tokens + (now - self._at) * self._rate) - rows
        self._at = now
        return max(0.0, -self._tokens / self._rate)


class Zipf:
    """Picks an item with a probability of 1 / rank ** `exponent`: a few clients have most of the traffic."""

    def __init__(self, items: Sequence[str], exponent: float = 1.0) -> None:
        """`items`: most frequent first; at least one."""
        self._items = tuple(items)
        self._sums = tuple(accumulate((rank + 1) ** -exponent for rank in range(len(items))))

    def pick(self, rng: random.Random) -> str:
        """One item."""
        return self._items[bisect(self._sums, rng.random() * self._sums[-1], hi=len(self._items) - 1)]
