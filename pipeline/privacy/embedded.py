"""JSON inside a text: where its documents begin and end."""

from __future__ import annotations

import re
from collections.abc import Iterator

_MOST = 200
"""More documents than these in one text are not looked for; the detectors still read all of it."""
_START = re.compile(r'[{\[]\s*["{\[]')
_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*+"|[{}\[\]]', re.DOTALL)


def whole(text: str) -> tuple[int, int]:
    """Where JSON may stand in `text`: all of it, or from the first `{"` or `[` to the last bracket."""
    if text.lstrip()[:1] in ("{", "["):
        return 0, len(text)
    start = text.find('{"')
    return (start, text.rfind("}") + 1) if start >= 0 else (0, 0)


def documents(text: str) -> Iterator[tuple[int, int]]:
    """Start and end of each object or array whose brackets match, in a text that is no JSON as a whole.

    Linear: every character is read once for the brackets, and once more where they don't match.
    """
    position = 0
    for _ in range(_MOST):
        opening = _START.search(text, position)
        if opening is None:
            return
        depth = 0
        for token in _TOKEN.finditer(text, opening.start()):
            depth += (token[0] in "{[") - (token[0] in "}]")
            if depth == 0:
                yield opening.start(), token.end()
                position = token.end()
                break
        else:
            return
