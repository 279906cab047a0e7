"""Finding a column in a record without parsing it. Pure.

The streamer prints scalar columns before JSON ones, and inside of a JSON string every quote is escaped; so the first
`"name":` of a line is the column of that name, whatever a page wrote into its own data.
"""

from __future__ import annotations

import re
from functools import cache

import orjson

from pipeline.errors import PoisonError


@cache
def _column(name: str) -> re.Pattern[bytes]:
    return re.compile(rb'"%b":(?:null|"((?:[^"\\]|\\.)*)")' % re.escape(name.encode()))


def text_column(line: bytes, name: str) -> str | None:
    """The text in column `name`; None for NULL. Raises PoisonError when the record has no such text column."""
    match = _column(name).search(line)
    if match is None:
        raise PoisonError(f"the record has no text column {name}")
    value = match[1]
    if value is None:
        return None
    try:
        return str(orjson.loads(b'"%b"' % value)) if b"\\" in value else value.decode()
    except ValueError as error:
        raise PoisonError(f"the record's column {name} is no text") from error
