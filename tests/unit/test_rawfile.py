"""Raw files and gzip members: whole or refused, and plain NDJSON to everybody else."""

import gzip
import zlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline import rawfile
from pipeline.events import Event
from pipeline.gzip import GzipError, member, members
from pipeline.position import Position
from streamer.rawfile import RawFile

LINES = st.binary(max_size=200).map(lambda b: b.replace(b"\n", b" "))


def events(lines: list[bytes], rows_per_transaction: int = 3) -> list[Event]:
    return [
        Event(
            Position(1, 1000 + 8 * (i // rows_per_transaction), i % rows_per_transaction),
            1_700_000_000_000_000 + i // rows_per_transaction,
            b"k",
            b"client",
            line,
        )
        for i, line in enumerate(lines)
    ]


@given(st.lists(LINES, min_size=1, max_size=50), st.integers(1, 7))
def test_a_block_gives_back_positions_times_and_lines(lines: list[bytes], rows: int) -> None:
    batch = events(lines, rows)
    decoded = list(rawfile.decode(rawfile.encode_block(batch)))
    assert decoded == [(event.position, event.commit_time, event.line) for event in batch]


def test_any_gzip_reader_sees_plain_ndjson() -> None:
    batch = events([b'{"a":1}', b'{"a":2}'])
    assert gzip.decompress(rawfile.encode_block(batch) * 2) == b'{"a":1}\n{"a":2}\n' * 2


@settings(max_examples=300)
@given(st.lists(LINES, min_size=1, max_size=20), st.data())
def test_a_damaged_block_is_refused_and_never_read_as_something_else(lines: list[bytes], data: st.DataObject) -> None:
    block = bytearray(rawfile.encode_block(events(lines)))
    at = data.draw(st.integers(0, len(block) - 1))
    block[at] ^= data.draw(st.integers(1, 255))
    try:
        decoded = list(rawfile.decode(bytes(block)))
    except GzipError:
        return
    # Only padding bits at the end of the compressed data may differ unseen.
    assert decoded == [(event.position, event.commit_time, event.line) for event in events(lines)]


@settings(max_examples=100)
@given(st.binary(max_size=300))
def test_random_bytes_raise_the_parsers_own_error_only(data: bytes) -> None:
    try:
        list(rawfile.decode(data))
    except GzipError:
        pass
    else:
        assert data == b""


@given(st.lists(LINES, min_size=1, max_size=20), st.integers(1, 60))
def test_a_truncated_file_is_refused(lines: list[bytes], cut: int) -> None:
    block = rawfile.encode_block(events(lines))
    with pytest.raises(GzipError):
        list(rawfile.decode(block[: max(1, len(block) - cut)]))


@given(st.lists(st.binary(max_size=100), min_size=1, max_size=5))
def test_members_without_an_index_concatenate(contents: list[bytes]) -> None:
    data = b"".join(member(content) for content in contents)
    assert [content for _, content in members(data)] == contents
    assert gzip.decompress(data) == b"".join(contents)


def test_the_same_events_give_the_same_bytes_whatever_the_batches() -> None:
    batch = events([b'{"n":%d}' % i for i in range(2500)])
    whole, pieces = RawFile(opened_at=0.0), RawFile(opened_at=5.0)
    whole.add(batch)
    for i in range(0, len(batch), 7):
        pieces.add(batch[i : i + 7])
    assert whole.finish().read() == pieces.finish().read()
    assert whole.sha256 == pieces.sha256
    assert whole.key == pieces.key
    assert whole.counts() == pieces.counts()
    assert sum(whole.counts().values()) == 2500
    whole.discard()
    pieces.discard()


def test_an_incompressible_index_of_a_full_block_fits_into_the_header() -> None:
    batch = [
        Event(Position(1, (zlib.crc32(b"%d" % i) << 30) % 2**63, i * i), zlib.crc32(b"t%d" % i), b"", None, b"{}")
        for i in range(rawfile.BLOCK_EVENTS)
    ]
    batch.sort()
    assert [p for p, _, _ in rawfile.decode(rawfile.encode_block(batch))] == [event.position for event in batch]
