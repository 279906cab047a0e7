"""A row of the source table as one line of JSON. Pure.

A `RowEncoder` is compiled once per relation: each column gets its key, already printed, and a function from the
server's text form to JSON. Scalar columns come first and JSON columns last: so the first `"client_id":` in a line is
the column, whatever a page wrote into its own data, and a reader finds it without parsing.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

import orjson

from pipeline.errors import PermanentError
from streamer.pgoutput import Column, DecodeError

BOOKKEEPING = frozenset({"export_status", "raw_exported_at", "processed_at"})
"""Columns that the pipeline writes itself; they are no part of the record."""

REQUIRED = ("id", "event_id", "client_id", "site_id")

ToJson = Callable[[bytes], bytes]

# https://www.postgresql.org/docs/current/catalog-pg-type.html; numbers below 10000 are fixed for ever.
_JSON_TYPES = frozenset({114, 3802})
_INTEGERS = frozenset({20, 21, 23, 26, 28})
_FLOATS = frozenset({700, 701, 1700})
_SPECIAL_NUMBERS = frozenset({b"NaN", b"Infinity", b"-Infinity"})
_TIMESTAMPTZ = re.compile(rb"(\d{4}-\d\d-\d\d) (\d\d:\d\d:\d\d)(?:\.(\d{1,6}))?\+00")
_PLAIN = re.compile(rb"[ !#-\[\]-~]*")  # printable ASCII without quote and backslash: needs no escaping


def _text(value: bytes) -> bytes:
    if _PLAIN.fullmatch(value):
        return b'"%b"' % value
    return orjson.dumps(value.decode())


def _number(value: bytes) -> bytes:
    return b'"%b"' % value if value in _SPECIAL_NUMBERS else value


def _boolean(value: bytes) -> bytes:
    return b"true" if value == b"t" else b"false"


def _json(value: bytes) -> bytes:
    # Type json keeps line breaks between its tokens; inside of strings JSON allows none.
    return value.replace(b"\n", b" ").replace(b"\r", b" ") if b"\n" in value or b"\r" in value else value


def _timestamptz(value: bytes) -> bytes:
    """RFC 3339 in UTC with six digits; `infinity` and years that RFC 3339 can't say stay PostgreSQL's text."""
    match = _TIMESTAMPTZ.fullmatch(value)
    if match is None:
        return _text(value)
    date, time, fraction = match.groups()
    return b'"%bT%b.%bZ"' % (date, time, (fraction or b"").ljust(6, b"0"))


def _address(value: bytes) -> bytes:
    return b'"%b"' % value.partition(b"/")[0]


def _to_json(type_oid: int) -> ToJson:
    if type_oid in _JSON_TYPES:
        return _json
    if type_oid in _INTEGERS:
        return bytes
    if type_oid in _FLOATS:
        return _number
    return {16: _boolean, 869: _address, 1184: _timestamptz}.get(type_oid, _text)


class RowEncoder:
    """From the values of a row to its line and to what routes it. One per relation, as the server announced it."""

    def __init__(self, columns: Sequence[Column]) -> None:
        """Raises PermanentError when the table lacks a column that the pipeline can't do without."""
        names = [column.name for column in columns]
        missing = [name for name in REQUIRED if name not in names]
        if missing:
            raise PermanentError(f"events_log lacks {', '.join(missing)}", hint="run python -m database preflight")
        self.columns = tuple(columns)
        used = [index for index, name in enumerate(names) if name not in BOOKKEEPING]
        used.sort(key=lambda index: columns[index].type_oid in _JSON_TYPES)  # stable: scalars keep their order
        self._plan = [
            (index, (b"{" if at == 0 else b",") + orjson.dumps(names[index]) + b":", _to_json(columns[index].type_oid))
            for at, index in enumerate(used)
        ]
        self._client_id = names.index("client_id")
        self._site_id = names.index("site_id")
        self._width = len(columns)

    def line(self, values: Sequence[bytes | None]) -> bytes:
        """The record: one line of JSON, no line break at its end. Raises DecodeError for a row of another width."""
        if len(values) != self._width:
            raise DecodeError("pgoutput: a row of another width than its relation")
        parts = []
        for index, key, to_json in self._plan:
            value = values[index]
            parts.append(key)
            parts.append(b"null" if value is None else to_json(value))
        parts.append(b"}")
        return b"".join(parts)

    def client_id(self, values: Sequence[bytes | None]) -> bytes | None:
        """The client_id column; None for NULL."""
        return values[self._client_id]

    def key(self, values: Sequence[bytes | None]) -> bytes | None:
        """What an event's partition follows: client_id, else site_id; None when both are NULL."""
        client_id = values[self._client_id]
        return values[self._site_id] if client_id is None else client_id
