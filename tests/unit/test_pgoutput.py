"""The decoder of pgoutput and what follows the stream: right on what the server sends, loud on anything else."""

import contextlib
import struct

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.errors import PermanentError
from pipeline.position import Lsn, Position
from streamer.pgoutput import Begin, Column, Commit, DecodeError, Relation, decode, insert_header
from streamer.replication import Keepalive, parse_frame, parse_history
from streamer.rows import RowEncoder
from streamer.transactions import EpochMap, Transactions

TEXT, BIGINT, UUID, INET, JSONB, TIMESTAMPTZ, BOOL, FLOAT8, NUMERIC, JSON = (
    25, 20, 2950, 869, 3802, 1184, 16, 701, 1700, 114,
)  # fmt: skip
COLUMNS = [
    Column(name="id", type_oid=BIGINT),
    Column(name="event_id", type_oid=UUID),
    Column(name="raw_event_data", type_oid=JSONB),
    Column(name="site_id", type_oid=TEXT),
    Column(name="client_id", type_oid=TEXT),
    Column(name="export_status", type_oid=TEXT),
    Column(name="at", type_oid=TIMESTAMPTZ),
    Column(name="ip", type_oid=INET),
    Column(name="ok", type_oid=BOOL),
    Column(name="f", type_oid=FLOAT8),
]


def begin(lsn: int, time: int = 0) -> bytes:
    return struct.pack(">cQqI", b"B", lsn, time, 7)


def commit(lsn: int, end: int) -> bytes:
    return struct.pack(">cBQQq", b"C", 0, lsn, end, 0)


def relation(oid: int, columns: list[Column]) -> bytes:
    body = b"".join(
        b"\0" + column.name.encode() + b"\0" + struct.pack(">Ii", column.type_oid, -1) for column in columns
    )
    return struct.pack(">cI", b"R", oid) + b"public\0events_log\0d" + struct.pack(">H", len(columns)) + body


def insert(oid: int, values: list[bytes | None]) -> bytes:
    body = b"".join(b"n" if v is None else b"t" + struct.pack(">I", len(v)) + v for v in values)
    return struct.pack(">cIcH", b"I", oid, b"N", len(values)) + body


ROW: list[bytes | None] = [
    b"7", b"6d0c1a9e-0000-0000-0000-000000000000", b'{"n": 1.10, "big": 1000000000000000000000000000001}', b"site",
    b"acme", b"pending", b"2026-11-23 05:57:00.5+00", b"10.0.0.1/24", b"t", b"NaN",
]  # fmt: skip


def line_of(values: list[bytes | None]) -> bytes:
    key, client_id, line = RowEncoder(COLUMNS).encode_values(values)
    assert client_id == values[4]
    assert key == (values[3] if values[4] is None else values[4])
    return line


def transactions() -> Transactions:
    return Transactions(EpochMap([(Lsn(0), 3)]))


def test_rows_of_a_transaction_share_its_lsn_and_are_told_apart_by_their_ordinal() -> None:
    stream = transactions()
    batch = stream.events(
        [begin(100), relation(5, COLUMNS), insert(5, ROW), insert(5, ROW), commit(100, 130), begin(140), insert(5, ROW)]
    )
    assert [event.position for event in batch] == [Position(3, 100, 0), Position(3, 100, 1), Position(3, 140, 0)]
    assert stream.complete_until == 130
    assert stream.in_transaction


def test_the_record_keeps_json_as_it_came_and_leaves_bookkeeping_out() -> None:
    line = line_of(ROW)
    assert line == (
        b'{"id":7,"event_id":"6d0c1a9e-0000-0000-0000-000000000000","site_id":"site","client_id":"acme",'
        b'"at":"2026-11-23T05:57:00.500000Z","ip":"10.0.0.1","ok":true,"f":"NaN",'
        b'"raw_event_data":{"n": 1.10, "big": 1000000000000000000000000000001}}'
    )


def test_a_page_cannot_forge_the_client_id_that_a_reader_finds_first() -> None:
    row = list(ROW)
    row[2] = b'{"client_id":"evil"}'
    row[3] = b'x","client_id":"evil"'
    line = line_of(row)
    assert orjson.loads(line)["client_id"] == "acme"
    assert line.index(b'"client_id":"acme"') == line.index(b'"client_id":')


@given(st.text().filter(lambda s: "\0" not in s and not any(0xD800 <= ord(c) < 0xE000 for c in s)))
def test_any_text_survives(text: str) -> None:
    row = list(ROW)
    row[3] = text.encode()
    line = line_of(row)
    assert orjson.loads(line)["site_id"] == text
    assert b"\n" not in line


