"""Gzip members as the pipeline writes them: deterministic, fast, and able to carry an index in their header.

The same lines give the same bytes: no time, no name. RFC 1952 lets a header hold extra fields (FEXTRA); readers that
don't know them, zcat for one, skip them. Members can be concatenated; together they are one gzip file.
https://www.rfc-editor.org/rfc/rfc1952
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator

from isal import isal_zlib

from pipeline.errors import PermanentError

_HEADER = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\xff"
_HEADER_WITH_EXTRA = b"\x1f\x8b\x08\x04\x00\x00\x00\x00\x00\xff"
_SUBFIELD = struct.Struct("<H2sH")
_TRAILER = struct.Struct("<II")
_LEVEL = 1  # a fifth of zlib's time at nearly its ratio, for lines that resemble each other

MAX_EXTRA_BYTES = 0xFFFF - 4


class GzipError(PermanentError):
    """The bytes are not gzip members as `member` makes them."""


def member(data: bytes, *, extra: bytes = b"", extra_id: bytes = b"") -> bytes:
    """One gzip member of `data`, with `extra` (at most MAX_EXTRA_BYTES) under a two-byte id in its header."""
    deflate = isal_zlib.compressobj(_LEVEL, isal_zlib.DEFLATED, -15)
    header = _HEADER
    if extra_id:
        header = _HEADER_WITH_EXTRA + _SUBFIELD.pack(len(extra) + 4, extra_id, len(extra)) + extra
    trailer = _TRAILER.pack(isal_zlib.crc32(data), len(data) & 0xFFFFFFFF)
    return b"".join((header, deflate.compress(data), deflate.flush(), trailer))


def members(data: bytes, *, extra_id: bytes = b"") -> Iterator[tuple[bytes, bytes]]:
    """The members in `data`: (extra field of that id, uncompressed content) each.

    Raises GzipError, and nothing else, for anything that is cut short, changed, or has another header.
    """
    at = 0
    while at < len(data):
        extra, at = _header(data, at, extra_id)
        inflate = zlib.decompressobj(-15)
        try:
            content = inflate.decompress(memoryview(data)[at:])
        except zlib.error as error:
            raise GzipError("gzip: the compressed data is damaged") from error
        if not inflate.eof:
            raise GzipError("gzip: cut short")
        at = len(data) - len(inflate.unused_data)
        if at + _TRAILER.size > len(data):
            raise GzipError("gzip: cut short")
        if _TRAILER.unpack_from(data, at) != (zlib.crc32(content), len(content) & 0xFFFFFFFF):
            raise GzipError("gzip: the checksum differs")
        at += _TRAILER.size
        yield extra, content


def _header(data: bytes, at: int, extra_id: bytes) -> tuple[bytes, int]:
    fixed = data[at : at + len(_HEADER)]
    at += len(_HEADER)
    if fixed == _HEADER and not extra_id:
        return b"", at
    if fixed != _HEADER_WITH_EXTRA or at + _SUBFIELD.size > len(data):
        raise GzipError("gzip: not a header of ours")
    total, found_id, length = _SUBFIELD.unpack_from(data, at)
    at += _SUBFIELD.size
    if total != length + 4 or (extra_id and found_id != extra_id) or at + length > len(data):
        raise GzipError("gzip: not a header of ours")
    return data[at : at + length], at + length
