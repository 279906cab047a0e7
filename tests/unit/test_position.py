"""Positions: their total order survives every form they are written in."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.position import Lsn, Position

U32 = st.integers(0, 2**32 - 1)
U64 = st.integers(0, 2**64 - 1)
POSITIONS = st.builds(Position, U32, U64, U64)


@given(POSITIONS, POSITIONS)
def test_text_and_bytes_sort_like_the_triple(a: Position, b: Position) -> None:
    assert (a < b) == (str(a) < str(b)) == (a.to_bytes() < b.to_bytes())


@given(POSITIONS)
def test_text_and_bytes_come_back_as_they_were(position: Position) -> None:
    assert Position.parse(str(position)) == position
    assert Position.from_bytes(position.to_bytes()) == position
    assert len(position.to_bytes()) == 20


@given(st.text())
def test_any_other_text_is_refused_with_value_error(text: str) -> None:
    with pytest.raises(ValueError, match="not a position"):
        Position.parse(text)


def test_an_index_beyond_64_bits_is_refused() -> None:
    with pytest.raises(ValueError, match="64 bits"):
        Position.parse("00000001-0000000000000001-99999999999999999999")


@given(U64)
def test_lsn_reads_what_postgresql_prints(value: int) -> None:
    assert Lsn.parse(str(Lsn(value))) == value


@pytest.mark.parametrize("text", ["", "16", "16/", "/", "x/1", "123456789/0", "1/123456789"])
def test_lsn_refuses_other_text(text: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - int's own message for some of them
        Lsn.parse(text)
