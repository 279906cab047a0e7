"""Both ways to take a row apart, the one for the compiled build and the one for plain Python, give the same."""

import os
import struct
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import pipeline.privacy.redaction
from streamer.pgoutput import Column, DecodeError
from streamer.rows import COMPILED, Encode, walked, written
from streamer.types import SqlType
from streamer.walk import is_plain

JSON, JSONB, TEXT, TIMESTAMPTZ = 114, 3802, 25, 1184
TYPES = {20001: SqlType(JSONB, 0, b""), 20002: SqlType(0, TEXT, b",")}
OIDS = [20, 23, 16, TEXT, 1043, 2950, 869, TIMESTAMPTZ, 1114, JSON, JSONB, 1700, 701, 17, 20001, 20002, 99999]

names = st.sampled_from(["at", "a b", 'q"', "export_status", "processed_at", "url", "é"])
values = st.one_of(
    st.none(),
    st.binary(max_size=24),
    st.text(max_size=40).map(str.encode),
    st.sampled_from([b"", b"{}", b'{"client_id":"evil"}', b"2026-11-23 05:57:00.500000+00", b"infinity", b"NaN"]),
)


@st.composite
def tables(draw: st.DrawFn) -> list[Column]:
    required = ["id", "event_id", "client_id", "site_id"]
    others = draw(st.lists(names, max_size=5, unique=True))
    order = draw(st.permutations(required + others))
    return [Column(name=name, type_oid=draw(st.sampled_from(OIDS))) for name in order]


def row(columns: list[bytes | None]) -> bytes:
    return b"".join(b"n" if value is None else b"t" + struct.pack(">I", len(value)) + value for value in columns)


def outcome(encode: Encode, data: bytes) -> object:
    try:
        return encode(data, 0)
    except (DecodeError, IndexError, ValueError, struct.error):
        return "refused"


def test_these_modules_are_of_the_build_that_was_asked_for() -> None:
    asked = bool(os.environ.get("COMPILED_BUILD"))
    assert asked is COMPILED
    assert (Path(pipeline.privacy.redaction.__file__).suffix == ".so") is asked


@settings(max_examples=100, deadline=None)
@given(tables(), st.data())
def test_rows_of_any_table_become_the_same_line_either_way(columns: list[Column], data: st.DataObject) -> None:
    byte_by_byte, column_by_column = walked(columns, TYPES), written(columns, TYPES)
    for _ in range(3):  # a row leaves nothing behind for the next, not even a row that was refused
        message = row([data.draw(values) for _ in columns])
        damaged = bytearray(message)
        for _ in range(data.draw(st.integers(0, 2))):
            damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
        cut = bytes(damaged[: data.draw(st.integers(0, len(damaged)))])
        for given_row in (message, bytes(damaged), cut):
            assert outcome(byte_by_byte, given_row) == outcome(column_by_column, given_row)


def test_a_row_of_megabytes_leaves_no_trace_in_the_next() -> None:
    columns = [Column(name=name, type_oid=TEXT) for name in ("id", "event_id", "client_id", "site_id")]
    encode = walked(columns, {})
    large = [b"1", b"e", b"x" * 3_000_000, b"s"]
    for cells in (large, [b"2", b"e", None, b"s"], large):
        assert encode(row(list(cells)), 0) == written(columns, {})(row(list(cells)), 0)


@pytest.mark.parametrize("length", [1, 7, 8, 9, 16, 23])
def test_text_is_plain_only_without_any_byte_that_json_or_utf8_would_change(length: int) -> None:
    for byte in range(256):
        stays = 0x20 <= byte < 0x80 and byte not in b'"\\'
        for place in range(length):
            text = bytearray(b"~" * length)
            text[place] = byte
            assert is_plain(bytes(text), 0, length) is stays, (byte, place)


@given(st.binary(max_size=40))
def test_plain_text_needs_no_escape(text: bytes) -> None:
    assert is_plain(text, 0, len(text)) is all(0x20 <= byte < 0x80 and byte not in b'"\\' for byte in text)
