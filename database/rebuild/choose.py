"""What was committed, among all that was written. Pure.

Every step names where it began and where it ended; the ledger let only one step begin where another had ended. A
process that died between writing and committing left a step on which nothing follows.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Step(Generic[T]):
    """A step as it was written."""

    item: T
    before: Hashable
    after: Hashable
    is_proven: bool = False
    """It was committed: the ledger has it, or something was made of it that only the ledger could order."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Way(Generic[T]):
    """The steps that were committed, and the others."""

    taken: list[T]
    left: list[T]
    """Written and never committed: they exist for nobody."""
    conflicts: list[T]
    """Proven, and yet not on the way: two histories were mixed."""
    gaps: list[tuple[Hashable, Hashable]]
    """(end of a step, begin of the next one) with nothing between."""


def choose(steps: Sequence[Step[T]], order: Callable[[Hashable], Any]) -> Way[T]:
    """Follow the steps from the first to the last. `order` sorts where steps begin and end.

    Of several that begin at one place, the one counts that is proven, or on which another follows: who wrote that one
    had read from the ledger where to begin. With nothing behind them the furthest holds all that the others hold, and
    whether it was committed makes no difference: from now on it is.
    """
    following: dict[Hashable, list[Step[T]]] = defaultdict(list)
    for step in steps:
        following[step.before].append(step)
    leads = _leads(steps, following, order)
    starts = sorted((step.before for step in steps if step.before is not None), key=order)
    place: Hashable = None if None in following else next(iter(starts), None)
    taken: dict[int, Step[T]] = {}
    gaps: list[tuple[Hashable, Hashable]] = []
    index = 0
    while True:
        here = [step for step in following.get(place, ()) if id(step) not in taken]
        if here:
            step = max(here, key=lambda step: leads[id(step)])
            taken[id(step)] = step
            place = step.after
            continue
        while index < len(starts) and (place is None or order(starts[index]) <= order(place)):
            index += 1
        if index == len(starts):
            break
        gaps.append((place, starts[index]))
        place = starts[index]
    rest = [step for step in steps if id(step) not in taken]
    return Way(
        taken=[step.item for step in taken.values()],
        left=[step.item for step in rest if not step.is_proven],
        conflicts=[step.item for step in rest if step.is_proven],
        gaps=gaps,
    )


def _leads(
    steps: Sequence[Step[T]], following: Mapping[Hashable, Sequence[Step[T]]], order: Callable[[Hashable], Any]
) -> dict[int, tuple[bool, Any]]:
    """By id of the step: (whether it or what follows is proof that it was committed, the furthest end it leads to)."""
    leads: dict[int, tuple[bool, Any]] = {}
    for first in steps:
        way, entered = [first], {id(first)}
        while way:
            step = way[-1]
            later = following.get(step.after, ())
            ahead = next((item for item in later if id(item) not in leads and id(item) not in entered), None)
            if ahead is not None:
                way.append(ahead)
                entered.add(id(ahead))
                continue
            behind = [leads[id(item)] for item in later if id(item) in leads]
            proven, end = max(behind, default=(False, order(step.after)))
            leads[id(step)] = (proven or step.is_proven or bool(behind), max(end, order(step.after)))
            way.pop()
    return leads
