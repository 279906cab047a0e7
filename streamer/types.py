"""From PostgreSQL's text form of a value to JSON, by the column's type. Pure; compiled once per relation and column.

| type | JSON |
|---|---|
| integers, oid, numeric, real, double precision | a number with the very digits; NaN and Infinity as strings |
| boolean | true, false |
| json, jsonb | as it came |
| timestamptz | RFC 3339 in UTC with six digits |
| timestamp | the same without a zone |
| inet | without mask |
| arrays | arrays, nested by dimension, of the element's JSON |
| domains | as their base type |
| bytea | PostgreSQL's hex text, `\\x` and two digits a byte |
| interval | ISO 8601 |
| everything else: text, date, time, uuid, cidr, macaddr, enums, ranges, composites, money ... | PostgreSQL's text |

Times that RFC 3339 can't say (infinity, years before Christ or beyond 9999) stay PostgreSQL's text.
https://www.postgresql.org/docs/current/datatype.html
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import NamedTuple

import orjson

from streamer.pgoutput import DecodeError

ToJson = Callable[[bytes], bytes]

FIRST_USER_OID = 16384
"""Types below come with the server and never change."""


class SqlType(NamedTuple):
    """What the catalogue says about a type that is made of another one."""

    base: int
    """A domain's base type, else 0."""
    element: int
    """An array's element type, else 0."""
    delimiter: bytes
    """Between the elements of an array: a comma for all but boxes."""


Types = Mapping[int, SqlType]
"""Domains and arrays by their OID; every other type is itself."""

# https://www.postgresql.org/docs/current/catalog-pg-type.html; numbers below 10000 are fixed for ever.
_JSON, _JSONB = 114, 3802
_INTEGERS = frozenset({20, 21, 23, 26, 28})
_FLOATS = frozenset({700, 701, 1700})
_SPECIAL_NUMBERS = frozenset({b"NaN", b"Infinity", b"-Infinity"})
_TIMESTAMP = re.compile(rb"(\d{4}-\d\d-\d\d) (\d\d:\d\d:\d\d)(?:\.(\d{1,6}))?(\+00)?")
_DIMENSIONS = re.compile(rb"(?:\[[-+\d]+:[-+\d]+\])+=")


def to_json(type_oid: int, types: Types) -> ToJson:
    """The function for a column of that type."""
    found = types.get(type_oid)
    if found is not None:
        if found.base:
            return to_json(found.base, types)
        element, delimiter = to_json(found.element, types), found.delimiter
        return lambda value: array(value, element, delimiter)
    if type_oid in _INTEGERS or type_oid == _JSONB:
        return as_it_is
    if type_oid in _FLOATS:
        return _number
    return _OTHERS.get(type_oid, text)


def is_document(type_oid: int, types: Types) -> bool:
    """Its JSON may hold whatever a page wrote, keys that look like columns included."""
    found = types.get(type_oid)
    if found is not None:
        return is_document(found.base or found.element, types)
    return type_oid in (_JSON, _JSONB)


def text(value: bytes) -> bytes:
    """A JSON string. Bytes that are not UTF-8, which a database in SQL_ASCII may hold, become `\\xNN`."""
    try:
        return orjson.dumps(value.decode())
    except UnicodeDecodeError:
        return orjson.dumps(value.decode(errors="backslashreplace"))


def array(value: bytes, element: ToJson, delimiter: bytes = b",") -> bytes:
    """A JSON array of PostgreSQL's `{...}`; the bounds of `[2:3]={...}` are dropped. Raises DecodeError.

    https://www.postgresql.org/docs/current/arrays.html#ARRAYS-IO
    """
    bounds = _DIMENSIONS.match(value)
    at = bounds.end() if bounds else 0
    stop = re.compile(rb"[{}\"" + re.escape(delimiter) + rb"]")
    parts: list[bytes] = []
    depth = 0
    try:
        while True:
            mark = value[at : at + 1]
            if mark == b"{":
                depth += 1
                parts.append(b"[")
                at += 1
            elif mark == b"}":
                depth -= 1
                parts.append(b"]")
                at += 1
                if depth <= 0:
                    break
            elif mark == delimiter:
                parts.append(b",")
                at += 1
            elif mark == b'"':
                content, at = _quoted_element(value, at + 1)
                parts.append(element(content))
            else:
                end = stop.search(value, at)
                if end is None or end.start() == at:
                    raise DecodeError("pgoutput: a malformed array")
                content = value[at : end.start()]
                parts.append(b"null" if content == b"NULL" else element(content))
                at = end.start()
    except (IndexError, ValueError) as error:
        raise DecodeError("pgoutput: a malformed array") from error
    if depth != 0 or at != len(value):
        raise DecodeError("pgoutput: a malformed array")
    return b"".join(parts)


_ESCAPED = re.compile(rb"\\(.)", re.DOTALL)
_QUOTED = re.compile(rb'((?:[^"\\]|\\.)*+)"', re.DOTALL)


def _quoted_element(value: bytes, at: int) -> tuple[bytes, int]:
    match = _QUOTED.match(value, at)
    if match is None:
        raise DecodeError("pgoutput: a malformed array")
    content = match[1]
    return (_ESCAPED.sub(rb"\1", content) if b"\\" in content else content), match.end()


def quoted(value: bytes) -> bytes:
    """For types whose text form never needs escaping."""
    return b'"%b"' % value


def _number(value: bytes) -> bytes:
    return b'"%b"' % value if value in _SPECIAL_NUMBERS else value


def as_it_is(value: bytes) -> bytes:
    """JSON already."""
    return value


def _boolean(value: bytes) -> bytes:
    return b"true" if value == b"t" else b"false"


def _json(value: bytes) -> bytes:
    # Type json keeps line breaks between its tokens; inside of strings JSON allows none.
    return value.replace(b"\n", b" ").replace(b"\r", b" ") if b"\n" in value or b"\r" in value else value


def timestamptz(value: bytes) -> bytes:
    """RFC 3339 in UTC where it can say the time, else PostgreSQL's text."""
    # The usual form by its marks alone; a regular expression for each time would be a tenth of the event's cost.
    if len(value) == 29 and value[4] == 0x2D and value[10] == 0x20 and value[19] == 0x2E and value[26:] == b"+00":
        return b'"%bT%bZ"' % (value[:10], value[11:26])
    return _time(value, b"Z")


def _timestamp(value: bytes) -> bytes:
    return _time(value, b"")


def _time(value: bytes, zone: bytes) -> bytes:
    match = _TIMESTAMP.fullmatch(value)
    if match is None or (match[4] is not None) != bool(zone):
        return text(value)
    date, time, fraction, _ = match.groups()
    return b'"%bT%b.%b%b"' % (date, time, (fraction or b"").ljust(6, b"0"), zone)


def _address(value: bytes) -> bytes:
    return b'"%b"' % value.partition(b"/")[0]


_OTHERS: dict[int, ToJson] = {
    16: _boolean,
    _JSON: _json,
    869: _address,
    1114: _timestamp,
    1184: timestamptz,
    2950: quoted,
}
