"""What a whole string can be: a marker of ours, a UUID, a time, an address with its query, percent-encoded."""

from __future__ import annotations

import re
from urllib.parse import unquote

MARKER = re.compile(r"\[REDACTED:([a-z_]{1,24})(?::[0-9]{1,9})?\]")
UUID = re.compile("[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}")
TIMESTAMP = re.compile(
    "[12][0-9]{3}-[01][0-9]-[0-3][0-9](?:[T ][0-2][0-9]:[0-5][0-9](?::[0-6][0-9](?:[.,][0-9]{1,9})?)?"
    "(?:Z|[+-][0-9]{2}(?::?[0-9]{2})?)?)?|1[0-9]{9}(?:[0-9]{3})?"
)
ESCAPED = re.compile("%[0-9A-Fa-f]{2}")
QUERY = re.compile("[?#]")
_QUERY_START = re.compile(r"\?[\w.~-]{1,80}=")

_STAMP = f"(?:{UUID.pattern}|{TIMESTAMP.pattern})"
is_stamp = re.compile(_STAMP).fullmatch
"""Whether a whole string is a UUID, a date and time, or a Unix time."""
are_stamps = re.compile(f'(?:{_STAMP}(?:"{_STAMP})*+)?').fullmatch
"""The same for several with quotation marks between them."""


def redacted(body: str) -> str | None:
    """The kind in a string that is nothing but a marker."""
    if body[:1] != "[":
        return None
    match = MARKER.fullmatch(body)
    return match[1] if match else None


def unquoted(text: str) -> str:
    """`text` without percent-encoding, three layers of it at most."""
    for _ in range(3):
        if "%" not in text or not ESCAPED.search(text):
            break
        text = unquote(text, errors="replace")
    return text


def query_in(body: str) -> int:
    """Where the query of an address begins that can be examined by itself; 0 without one."""
    start = body.find("?")
    if start > 0 and _QUERY_START.match(body, start) and not ("{" in body or "[" in body or "\\" in body):
        return start
    return 0


def without_query(match: re.Match[str]) -> str:
    """An address up to its query or fragment; other words stay."""
    word = match[0]
    if word[0] != "/" and "//" not in word:
        return word
    query = QUERY.search(word)
    return word[: query.start()] if query else word
