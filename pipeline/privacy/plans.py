"""The plans of a level, remembered: texts of one layout and the same names share one."""

from __future__ import annotations

from typing import Final

from pipeline.privacy import layout, shapes
from pipeline.privacy.layout import Folded, Layout, Literals, Shape
from pipeline.privacy.plan import OURS, Guess, Plan, compile_plan
from pipeline.privacy.rules import UNEXAMINED, RuleBook, RuleSet

_MOST_PLANS: Final = 1024
_LARGEST_LAYOUT: Final = 400
"""Pieces of the largest text whose plan is kept: what is larger hardly comes twice."""
_MOST_NAMED: Final = 20_000
"""Characters of different names in one text that are examined, each name counting as _NAME more."""
_NAME: Final = 8


def _examined(names: tuple[str, ...]) -> tuple[str, ...]:
    """`names` with those that are too many to be examined in one text marked: theirs is redacted, whatever it is."""
    if sum(map(len, names)) + _NAME * len(names) <= _MOST_NAMED:
        return names
    known: dict[str, str] = {}
    left = _MOST_NAMED
    for name in names:
        if name not in known:
            left -= _NAME + len(name)
            known[name] = name if left >= 0 or name in OURS or shapes.redacted(name) else UNEXAMINED
    return tuple([known[name] for name in names])


class Plans:
    """The plans of one level, remembered: by outermost rules, shape and names."""

    __slots__ = ("_folded", "_guesses", "_known", "_layouts", "book", "literals")

    def __init__(self, book: RuleBook) -> None:
        self.book = book
        self.literals = Literals()
        self._folded = Folded()
        self._layouts: dict[Shape, tuple[Layout, dict[tuple[str, ...], dict[RuleSet, Plan]]]] = {}
        self._guesses: dict[tuple[int, RuleSet], Guess] = {}
        self._known = 0

    def plan(self, pieces: list[str], outermost: RuleSet) -> Plan:
        """The plan for `pieces`. Raises UnparsableRecord when they are no JSON object or array.

        Texts of the same length often have the same layout and names, which is shown in half the time that it takes
        to look for them.
        """
        guess = self._guesses.get((len(pieces), outermost))
        if guess is not None and guess.fixed(pieces) == guess.expected:
            folded = self._folded
            for index, text in guess.folded:
                if folded[pieces[index]] != text:
                    break
            else:
                return guess.plan
        return self._search(pieces, outermost)

    def _search(self, pieces: list[str], outermost: RuleSet) -> Plan:
        shape = tuple(map(self._folded.__getitem__, pieces[::2]))
        known = self._layouts.get(shape)
        if known is None:
            known = (layout.read(shape), {})
            if len(shape) <= _LARGEST_LAYOUT:
                self._layouts[shape] = known
        read, plans = known
        names = read.names(pieces)
        by_rules = plans.get(names)
        plan = None if by_rules is None else by_rules.get(outermost)
        if plan is None:
            plan = compile_plan(read, _examined(names), self.book, outermost)
            if len(shape) > _LARGEST_LAYOUT or sum(map(len, names)) > 8 * _LARGEST_LAYOUT:
                return plan
            self._remember(plans, names, outermost, plan)
        self._guesses[len(pieces), outermost] = Guess.of(plan, shape, read.named, pieces)
        return plan

    def _remember(
        self, plans: dict[tuple[str, ...], dict[RuleSet, Plan]], names: tuple[str, ...], outermost: RuleSet, plan: Plan
    ) -> None:
        if self._known >= _MOST_PLANS:
            self._layouts.clear()
            self._guesses.clear()
            self._known = 0
        self._known += 1
        plans.setdefault(names, {})[outermost] = plan
