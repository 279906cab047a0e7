"""What goes along while a string is inspected: what its name says about it, and what was found."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

from pipeline.privacy.consent import Decision

_REMEMBERED = 16_384
_SHORT = 160


@dataclass(slots=True, eq=False)
class Context:
    """What the member's name says about its text. `clean` remembers texts that no rule touches here."""

    identifiers: bool = True
    """Whether a bare number may be a phone or a national id; not under the name of an order or a product."""
    versions: bool = False
    free_text: bool = False
    """Whether running text is replaced whole."""
    clean: set[str] = field(default_factory=set)

    def fresh(self) -> Context:
        """The same without its memory."""
        return Context(self.identifiers, self.versions, self.free_text)

    def remember(self, body: str) -> None:
        """Keep a clean text in mind."""
        if len(body) <= _SHORT:
            if len(self.clean) >= _REMEMBERED:
                self.clean.clear()
            self.clean.add(body)


class Found(NamedTuple):
    """What is left of a string, and why."""

    body: str
    kinds: list[str]


@dataclass(slots=True)
class Findings:
    """What one inspection found so far; `keep` is the decision on identifiers."""

    keep: Decision
    kinds: list[str] = field(default_factory=list)
    depends: bool = False
    """Whether another decision might find something else."""
    parts: int = 0
    """How many encoded parts were looked into."""


Nested = Callable[[str, Findings, int], str]
"""Filters a JSON text inside a string. Raises UnparsableRecord."""
Parameter = Callable[[str, str, str, Findings], str | None]
"""The kind of what stands behind a name in a query, which is given as a whole too; None when it may stay."""
