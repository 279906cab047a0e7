"""A row of the source table as one line of JSON. Pure.

A `RowEncoder` is compiled once per relation: each column gets its key, already printed, and a function from the
server's text form to JSON. Scalar columns come first and JSON columns last: so the first `"client_id":` in a line is
the column, whatever a page wrote into its own data, and a reader finds it without parsing.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Sequence

import orjson

from pipeline.errors import PermanentError
from streamer.pgoutput import Column, DecodeError

BOOKKEEPING = frozenset({"export_status", "raw_exported_at", "processed_at"})
"""Columns that the pipeline writes itself; they are no part of the record."""

REQUIRED = ("id", "event_id", "client_id", "site_id")

ToJson = Callable[[bytes], bytes]

_LENGTH = struct.Struct(">I").unpack_from

# https://www.postgresql.org/docs/current/catalog-pg-type.html; numbers below 10000 are fixed for ever.
_JSON, _JSONB = 114, 3802
_JSON_TYPES = frozenset({_JSON, _JSONB})
_INTEGERS = frozenset({20, 21, 23, 26, 28})
_FLOATS = frozenset({700, 701, 1700})
_SPECIAL_NUMBERS = frozenset({b"NaN", b"Infinity", b"-Infinity"})
_TIMESTAMPTZ = re.compile(rb"(\d{4}-\d\d-\d\d) (\d\d:\d\d:\d\d)(?:\.(\d{1,6}))?\+00")


def _text(value: bytes) -> bytes:
    return orjson.dumps(value.decode())


def _quoted(value: bytes) -> bytes:
    """For types whose text form never needs escaping."""
    return b'"%b"' % value


def _number(value: bytes) -> bytes:
    return b'"%b"' % value if value in _SPECIAL_NUMBERS else value


def _as_it_is(value: bytes) -> bytes:
    return value


def _boolean(value: bytes) -> bytes:
    return b"true" if value == b"t" else b"false"


def _json(value: bytes) -> bytes:
    # Type json keeps line breaks between its tokens; inside of strings JSON allows none.
    return value.replace(b"\n", b" ").replace(b"\r", b" ") if b"\n" in value or b"\r" in value else value


def _timestamptz(value: bytes) -> bytes:
    """RFC 3339 in UTC with six digits; `infinity` and years that RFC 3339 can't say stay PostgreSQL's text."""
    # The usual form by its marks alone; a regular expression for each time would be a tenth of the event's cost.
    if len(value) == 29 and value[4] == 0x2D and value[10] == 0x20 and value[19] == 0x2E and value[26:] == b"+00":
        return b'"%bT%bZ"' % (value[:10], value[11:26])
    match = _TIMESTAMPTZ.fullmatch(value)
    if match is None:
        return _text(value)
    date, time, fraction = match.groups()
    return b'"%bT%b.%bZ"' % (date, time, (fraction or b"").ljust(6, b"0"))


def _address(value: bytes) -> bytes:
    return b'"%b"' % value.partition(b"/")[0]


def _to_json(type_oid: int) -> ToJson:
    if type_oid in _INTEGERS or type_oid == _JSONB:
        return _as_it_is
    if type_oid in _FLOATS:
        return _number
    return {16: _boolean, _JSON: _json, 869: _address, 1184: _timestamptz, 2950: _quoted}.get(type_oid, _text)


class RowEncoder:
    """From a row to its line and to what routes it. One per relation, as the server announced it."""

    def __init__(self, columns: Sequence[Column]) -> None:
        """Raises PermanentError when the table lacks a column that the pipeline can't do without."""
        names = [column.name for column in columns]
        missing = [name for name in REQUIRED if name not in names]
        if missing:
            raise PermanentError(f"events_log lacks {', '.join(missing)}", hint="run python -m database preflight")
        used = [index for index, name in enumerate(names) if name not in BOOKKEEPING]
        used.sort(key=lambda index: columns[index].type_oid in _JSON_TYPES)  # stable: scalars keep their order
        # The line of a row of nulls, in pieces: key, value, key, value ... brace.
        self._nulls: list[bytes] = []
        slots: dict[int, int] = {}
        for index in used:
            self._nulls.append((b"," if slots else b"{") + orjson.dumps(names[index]) + b":")
            slots[index] = len(self._nulls)
            self._nulls.append(b"null")
        self._nulls.append(b"}")
        self._plan = [
            (slots.get(index), _to_json(column.type_oid), column.name in ("client_id", "site_id"))
            for index, column in enumerate(columns)
        ]
        self.width = len(columns)
        """How many columns an insert message must have."""
        self._client_id_first = names.index("client_id") < names.index("site_id")

    def encode(self, data: bytes, at: int) -> tuple[bytes | None, bytes | None, bytes]:
        """(key, client_id, line) of the tuple whose first column starts at `at` in an insert message.

        One pass over the bytes, since this is the path of every event. The line is JSON without a line break; the key
        is what the event's partition follows: client_id, else site_id, else None. Raises DecodeError when the tuple
        is malformed, struct.error or IndexError when it is cut short.
        """
        parts = self._nulls.copy()
        routing: list[bytes | None] = []
        for slot, to_json, routes in self._plan:
            kind = data[at]
            if kind == 0x74:  # t: text
                start = at + 5
                at = start + _LENGTH(data, at + 1)[0]
                if slot is not None:
                    value = data[start:at]
                    parts[slot] = to_json(value)
                    if routes:
                        routing.append(value)
            elif kind == 0x6E:  # n: null
                at += 1
                if routes:
                    routing.append(None)
            else:  # u: unchanged TOAST, which no insert has; b: binary, which we did not ask for
                raise DecodeError("pgoutput: a value that is neither text nor null")
        if at != len(data):
            raise DecodeError("pgoutput: an insert of another length than it says")
        client_id, site_id = routing if self._client_id_first else reversed(routing)
        return site_id if client_id is None else client_id, client_id, b"".join(parts)

    def encode_values(self, values: Sequence[bytes | None]) -> tuple[bytes | None, bytes | None, bytes]:
        """The same for a row whose columns are apart already, as COPY gives them."""
        data = b"".join(
            b"n" if value is None else b"t%b%b" % (len(value).to_bytes(4, "big"), value) for value in values
        )
        return self.encode(data, 0)
