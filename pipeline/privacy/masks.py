"""Values in disguise: entities, escapes, dots in brackets, foreign digits and letters, invisible characters, base64.

Each mask gives the plain text, or None when there is nothing to take off. What the detectors then find is redacted in
the plain text, which takes the place of the masked one; where they find nothing, the text keeps its bytes.
"""

from __future__ import annotations

import binascii
import html
import re
import unicodedata
from collections.abc import Callable
from typing import NamedTuple

from pipeline.privacy import contacts

_INVISIBLE = (
    "\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180e\u200b-\u200f\u202a-\u202e\u2060-\u206f\ufe00-\ufe0f\ufeff\u3164"
)
_BLANKS = "\u00a0\u2002-\u200a\u202f\u3000"
_DASHES = "\u2010-\u2015\u2212"
_FOREIGN = re.compile(
    f"[{_INVISIBLE}{_BLANKS}{_DASHES}\uff01-\uff5e\uff61\u2460-\u24ff\U0001d400-\U0001d7ff]|(?![0-9])\\d"
)
_BETWEEN = re.compile(f"(?<=[\\w -~°′″’”–])[{_INVISIBLE}]+(?=[\\w -~°′″’”–])")
_ENTITY = re.compile(
    "&(?:#[0-9]{1,7}|#[xX][0-9a-fA-F]{1,6}|(?:commat|period|nbsp|lpar|rpar|plus|hyphen|dash|ndash|sol|colon|lowbar|num"
    "|amp|quot|apos|lt|gt|equals|percnt|comma|semi|shy|zwnj|zwj)(?=;));?"
)
_QUOTED = re.compile(r'\\(["\\/])')
_ESCAPE = re.compile(r"\\[nrt]|\\(?:u([0-9a-fA-F]{4})|x([0-9a-fA-F]{2})|u\{([0-9a-fA-F]{1,6})\})")

# The first two characters say that a byte below 128 begins and another follows: three of four other words don't.
_BASE64 = re.compile("(?<![A-Za-z0-9+_-])[A-Za-f][A-HQ-Xg-nw-z0-3][A-Za-z0-9+/_-]{10,}+={0,2}")
_BASE64_ANCHOR = re.compile("[A-Za-f][A-HQ-Xg-nw-z0-3][A-Za-z0-9+/_-]{10}")
_URLSAFE = str.maketrans("-_", "+/")
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")
_SHORTEST = 12


_BLANK = re.compile(f"[{_BLANKS}]")
_DASH = re.compile(f"[{_DASHES}]")


class _Plain(dict[int, str]):
    """Characters by the ASCII ones that they stand for; the others stand for themselves."""

    def __missing__(self, code: int) -> str:
        char = chr(code)
        digit = unicodedata.decimal(char, None)
        plain = char
        if digit is not None:
            plain = str(digit)
        elif 0xFF01 <= code <= 0xFF61 or 0x2460 <= code <= 0x24FF or 0x1D400 <= code <= 0x1D7FF:
            plain = unicodedata.normalize("NFKC", char).replace("\u3002", ".")
        elif _BLANK.match(char):
            plain = " "
        elif _DASH.match(char):
            plain = "-"
        if len(self) >= 8192:
            self.clear()
        self[code] = plain
        return plain


_PLAIN = _Plain()


def _entities(text: str) -> str | None:
    if "&#" not in text and not ("&" in text and ";" in text):
        return None
    return _ENTITY.sub(lambda match: html.unescape(match[0]), text)


def _escapes(text: str) -> str | None:
    return _ESCAPE.sub(_character, text) if "\\" in text else None


def _quoted(text: str) -> str | None:
    return _QUOTED.sub(r"\1", text) if '\\"' in text else None


def _character(match: re.Match[str]) -> str:
    if len(match[0]) == 2:
        return " "
    code = int(match[1] or match[2] or match[3], 16)
    char = chr(code) if code <= 0x10FFFF else ""
    return char if char.isprintable() and char else match[0]


def _defanged(text: str) -> str | None:
    return text.replace("[.]", ".").replace("[:]", ":") if "[.]" in text else None


def _foreign(text: str) -> str | None:
    if text.isascii() or not _FOREIGN.search(text):
        return None
    return _BETWEEN.sub("", text.translate(_PLAIN))


class Mask(NamedTuple):
    """How to take a mask off a whole text, and what to do with the redacted text before it goes back."""

    off: Callable[[str], str | None]
    on: Callable[[str], str]


MASKS = (
    Mask(_entities, lambda text: html.escape(text, quote=False)),
    Mask(_quoted, str),
    Mask(_escapes, str),
    Mask(_defanged, str),
    Mask(_foreign, str),
)


def suspected(body: str) -> bool:
    """Whether a body without any hint of an identifier may hide one in base64, in foreign characters or spelled out."""
    if len(body) < _SHORTEST:
        return not body.isascii() and _FOREIGN.search(body) is not None
    return (
        _BASE64_ANCHOR.search(body) is not None
        or (" " in body and contacts.spells_dots(body))
        or (not body.isascii() and _FOREIGN.search(body) is not None)
    )


def unmask_base64(text: str, examine: Callable[[str], str | None]) -> str:
    """`text` with what `examine` returns for the plain text in place of each base64 word, unless it returns None."""
    if len(text) < _SHORTEST or not _BASE64_ANCHOR.search(text):
        return text
    return _BASE64.sub(lambda match: _word(match[0], examine), text)


def _word(word: str, examine: Callable[[str], str | None]) -> str:
    """A word may be a path, the first step of which is base64."""
    for part in dict.fromkeys((word, word.partition("/")[0])):
        plain = _decoded(part)
        if plain is not None:
            answer = examine(plain)
            if answer is not None:
                return answer + word[len(part) :]
    return word


def _decoded(word: str) -> str | None:
    bare = word.rstrip("=").translate(_URLSAFE)
    bare = bare[: len(bare) - (len(bare) % 4 == 1)]
    try:
        plain = binascii.a2b_base64(bare + "=" * (-len(bare) % 4)).decode()
    except ValueError:
        return None
    return None if _CONTROL.search(plain) else plain
