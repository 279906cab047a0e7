"""A record of a raw object, taken apart without changing a byte of it. Pure.

A row is compared with its record by a digest that both sides compute from the same texts: here from the line, in
`database.cleaner.columns` by the server from the row. So the comparison costs 32 bytes a row on the network.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

from pipeline.errors import PoisonError

_KEY = re.compile(r'[{,]"([^"\\]*(?:\\.[^"\\]*)*)":')
_STRING = re.compile(r'\s*"[^"\\]*(?:\\.[^"\\]*)*"\s*')
_OTHER_SCALAR = re.compile(r'[^,{}\[\]"]+')
_BRACKETS = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*"|[\[\]{}]')
_IDENTITY = re.compile(rb'\{"id":(-?\d+),"event_id":"([0-9a-f-]{36})"[,}]')
_SPACE = re.compile(r"\s*")
# Numbers stay texts: an int of 5,000 digits is legal in jsonb and too long for Python.
_DECODER = json.JSONDecoder(parse_int=str, parse_float=str, parse_constant=str)


class RecordError(PoisonError):
    """A line that no streamer wrote."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Exported:
    """What an exported row must look like to be deleted."""

    id: int
    event_id: str
    digest: bytes
    """SHA-256 of its columns, see `digest`."""
    partition_value: str | None
    """The column that events_log is partitioned by; None where it isn't."""


def members(line: bytes) -> dict[str, str]:
    """The columns of a record: their JSON texts, exactly as they stand in the line. Raises RecordError."""
    try:
        text = line.decode()
    except UnicodeError as error:
        raise RecordError("a record is not UTF-8") from error
    found: dict[str, str] = {}
    at, last = 0, len(text) - 1
    while at < last:
        key = _KEY.match(text, at)
        if key is None:
            raise RecordError("a record is not an object of columns")
        name = key[1] if "\\" not in key[1] else str(json.loads(f'"{key[1]}"'))
        begin = key.end()
        at = _end_of_value(text, begin)
        found[name] = text[begin:at]
    if at != last or text[last] != "}":
        raise RecordError("a record is cut short")
    return found


def members_of(lines: Sequence[bytes]) -> Iterator[dict[str, str]]:
    """`members` of each line, five times as fast where all have the columns of the first and the last.

    Columns come and go rarely, and then first and last differ. Should they do so twice in between, a record may be
    taken for another than its row: the row then stays. Raises RecordError.
    """
    if not lines:
        return
    names = tuple(members(lines[0]))
    pattern = _pattern(names) if names == tuple(members(lines[-1])) else None
    for line in lines:
        match = pattern.fullmatch(line.decode(errors="replace")) if pattern else None
        yield dict(zip(names, match.groups(), strict=True)) if match else members(line)


@lru_cache(maxsize=64)
def _pattern(names: tuple[str, ...]) -> re.Pattern[str]:
    """Scalars one behind the other; the last column is what is left, of whatever type."""
    keys = [re.escape(json.dumps(name, ensure_ascii=False)) + ":" for name in names]
    scalar = r'("[^"\\]*(?:\\.[^"\\]*)*"|[^,{}\[\]"]+)'
    return re.compile(r"\{" + ",".join([*(key + scalar for key in keys[:-1]), keys[-1] + "(.+)"]) + r"\}", re.DOTALL)


def identity(line: bytes) -> tuple[int, str]:
    """(id, event_id) of a record. Raises RecordError."""
    match = _IDENTITY.match(line)
    if match is not None:
        return int(match[1]), match[2].decode()
    found = exported(members(line), (), (), None)
    return found.id, found.event_id


def _end_of_value(text: str, begin: int) -> int:
    """Where the value that begins there ends, the blanks around it included: type json keeps them."""
    match = _STRING.match(text, begin) or _OTHER_SCALAR.match(text, begin)
    if match is not None and (match[0].strip() or text[match.end() : match.end() + 1] not in ("{", "[")):
        return match.end()
    start = match.end() if match is not None else begin
    try:
        _, end = _DECODER.raw_decode(text, start)
    except (ValueError, RecursionError):
        end = _end_of_brackets(text, start)
    return _SPACE.match(text, end).end()  # type: ignore[union-attr]  # matches anything


def _end_of_brackets(text: str, start: int) -> int:
    """The same for documents that are nested too deep for the decoder."""
    depth = 0
    for match in _BRACKETS.finditer(text, start):
        if match[0] in "[{":
            depth += 1
        elif match[0] in "]}":
            depth -= 1
            if depth == 0:
                return match.end()
    raise RecordError("a record is cut short")


def digest(columns: Mapping[str, str], scalars: Sequence[str], documents: Sequence[str]) -> bytes:
    """SHA-256 of the columns called `scalars`, then of those of a JSON type, in this order.

    Each scalar counts as `-` for NULL, else as its length in characters, a colon and its text; so no two rows give the
    same bytes. A document counts as the SHA-256 of its text, NULL as the text `null`.
    """
    parts = []
    for name in scalars:
        text = _text(columns[name])
        parts.append("-" if text is None else f"{len(text)}:{text}")
    whole = hashlib.sha256("".join(parts).encode())
    for name in documents:
        whole.update(hashlib.sha256(columns[name].encode()).digest())
    return whole.digest()


def _text(raw: str) -> str | None:
    """What PostgreSQL printed for a scalar: the string's content, or a number or boolean as it stands."""
    if raw == "null":
        return None
    if not raw.startswith('"'):
        return raw
    return raw[1:-1] if "\\" not in raw else str(json.loads(raw))


def exported(
    columns: Mapping[str, str], scalars: Sequence[str], documents: Collection[str], partition_key: str | None
) -> Exported:
    """What the row must look like. Raises RecordError when the record lacks an id or event_id."""
    try:
        id_, event_id = int(columns["id"]), _text(columns["event_id"])
    except (KeyError, ValueError) as error:
        raise RecordError("a record has no id or event_id") from error
    if event_id is None:
        raise RecordError("a record has no id or event_id")
    return Exported(
        id=id_,
        event_id=event_id,
        digest=digest(columns, scalars, tuple(documents)),
        partition_value=_text(columns[partition_key]) if partition_key in columns and partition_key else None,
    )
