"""What becomes of one message: the decision for every way in which its work may end."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from database.ledger.deliveries import RunBusyError
from database.ledger.setback import LedgerSetBackError
from pipeline.errors import FencedError, PermanentError, TransientError
from pipeline.syncqueue import MessageError
from syncer.delivery import NotNowError

_FIRST_DELAY_SECONDS = 10.0
_LONGEST_DELAY_SECONDS = 900.0


class Fate(Enum):
    """What happens to the message."""

    DELETE = "delete"
    HIDE = "hide"


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """The fate of a message; `outcome` labels the metric."""

    fate: Fate
    outcome: str
    seconds: float = 0.0


def decide(error: Exception | None, receives: int, max_receives: int | None, *, lease_seconds: float) -> Decision:
    """The decision after `error`, None for success, at the `receives`-th time.

    A permanent failure is written in the run's row and tried again at the next tick, so its message goes. What isn't a
    message is left to the redrive policy, and so is what fails for a reason unknown to us: one client's odd data must
    neither stop the others nor be tried for ever.
    """
    delay = delay_seconds(receives)
    match error:
        case None:
            return Decision(fate=Fate.DELETE, outcome="done")
        case MessageError():
            return Decision(fate=Fate.HIDE, outcome="malformed", seconds=1.0)  # it won't become better
        case LedgerSetBackError():
            return Decision(fate=Fate.HIDE, outcome="refused", seconds=delay)
        case NotNowError():
            return Decision(fate=Fate.DELETE, outcome="skipped")
        case RunBusyError() | FencedError():
            # Whoever holds the run delivers, and the next tick follows: not a case for the dead-letter queue.
            if max_receives is not None and receives >= max_receives:
                return Decision(fate=Fate.DELETE, outcome="superseded")
            # Half a lease: should the other one be dead, its run is free by the second try.
            wait = min(_LONGEST_DELAY_SECONDS, lease_seconds / 2 * 1.5 ** min(receives - 1, 10))
            return Decision(fate=Fate.HIDE, outcome="busy", seconds=max(1.0, wait))
        case TransientError():
            return Decision(fate=Fate.HIDE, outcome="retry", seconds=delay)
        case PermanentError():
            return Decision(fate=Fate.DELETE, outcome="failed")
        case _:
            return Decision(fate=Fate.HIDE, outcome="crashed", seconds=delay)


def delay_seconds(receives: int) -> float:
    """How long a message rests after its `receives`-th try: 10 s, doubled each time, at most a quarter of an hour."""
    return min(_LONGEST_DELAY_SECONDS, _FIRST_DELAY_SECONDS * 2.0 ** min(max(receives - 1, 0), 10))
