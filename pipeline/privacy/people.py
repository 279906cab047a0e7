"""Whether a text reads like the name of a person, for the member `name` when nothing near it tells."""

from __future__ import annotations

import re

from pipeline.privacy import vicinity, words

_CAPITALISED = re.compile(
    r"(?:[^\W\d_a-z][^\W\d_]*(?:['’-][^\W\d_]+)*\.?|van|von|de|der|den|di|da|dos|del|la|le|el|al|bin|zu)"
)
_UNCASED = re.compile("[\u3041-\u30ff\u4e00-\u9fff\uac00-\ud7a3]+")
_PAGE_WORDS = words.table(vicinity.PAGE_WORDS)


def looks_like_person(text: str, *, one: bool = False) -> bool:
    """Two to four words with capitals, or letters of a script without them, none of them a usual word of web pages.

    With `one`, a single word will do.
    """
    words = text.split()
    if not (1 if one else 2) <= len(words) <= 4:
        return 2 <= len(text) <= 6 and len(words) == 1 and _UNCASED.fullmatch(text) is not None
    return all(_CAPITALISED.fullmatch(word) for word in words) and not any(
        word.lower() in _PAGE_WORDS for word in words
    )
