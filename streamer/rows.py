"""A row of the source table as one line of JSON. Pure.

A `RowEncoder` is made once per relation: keys are printed already, and each column has its function from the server's
text form to JSON. Where `streamer.walk` is compiled, it takes the row apart; else a function does that is written out
column by column. Scalar columns come first and JSON columns last: so the first `"client_id":` in a line is
the column, whatever a page wrote into its own data, and a reader finds it without parsing.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from typing import Any

import orjson

from pipeline.errors import PermanentError
from streamer import walk
from streamer.pgoutput import Column, DecodeError
from streamer.types import ToJson, Types, as_it_is, is_document, quoted, text, timestamptz, to_json

BOOKKEEPING = frozenset({"export_status", "raw_exported_at", "processed_at"})
"""Columns that the pipeline writes itself; they are no part of the record."""

REQUIRED = ("id", "event_id", "client_id", "site_id")

_NO_TYPES: Types = {}
_LENGTH = struct.Struct(">xI").unpack_from

COMPILED = not walk.__file__.endswith(".py")
"""Whether this is the build that `setup.py` describes."""

Encoded = tuple[bytes | None, bytes | None, bytes]
"""(key, client_id, line): the key is what the event's partition follows, client_id, else site_id, else None."""
Encode = Callable[[bytes, int], Encoded]


class RowEncoder:
    """From a row to its line and to what routes it. One per relation, as the server announced it."""

    def __init__(self, columns: Sequence[Column], types: Types = _NO_TYPES) -> None:
        """`types`: domains and arrays. Raises PermanentError when the table lacks a column that we can't do without."""
        names = [column.name for column in columns]
        missing = [name for name in REQUIRED if name not in names]
        if missing:
            raise PermanentError(f"events_log lacks {', '.join(missing)}", hint="run python -m database preflight")
        self.width = len(columns)
        """How many columns an insert message must have."""
        self.encode: Encode = (walked if COMPILED else written)(columns, types)
        """Takes an insert message and the place of its first column. One pass, since this is the path of every event.

        The line is JSON without a line break. Raises DecodeError when the row is malformed, struct.error or IndexError
        when it is cut short.
        """

    def encode_values(self, values: Sequence[bytes | None]) -> Encoded:
        """The same for a row whose columns are apart already, as COPY gives them."""
        data = b"".join(
            b"n" if value is None else b"t%b%b" % (len(value).to_bytes(4, "big"), value) for value in values
        )
        return self.encode(data, 0)


def _order(columns: Sequence[Column], types: Types) -> list[int]:
    """The columns of the record by their numbers, in the order of its members."""
    used = [index for index, column in enumerate(columns) if column.name not in BOOKKEEPING]
    return sorted(used, key=lambda index: is_document(columns[index].type_oid, types))  # scalars keep their order


_KINDS: dict[ToJson, int] = {
    as_it_is: walk.AS_IT_IS,
    text: walk.TEXT,
    quoted: walk.QUOTED,
    timestamptz: walk.TIMESTAMPTZ,
}
_ROLES = {"client_id": walk.CLIENT_ID, "site_id": walk.SITE_ID}


def walked(columns: Sequence[Column], types: Types) -> Encode:
    """The function for rows of these columns that goes over them byte by byte: for the compiled build."""
    used = _order(columns, types)
    steps = []
    for index, column in enumerate(columns):
        convert = to_json(column.type_oid, types)
        steps.append(
            walk.Step(
                kind=_KINDS.get(convert, walk.OTHER) if index in used else walk.SKIP,
                key=(b"{" if index == used[0] else b",") + orjson.dumps(column.name) + b":",
                convert=convert,
                document=is_document(column.type_oid, types),
                role=_ROLES.get(column.name, 0),
            )
        )
    return walk.Walk(steps).encode


def written(columns: Sequence[Column], types: Types) -> Encode:
    """The function for rows of these columns, written out column by column: a third faster than a loop over them.

    Names and values of the table are never part of its source, only numbers of columns are.
    """
    used = _order(columns, types)
    scope: dict[str, Any] = {"length_of": _LENGTH, "malformed": _malformed}
    source = ["def encode(data, at):"]
    for index, column in enumerate(columns):
        convert = to_json(column.type_oid, types)
        value = "data[start:at]"
        source += ["    if data[at] == 0x74:", "        (length,) = length_of(data, at)"]  # t: text
        source += ["        start = at + 5", "        at = start + length"]
        null = []
        if column.name in ("client_id", "site_id"):
            source.append(f"        {column.name} = {value}")
            null.append(f"        {column.name} = None")
            value = column.name
        if index in used:
            scope[f"convert{index}"] = convert
            source.append(f"        value{index} = {value if convert is as_it_is else f'convert{index}({value})'}")
            null.append(f"        value{index} = b'null'")
        source += ["    elif data[at] == 0x6E:", "        at += 1", *null]  # n: null
        # u: unchanged TOAST, which no insert has; b: binary, which we did not ask for
        source += ["    else:", "        raise malformed('a value that is neither text nor null')"]
    source += ["    if at != len(data):", "        raise malformed('an insert of another length than it says')"]
    keys = (orjson.dumps(columns[index].name).replace(b"%", b"%%") for index in used)
    scope["record"] = b"{" + b",".join(key + b":%b" for key in keys) + b"}"
    values = "".join(f"value{index}, " for index in used)
    source.append(f"    return site_id if client_id is None else client_id, client_id, record % ({values})")
    exec("\n".join(source), scope)  # noqa: S102 - see above
    return scope["encode"]  # type: ignore[no-any-return]


def _malformed(what: str) -> DecodeError:
    return DecodeError(f"pgoutput: {what}")
