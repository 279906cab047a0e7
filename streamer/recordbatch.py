"""A Kafka record batch while it grows: the bytes that a broker stores, written once. Pure.

It takes the place of aiokafka's own builder, which takes apart and checks what we know: each record costs a quarter of
it here in the compiled build (see `setup.py`), and no more as plain Python. Offsets, sequence and producer are filled
in when the batch is sent. https://kafka.apache.org/documentation/#recordbatch
"""

from __future__ import annotations

import struct
from typing import Final

from google_crc32c import value as crc32c
from librt.strings import BytesWriter, write_i32_be, write_i64_be
from mypy_extensions import i64

from pipeline.position import Position

# Base offset, length of the rest, leader's epoch, format, checksum of what follows.
_HEAD = struct.Struct(">qiibI")
# Attributes, last offset, first and last timestamp, producer's id and epoch, base sequence, records.
_CHECKED = struct.Struct(">hiqqqhii")
_HEADER_BYTES: Final[i64] = 21 + 40
_LENGTH_FROM: Final = 12
_FORMAT: Final = 2
_NO_EPOCH: Final = -1

# Three headers, each with the length of its name and of its value before it: see `pipeline.kafka.headers`.
_POSITION: Final = b"\x06\x10position\x28"
_SEQUENCE: Final = b"\x10sequence\x10"
_COMMIT_TIME: Final = b"\x16commit_time\x10"
_HEADERS_BYTES: Final[i64] = 11 + 20 + 10 + 8 + 13 + 8


def _varint(value: int) -> bytes:
    """A number that is not negative, zigzag and seven bits a byte, the lowest first."""
    value <<= 1
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


_VARINTS: Final[list[bytes]] = [_varint(value) for value in range(1 << 13)]
_NOTHING: Final = b"\x01"  # -1: the length of a null


class RecordBatch:
    """Records of one partition, all of one timestamp. aiokafka calls the methods of its own builder."""

    def __init__(self, timestamp_ms: int, limit_bytes: int) -> None:
        """`timestamp_ms`: since 1970. `limit_bytes`: of the whole; one record is always taken."""
        self._timestamp_ms = timestamp_ms
        self._limit: i64 = limit_bytes - _HEADER_BYTES
        self._records = BytesWriter()
        self._count: i64 = 0
        self._producer = (-1, -1, -1)
        self._built: bytes | None = None

    def append(
        self, key: bytes | None, value: bytes | None, position: Position, sequence: i64, commit_time: i64
    ) -> bool:
        """Add a record; False when it does not fit any more."""
        number = _varint_of(self._count)
        key_length = _NOTHING if key is None else _varint_of(len(key))
        value_length = _NOTHING if value is None else _varint_of(len(value))
        size: i64 = 2 + len(number) + len(key_length) + len(value_length) + _HEADERS_BYTES
        if key is not None:
            size += len(key)
        if value is not None:
            size += len(value)
        length = _varint_of(size)
        out = self._records
        if self._count and len(out) + len(length) + size > self._limit:
            return False
        out.write(length)
        out.write(b"\0\0")  # no attributes; the batch's own timestamp
        out.write(number)
        out.write(key_length)
        if key is not None:
            out.write(key)
        out.write(value_length)
        if value is not None:
            out.write(value)
        out.write(_POSITION)
        epoch, commit_lsn, index = position
        write_i32_be(out, epoch)
        write_i64_be(out, commit_lsn)
        write_i64_be(out, index)
        out.write(_SEQUENCE)
        write_i64_be(out, sequence)
        out.write(_COMMIT_TIME)
        write_i64_be(out, commit_time)
        self._count += 1
        return True

    def close(self) -> None:
        """Nothing is added after this; a batch is given away once."""

    def closed(self) -> bool:
        """A batch that aiokafka sees is whole."""
        return True

    def record_count(self) -> int:
        """How many records."""
        return self._count

    def size(self) -> int:
        """Bytes of the whole so far."""
        return _HEADER_BYTES + len(self._records) if self._built is None else len(self._built)

    def _set_producer_state(self, producer_id: int, producer_epoch: int, base_sequence: int) -> None:
        self._producer = (producer_id, producer_epoch, base_sequence)

    def _build(self) -> bytes:
        """The whole, the same however often it is asked for: a batch that is sent again is not another one."""
        if self._built is None:
            time = self._timestamp_ms
            checked = _CHECKED.pack(0, self._count - 1, time, time, *self._producer, self._count)
            checked += self._records.getvalue()
            self._records = BytesWriter()
            length = _HEAD.size - _LENGTH_FROM + len(checked)
            self._built = _HEAD.pack(0, length, _NO_EPOCH, _FORMAT, crc32c(checked)) + checked
        return self._built


def _varint_of(value: i64) -> bytes:
    return _VARINTS[value] if value < 8192 else _varint(value)
