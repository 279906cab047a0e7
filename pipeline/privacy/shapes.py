"""What stands between two strings, read once for each of the few ways it is written."""

from __future__ import annotations

import re

from pipeline.privacy import record

_LITERAL = re.compile(rf":[ \t]*({record.NUMBER}|true|false|null)[ \t]*,[ \t]*")
_LONGEST = 48
_MOST = 16_384


class Shapes(dict[str, tuple[str, ...]]):
    """Tokens by structural piece; there are few different ones."""

    def __missing__(self, piece: str) -> tuple[str, ...]:
        tokens = record.structure(piece)
        if len(piece) <= _LONGEST:
            if len(self) >= _MOST:
                self.clear()
            self[piece] = tokens
        return tokens


class Literals(dict[str, str | None]):
    """The literal in a piece that is a colon, a literal and a comma; None for all other pieces."""

    def __missing__(self, piece: str) -> str | None:
        match = _LITERAL.fullmatch(piece)
        literal = match[1] if match else None
        if len(piece) <= _LONGEST:
            if len(self) >= _MOST:
                self.clear()
            self[piece] = literal
        return literal
