"""The partition of an event follows from the event and the layout in force at its position, and from nothing else."""

from __future__ import annotations

import orjson
from hypothesis import given
from hypothesis import strategies as st

from pipeline.events import Event
from pipeline.layout import Layout, Layouts
from pipeline.position import ZERO, Position

positions = st.builds(Position, st.integers(1, 2), st.integers(1, 4), st.integers(0, 4))
keys = st.one_of(st.none(), st.sampled_from([b"hot", b"cold", b'quo"ted']))


@st.composite
def spreads(draw: st.DrawFn) -> Layouts:
    first = Layout(partitions=draw(st.integers(1, 12)))
    begins = draw(st.lists(positions, unique=True, max_size=4))
    more = [
        Layout(from_position=at, partitions=draw(st.integers(4, 24)), fanout={b"hot": draw(st.integers(2, 4))})
        for at in begins
    ]
    return Layouts([first, *more])


def event(position: Position, key: bytes | None, session: str | None) -> Event:
    record = {"client_id": None if key is None else key.decode(), "site_id": None, "session_id": session}
    return Event(position, 0, key, key, orjson.dumps(record))


@given(spreads(), st.lists(st.tuples(positions, keys, st.text(max_size=5)), max_size=20))
def test_batch_is_cut_where_a_layout_begins_and_the_reader_of_a_line_agrees(
    layouts: Layouts, rows: list[tuple[Position, bytes | None, str]]
) -> None:
    batch = [event(*row) for row in sorted(rows, key=lambda row: row[0])]
    parts = list(layouts.split(batch))
    assert [each for _, part in parts for each in part] == batch
    for layout, part in parts:
        for each in part:
            assert layout is layouts.at(each.position)
            assert layout.from_position <= each.position
            partition = layout.partition_of(each.key, each.line)
            assert 0 <= partition < layout.partitions <= layouts.partitions
            assert partition == layouts.partition_of_line(each.position, each.line)


@given(spreads(), positions, positions, keys, st.text(max_size=5))
def test_layout_that_begins_later_moves_no_event_before_it(
    layouts: Layouts, at: Position, later: Position, key: bytes | None, session: str
) -> None:
    if at < later:
        line = event(at, key, session).line
        grown = layouts.followed_by(Layout(from_position=later, partitions=30, fanout={b"hot": 30, b"cold": 2}))
        assert grown.partition_of_line(at, line) == layouts.partition_of_line(at, line)


def test_fan_out_spreads_sessions_of_its_key_alone_and_keeps_a_session_together() -> None:
    plain = Layout(partitions=12)
    fanned = Layout(from_position=ZERO, partitions=12, fanout={b"hot": 4})
    lines = {f"s{n}": event(ZERO, b"hot", f"s{n}").line for n in range(100)}
    found = {session: fanned.partition_of(b"hot", line) for session, line in lines.items()}
    assert len(set(found.values())) == 4
    assert found == {session: fanned.partition_of(b"hot", line) for session, line in lines.items()}
    assert {fanned.partition_of(b"cold", line) for line in lines.values()} == {plain.partition_of(b"cold", b"")}
    assert fanned.partition_of(b"hot", b'{"client_id":"hot"}') in set(found.values())
