"""Simple queries of addresses, parameter by parameter: most were seen before, and a click id differs each time.

A query is simple when nothing in it is encoded. No detector reads across a `&` in such a text, so a parameter that is
harmless by itself is harmless in every query; where one is not, the query must be examined as a whole.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from pipeline.privacy.findings import Findings, Parameter

_SIMPLE = re.compile(r"\?[\w.~-]{1,80}=[\w.~-]*+(?:&[\w.~-]{1,80}=[\w.~-]*+)*+", re.ASCII)
_LONGEST = 2_000
_LONGEST_KEPT = 80
_MOST = 16_384


class Queries:
    """Remembers the parameters without a rule in which no detector finds a hint."""

    def __init__(self, parameter: Parameter, matters: Callable[[str], bool], hinted: Callable[[str], bool]) -> None:
        """`matters` tells names with a rule, `hinted` texts that must be examined."""
        self._parameter = parameter
        self._matters = matters
        self._hinted = hinted
        self._plain: set[str] = set()

    def filter(self, query: str, found: Findings) -> str | None:
        """What is left of a query and its question mark; None when it must be examined as a whole, `found` is void."""
        if len(query) > _LONGEST or not _SIMPLE.fullmatch(query):
            return None
        plain = self._plain
        parts = query[1:].split("&")
        changed = False
        for number, part in enumerate(parts):
            if part in plain:
                continue
            name, _, value = part.partition("=")
            ruled = self._matters(name)
            kind = self._parameter(name, value, query, found) if value and ruled else None
            if kind:
                found.kinds.append(kind)
                parts[number] = f"{name}=[REDACTED:{kind}]"
                changed = True
            elif self._hinted(part):
                return None
            elif not ruled and len(part) <= _LONGEST_KEPT:
                if len(plain) >= _MOST:
                    plain.clear()
                plain.add(part)
        return "?" + "&".join(parts) if changed else query
