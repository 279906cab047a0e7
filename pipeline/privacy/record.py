"""A record as a list of pieces that can be changed one by one, all others keeping their original bytes.

A line of JSON is cut at its quotation marks: pieces with an odd index are the bodies of strings, pieces with an even
index are what stands between them (`: `, `, `, `}, {`, `: 1.10, `). Joining the pieces with quotation marks gives the
line back. Both directions run in C, so the cost is that of `str.split`, a few microseconds for a whole event.

Escapes would break this: `\\\\` and `\\"` are exchanged for control characters, which no JSON text may hold, before the
cut, and changed back after the join.
"""

from __future__ import annotations

import json
import re
from collections.abc import Set

from pipeline.privacy.errors import UnparsableRecord

BACKSLASH = "\x02"
"""Stands for an escaped backslash inside a piece. Not a zero, which CPython is slow to find in wide text."""
QUOTE = "\x01"
"""Stands for an escaped quotation mark inside a piece."""

_CONTROLS = bytes(range(32))
_WRONG_ESCAPE = re.compile(r'\\(?!["\\/bfnrt]|u[0-9a-fA-F]{4})')
NUMBER = r"-?(?:0|[1-9][0-9]*+)(?:\.[0-9]++)?(?:[eE][+-]?[0-9]++)?(?![0-9.a-zA-Z+-])"
_TOKEN = rf"[{{}}\[\],:]|{NUMBER}|true(?!\w)|false(?!\w)|null(?!\w)"
TOKENS = re.compile(_TOKEN)
_STRUCTURE = re.compile(rf"(?:[ \t]*+(?:{_TOKEN}))*+[ \t]*+")


def decode(line: bytes) -> str:
    """The line as text. Raises UnparsableRecord unless it is UTF-8 without a control character, in braces."""
    try:
        text = line.decode()
    except UnicodeDecodeError:
        raise UnparsableRecord("the record isn't UTF-8") from None
    if len(line.translate(None, _CONTROLS)) != len(line):
        raise UnparsableRecord("the record holds a control character")
    if text[:1] != "{" or text[-1:] != "}":
        raise UnparsableRecord("the record isn't a JSON object in one line")
    return text


def cut(text: str) -> list[str]:
    """The pieces of `text`. Raises UnparsableRecord when a string is open at the end or an escape isn't JSON's."""
    if "\\" in text:
        text = text.replace("\\\\", BACKSLASH).replace('\\"', QUOTE)
        if _WRONG_ESCAPE.search(text):
            raise UnparsableRecord("a string holds a wrong escape")
    pieces = text.split('"')
    if not len(pieces) & 1:
        raise UnparsableRecord("a string has no end")
    return pieces


def join(pieces: list[str], bare: Set[int]) -> str:
    """The inverse of `cut`. The strings of the indexes in `bare` lose their quotation marks; `pieces` is used up."""
    for index in sorted(bare, reverse=True):
        pieces[index - 1 : index + 2] = [f"{pieces[index - 1]}{pieces[index]}{pieces[index + 1]}"]
    text = '"'.join(pieces)
    if QUOTE in text:
        text = text.replace(QUOTE, '\\"')
    if BACKSLASH in text:
        text = text.replace(BACKSLASH, "\\\\")
    return text


def structure(piece: str) -> tuple[str, ...]:
    """The tokens of a piece between two strings. Raises UnparsableRecord when it holds anything else."""
    if not _STRUCTURE.fullmatch(piece):
        raise UnparsableRecord("something between two strings isn't JSON")
    return tuple(TOKENS.findall(piece))


def unescape(body: str) -> str:
    """What a string's body means. Lone surrogates stay lone surrogates."""
    if "\\" not in body and QUOTE not in body and BACKSLASH not in body:
        return body
    escaped = body.replace(QUOTE, '\\"').replace(BACKSLASH, "\\\\")
    meaning: str = json.loads(f'"{escaped}"')
    return meaning


def escape(meaning: str) -> str:
    """The body of a string that means `meaning`, in the form that pieces have."""
    if meaning.isascii() and meaning.isprintable() and '"' not in meaning and "\\" not in meaning:
        return meaning
    try:
        meaning.encode()
    except UnicodeEncodeError:
        escaped = json.dumps(meaning)
    else:
        escaped = json.dumps(meaning, ensure_ascii=False)
    return escaped[1:-1].replace("\\\\", BACKSLASH).replace('\\"', QUOTE)