@pytest.mark.parametrize(
    ("given_text", "expected"),
    [
        (b"2026-01-02 03:04:05+00", "2026-01-02T03:04:05.000000Z"),
        (b"2026-01-02 03:04:05.123456+00", "2026-01-02T03:04:05.123456Z"),
        (b"infinity", "infinity"),
        (b"0044-03-15 12:00:00+00 BC", "0044-03-15 12:00:00+00 BC"),
    ],
)
def test_times_are_rfc_3339_in_utc_with_six_digits_where_it_can_say_them(given_text: bytes, expected: str) -> None:
    row = list(ROW)
    row[6] = given_text
    assert orjson.loads(line_of(row))["at"] == expected


def test_nulls_are_present() -> None:
    line = line_of([b"1", *[None] * (len(COLUMNS) - 1)])
    assert orjson.loads(line) == {c.name: None for c in COLUMNS if c.name != "export_status"} | {"id": 1}


def test_a_table_without_client_id_is_refused_by_name() -> None:
    with pytest.raises(PermanentError, match="client_id"):
        RowEncoder([c for c in COLUMNS if c.name != "client_id"])


@pytest.mark.parametrize(
    "payloads",
    [
        [insert(5, ROW)],
        [begin(1), insert(5, ROW)],
        [begin(1), begin(2)],
        [commit(1, 2)],
        [begin(1), commit(2, 3)],
        [begin(1), relation(5, COLUMNS), insert(5, ROW[:-1])],
    ],
)
def test_a_stream_that_makes_no_sense_is_an_error_and_not_a_guess(payloads: list[bytes]) -> None:
    with pytest.raises(DecodeError):
        transactions().events(payloads)


def test_messages_come_back_as_they_were_sent() -> None:
    assert decode(begin(5, 6)) == Begin(commit_lsn=Lsn(5), commit_time=946_684_800_000_006)
    assert decode(commit(5, 9)) == Commit(commit_lsn=Lsn(5), end_lsn=Lsn(9))
    assert insert_header(insert(5, ROW)) == (5, len(ROW))
    assert decode(relation(5, COLUMNS)) == Relation(
        oid=5, namespace="public", name="events_log", columns=tuple(COLUMNS)
    )


VALID = [begin(5, 6), commit(5, 9), relation(5, COLUMNS)]


@settings(max_examples=500)
@given(st.one_of(st.binary(max_size=200), st.sampled_from(VALID)), st.data())
def test_malformed_messages_raise_the_decoders_own_error_and_nothing_else(message: bytes, data: st.DataObject) -> None:
    damaged = bytearray(message[: data.draw(st.integers(0, len(message)))])
    for _ in range(data.draw(st.integers(0, 3))):
        if damaged:
            damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(DecodeError):
        decode(bytes(damaged))


@settings(max_examples=500)
@given(st.data())
def test_malformed_inserts_raise_the_decoders_own_error_and_nothing_else(data: st.DataObject) -> None:
    message = insert(5, ROW)
    damaged = bytearray(message[: data.draw(st.integers(1, len(message)))])
    for _ in range(data.draw(st.integers(0, 3))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    damaged[0] = ord("I")
    stream = transactions()
    stream.events([begin(1), relation(5, COLUMNS)])
    with contextlib.suppress(DecodeError):
        (event,) = stream.events([bytes(damaged)])
        assert event.line.startswith(b'{"id":')


@settings(max_examples=300)
@given(st.binary(max_size=60))
def test_malformed_frames_raise_the_decoders_own_error_and_nothing_else(frame: bytes) -> None:
    with contextlib.suppress(DecodeError):
        parse_frame(memoryview(frame))


def test_frames_are_told_apart() -> None:
    assert parse_frame(memoryview(struct.pack(">cQQq", b"w", 1, 2, 3) + b"payload")) == b"payload"
    assert parse_frame(memoryview(struct.pack(">cQqB", b"k", 9, 0, 1))) == Keepalive(
        wal_end=Lsn(9), server_time=946_684_800_000_000, reply_requested=True
    )


def test_a_commit_belongs_to_the_timeline_that_holds_its_lsn() -> None:
    history = parse_history(b"1\t0/5000\tno recovery target specified\n\n2\t0/9000\tat restore point\n")
    assert history == ((1, Lsn(0x5000)), (2, Lsn(0x9000)))
    epochs = EpochMap([(Lsn(0), 1), (Lsn(0x5000), 2), (Lsn(0x9000), 3)])
    assert [epochs.at(Lsn(lsn)) for lsn in (0, 0x4FFF, 0x5000, 0x8FFF, 0x9000)] == [1, 1, 2, 2, 3]
    assert epochs.current == 3


@pytest.mark.parametrize("text", [b"x", b"1 0/5000", b"1\tzero\treason", b"\xff\t0/1"])
def test_a_malformed_history_is_a_decode_error(text: bytes) -> None:
    with pytest.raises(DecodeError):
        parse_history(text)
