"""Every type of a column becomes sensible JSON: exact numbers, typed arrays, any text, and never a forged column."""

from __future__ import annotations

import contextlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamer.pgoutput import Column, DecodeError
from streamer.rows import RowEncoder
from streamer.types import SqlType, array, is_document, text, to_json

TYPES = {
    1016: SqlType(0, 20, b","),
    1009: SqlType(0, 25, b","),
    1231: SqlType(0, 1700, b","),
    1000: SqlType(0, 16, b","),
    1185: SqlType(0, 1184, b","),
    3807: SqlType(0, 3802, b","),
    1020: SqlType(0, 603, b";"),
    20001: SqlType(20, 0, b","),
    20002: SqlType(20001, 0, b","),
    20003: SqlType(0, 20002, b","),
    20004: SqlType(3802, 0, b","),
}


@pytest.mark.parametrize(
    ("type_oid", "value", "expected"),
    [
        (20, b"-9223372036854775808", b"-9223372036854775808"),
        (
            1700,
            b"123456789012345678901234567890.000000000000000000001",
            b"123456789012345678901234567890.000000000000000000001",
        ),
        (1700, b"NaN", b'"NaN"'),
        (1700, b"-Infinity", b'"-Infinity"'),
        (701, b"1e+300", b"1e+300"),
        (701, b"-0", b"-0"),
        (16, b"t", b"true"),
        (3802, b'{"big": 1e400, "n": 1.10}', b'{"big": 1e400, "n": 1.10}'),
        (114, b'{"a":\n1}', b'{"a": 1}'),
        (1114, b"2026-01-02 03:04:05", b'"2026-01-02T03:04:05.000000"'),
        (1114, b"-infinity", b'"-infinity"'),
        (1184, b"2026-01-02 03:04:05.5+00", b'"2026-01-02T03:04:05.500000Z"'),
        (1184, b"10000-01-02 03:04:05+00", b'"10000-01-02 03:04:05+00"'),
        (1082, b"2026-01-02", b'"2026-01-02"'),
        (1083, b"03:04:05.25", b'"03:04:05.25"'),
        (1186, b"P1DT2H", b'"P1DT2H"'),
        (869, b"2001:db8::1/64", b'"2001:db8::1"'),
        (650, b"10.0.0.0/8", b'"10.0.0.0/8"'),
        (829, b"08:00:2b:01:02:03", b'"08:00:2b:01:02:03"'),
        (17, b"\\xdeadbeef", b'"\\\\xdeadbeef"'),
        (25, b"", b'""'),
        (99999, b'(1,"a ""b""")', b'"(1,\\"a \\"\\"b\\"\\"\\")"'),
        (1016, b"{}", b"[]"),
        (1016, b"{1,NULL,-3}", b"[1,null,-3]"),
        (1016, b"[0:1][5:6]={{1,2},{3,4}}", b"[[1,2],[3,4]]"),
        (1009, b'{a,"b c","NULL",NULL,"q\\"\\\\",""}', b'["a","b c","NULL",null,"q\\"\\\\",""]'),
        (1231, b"{1.10,NaN}", b'[1.10,"NaN"]'),
        (1000, b"{t,f}", b"[true,false]"),
        (1185, b'{"2026-01-02 03:04:05+00"}', b'["2026-01-02T03:04:05.000000Z"]'),
        (3807, b'{"{\\"a\\": [1, \\"x\\"]}",NULL}', b'[{"a": [1, "x"]},null]'),
        (1020, b"{(1,1),(0,0);(2,2),(1,1)}", b'["(1,1),(0,0)","(2,2),(1,1)"]'),
        (20001, b"7", b"7"),
        (20003, b"{7,8}", b"[7,8]"),
        (20004, b'{"a": 1}', b'{"a": 1}'),
    ],
)
def test_the_text_form_of_each_type_becomes_its_json(type_oid: int, value: bytes, expected: bytes) -> None:
    assert to_json(type_oid, TYPES)(value) == expected


def test_documents_are_known_through_domains_and_arrays() -> None:
    assert [oid for oid in (114, 3802, 3807, 20004, 25, 1009, 20001) if is_document(oid, TYPES)] == [
        114,
        3802,
        3807,
        20004,
    ]


def test_a_document_behind_a_domain_or_in_an_array_cannot_forge_a_column() -> None:
    names = [("id", 20), ("event_id", 2950), ("more", 20004), ("list", 3807), ("site_id", 25), ("client_id", 25)]
    encoder = RowEncoder([Column(name=name, type_oid=oid) for name, oid in names], TYPES)
    forged = b'{"client_id":"evil"}'
    _, _, line = encoder.encode_values(
        [b"1", b"6d0c1a9e-0000-0000-0000-000000000000", forged, b'{"{\\"client_id\\":\\"evil\\"}"}', b"s", b"acme"]
    )
    assert line.index(b'"client_id":') == line.index(b'"client_id":"acme"')
    assert json.loads(line)["list"] == [{"client_id": "evil"}]


def test_bytes_that_are_not_utf8_are_shown_and_stop_nothing() -> None:
    assert json.loads(text(b"a\xffb")) == "a\\xffb"


def test_a_value_of_a_megabyte_passes() -> None:
    value = ("é" * 500_000).encode()
    assert json.loads(text(value)) == value.decode()


def _quote(item: str | None) -> str:
    if item is None:
        return "NULL"
    return '"' + item.replace("\\", "\\\\").replace('"', '\\"') + '"'


_TEXTS = st.one_of(st.none(), st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=8))


@given(st.recursive(st.lists(_TEXTS, min_size=1), lambda inner: st.lists(inner, min_size=1), max_leaves=12))
def test_any_array_of_texts_survives(items: list[object]) -> None:
    def literal(item: object) -> str:
        if isinstance(item, list):
            return "{" + ",".join(literal(part) for part in item) + "}"
        assert item is None or isinstance(item, str)
        return _quote(item)

    assert json.loads(array(literal(items).encode(), text)) == items


@given(st.one_of(st.binary(max_size=40), st.text('{}",\\[]:=aN1', max_size=20).map(str.encode)))
def test_malformed_arrays_raise_the_decoders_own_error_and_nothing_else(value: bytes) -> None:
    with contextlib.suppress(DecodeError):
        array(value, text)
