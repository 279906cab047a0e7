"""A row of the source table as one line of JSON. Pure.

A `RowEncoder` is compiled once per relation: each column gets its key, already printed, and a function from the
server's text form to JSON. Scalar columns come first and JSON columns last: so the first `"client_id":` in a line is
the column, whatever a page wrote into its own data, and a reader finds it without parsing.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence

import orjson

from pipeline.errors import PermanentError
from streamer.pgoutput import Column, DecodeError
from streamer.types import Types, is_document, to_json

BOOKKEEPING = frozenset({"export_status", "raw_exported_at", "processed_at"})
"""Columns that the pipeline writes itself; they are no part of the record."""

REQUIRED = ("id", "event_id", "client_id", "site_id")

_NO_TYPES: Types = {}
_LENGTH = struct.Struct(">I").unpack_from


class RowEncoder:
    """From a row to its line and to what routes it. One per relation, as the server announced it."""

    def __init__(self, columns: Sequence[Column], types: Types = _NO_TYPES) -> None:
        """`types`: domains and arrays. Raises PermanentError when the table lacks a column that we can't do without."""
        names = [column.name for column in columns]
        missing = [name for name in REQUIRED if name not in names]
        if missing:
            raise PermanentError(f"events_log lacks {', '.join(missing)}", hint="run python -m database preflight")
        used = [index for index, name in enumerate(names) if name not in BOOKKEEPING]
        used.sort(key=lambda index: is_document(columns[index].type_oid, types))  # stable: scalars keep their order
        # The line of a row of nulls, in pieces: key, value, key, value ... brace.
        self._nulls: list[bytes] = []
        slots: dict[int, int] = {}
        for index in used:
            self._nulls.append((b"," if slots else b"{") + orjson.dumps(names[index]) + b":")
            slots[index] = len(self._nulls)
            self._nulls.append(b"null")
        self._nulls.append(b"}")
        self._plan = [
            (slots.get(index), to_json(column.type_oid, types), column.name in ("client_id", "site_id"))
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
        for slot, convert, routes in self._plan:
            kind = data[at]
            if kind == 0x74:  # t: text
                start = at + 5
                at = start + _LENGTH(data, at + 1)[0]
                if slot is not None:
                    value = data[start:at]
                    parts[slot] = convert(value)
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
