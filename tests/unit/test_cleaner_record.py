"""Taking a record apart: every byte of every column, or an error of our own."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from database.cleaner.record import RecordError, digest, exported, identity, members, members_of

scalars = st.none() | st.booleans() | st.integers() | st.text()
documents = st.recursive(
    scalars | st.floats(allow_nan=False), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)
)


@given(st.dictionaries(st.text(), scalars | documents, min_size=1), st.booleans())
def test_members_are_the_texts_as_they_stand(values: dict[str, Any], ascii_only: bool) -> None:
    texts = {name: json.dumps(value, ensure_ascii=ascii_only, separators=(",", ":")) for name, value in values.items()}
    line = "{" + ",".join(f"{json.dumps(name)}:{text}" for name, text in texts.items()) + "}"
    try:
        data = line.encode()
    except UnicodeEncodeError:  # a lone surrogate: PostgreSQL has none
        return
    assert members(data) == texts


@given(st.binary())
def test_anything_else_raises_our_own_error(data: bytes) -> None:
    try:
        members(data)
    except RecordError:
        pass
    else:
        assert data[:1] == b"{" or len(data) < 2


def test_blanks_of_type_json_and_numbers_survive() -> None:
    line = (
        b'{"id":1,"a": {"n" : 1.10, "m":[ ]} ,"b":123456789012345678901234567890.50,"c":'
        + b"[" * 3000
        + b"]" * 3000
        + b"}"
    )
    found = members(line)
    assert found["a"] == ' {"n" : 1.10, "m":[ ]} '
    assert found["b"] == "123456789012345678901234567890.50"
    assert len(found["c"]) == 6000


@given(
    st.lists(
        st.sampled_from(
            [
                b'{"id":1,"b":"x\\"y","c":{"d":[1,"}"]}}',
                b'{"id":2,"b":null,"c":null}',
                b'{"id":3,"c":[]}',
                b'{"id":4,"b":{"c":1},"c":"}"}',
                '{"id":5,"b":"é","c":1.10}'.encode(),
            ]
        ),
        max_size=6,
    )
)
def test_the_quick_way_gives_the_same_as_the_slow_one(lines: list[bytes]) -> None:
    assert list(members_of(lines)) == [members(line) for line in lines]


@pytest.mark.parametrize(
    "line",
    [
        b'{"id":-7,"event_id":"00000000-0000-0000-0000-00000000000a","x":1}',
        b'{"x":{"id":1},"event_id":"00000000-0000-0000-0000-00000000000a","id":-7}',
    ],
)
def test_identity_is_found_wherever_it_stands(line: bytes) -> None:
    assert identity(line) == (-7, "00000000-0000-0000-0000-00000000000a")


def test_the_digest_tells_where_one_column_ends_and_the_next_begins() -> None:
    def of(a: str, b: str) -> bytes:
        return digest({"a": a, "b": b}, ["a", "b"], [])

    assert len({of('"x1:y"', '""'), of('"x"', '"y"'), of('"x1:"', '"y"'), of("null", '"xy"'), of('""', '"xy"')}) == 5


@pytest.mark.parametrize("line", [b'{"id":1}', b'{"id":null,"event_id":"e"}', b'{"id":1,"event_id":null}', b"{}"])
def test_a_record_without_identity_is_an_error(line: bytes) -> None:
    with pytest.raises(RecordError):
        exported(members(line), ["id"], [], None)
