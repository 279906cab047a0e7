"""What processed lines show of their redactions: rules and paths, never values. Pure.

Both sides of a comparison are read alike, since nobody has the settings any more by which the old one was filtered.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import orjson

MOST_PATHS = 20
"""Paths that a summary names of a cell: those whose numbers change most."""

_MOST_KNOWN = 10_000
"""Different paths of a cell that are counted: whoever sends events may invent names."""

_MARKER = re.compile(rb"\[REDACTED:([a-z_0-9]+)\]")
_ORDINAL = re.compile(r"\[\d+\]")
_PRIVACY = b'"privacy":'

_UNMARKED = {
    "ip_address": "ip",
    "user_agent": "user_agent",
    "useragent": "user_agent",
    "session_id": "session_id",
    "sessionid": "session_id",
    "visitor_id": "visitor_id",
    "visitorid": "visitor_id",
}
"""Rules whose redactions leave no marker, by the last name of the path: the value is null, reduced or a pseudonym."""


@dataclass(slots=True)
class Shown:
    """The redactions of some lines: how often each rule, and in how many events each path (`[]` for any ordinal)."""

    rules: Counter[str] = field(default_factory=Counter)
    paths: Counter[str] = field(default_factory=Counter)

    def add(self, lines: Iterable[bytes]) -> None:
        """Lines of clients' objects. What an element of a list or a text inside a string hides is counted too."""
        for line in lines:
            data, _, privacy = line.rpartition(_PRIVACY)
            self.rules.update([name.decode() for name in _MARKER.findall(data)])
            # Of the record only this can be parsed for sure: it is ours, and it is the last member.
            paths = {_ORDINAL.sub("[]", path) for path in orjson.loads(privacy[:-1])["redacted"]}
            for path in paths:
                rule = _UNMARKED.get(path.rpartition(".")[2].lower())
                if rule is not None:
                    self.rules[rule] += 1
                if path in self.paths or len(self.paths) < _MOST_KNOWN:
                    self.paths[path] += 1

    def merge(self, other: Shown) -> None:
        """Other lines of the same cell."""
        self.rules.update(other.rules)
        for path, events in other.paths.items():
            if path in self.paths or len(self.paths) < _MOST_KNOWN:
                self.paths[path] += events


def paths_compared(before: Shown, after: Shown) -> dict[str, dict[str, int]]:
    """Events by path, those first that change most, MOST_PATHS at most."""
    known = before.paths.keys() | after.paths.keys()
    ranked = sorted(known, key=lambda path: (-abs(after.paths[path] - before.paths[path]), -after.paths[path], path))
    return {path: _both(before.paths[path], after.paths[path]) for path in ranked[:MOST_PATHS]}


def rules_compared(before: Shown, after: Shown) -> dict[str, dict[str, int]]:
    """Redactions by rule."""
    return {
        rule: _both(before.rules[rule], after.rules[rule]) for rule in sorted(before.rules.keys() | after.rules.keys())
    }


def _both(before: int, after: int) -> dict[str, Any]:
    return {"before": before, "after": after}
