"""How many dead letters are a few bad records, and how many are a bug of ours that must not drain the topic. Pure."""

from __future__ import annotations

from collections import Counter

from pipeline.errors import PermanentError

FEWEST = 100
HIGHEST_RATIO = 0.01
WINDOW_EVENTS = 1_000_000
"""The counts are halved when so many events were seen: last week's good records don't excuse today's bad ones."""

NOBODY = ""
"""Of records whose columns can't be read, so that they have no client: only the streamer prints columns."""


class DeadLetterLimit:
    """Counts what became of the events that this process takes."""

    def __init__(self) -> None:
        self._events = 0
        self._dead: Counter[str] = Counter()

    def count(self, disposition: str, client_id: str) -> None:
        """Note one event.

        Raises PermanentError when more than 1 % and at least 100 of them are dead letters, and not of one client alone:
        then no client's page but we ourselves are to blame, and whoever stops now loses nothing.
        """
        self._events += 1
        if disposition == "dead_letter":
            self._dead[client_id] += 1
            dead = self._dead.total()
            if dead >= FEWEST and dead > HIGHEST_RATIO * self._events and (len(self._dead) > 1 or self._dead[NOBODY]):
                raise PermanentError(
                    f"{dead} of the last {self._events} records can't be processed, of {len(self._dead)} clients",
                    hint="no client causes this: see the reasons in dead-letters/ and mend the program;"
                    " nothing is lost, the records are read again",
                )
        if self._events >= WINDOW_EVENTS:
            self._events //= 2
            self._dead = Counter({client: n // 2 for client, n in self._dead.items() if n > 1})
