"""A hole is filled with just what the sequence says is missing, out of objects that are what the ledger says."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from database.ledger.chunks import ConsumerPosition
from database.ledger.stream import RawObjectRef
from pipeline import rawfile
from pipeline.errors import PermanentError
from pipeline.events import Event
from pipeline.position import Position
from processor import refill as module
from processor.refill import Refilled, refill

STAND = ConsumerPosition(next_offset=5, last_sequence=4, last_position=Position(1, 100, 0))
LINES = [b'{"id":%d,"client_id":"acme"}' % number for number in range(3)]
EVENTS = [
    Event(Position(1, 100, 1 + n), 1_700_000_000_000_000 + n, b"acme", b"acme", line) for n, line in enumerate(LINES)
]
BODY = rawfile.encode_block(EVENTS)


class OnePartition:
    def partition_of_line(self, _position: Position, _line: bytes) -> int:
        return 0


async def fill(monkeypatch: pytest.MonkeyPatch, *, body: bytes = BODY, **hole: Any) -> list[Refilled]:
    class Bucket:
        async def get(self, _key: str) -> bytes:
            return body

    ref = RawObjectRef(
        id=1, bucket="raw", key="k", events=3, sha256=hashlib.sha256(BODY).hexdigest(),
        first_position=str(EVENTS[0].position), last_position=str(EVENTS[-1].position),
    )  # fmt: skip

    @asynccontextmanager
    async def connected(_pool: object) -> AsyncIterator[None]:
        yield

    async def until(_connection: object) -> Position:
        return EVENTS[-1].position

    async def between(*_arguments: object) -> list[RawObjectRef]:
        return [ref]

    async def layouts(*_arguments: object) -> OnePartition:
        return OnePartition()

    monkeypatch.setattr(module, "connected", connected)
    monkeypatch.setattr(module.ledger, "recorded_until", until)
    monkeypatch.setattr(module.ledger, "raw_objects_between", between)
    monkeypatch.setattr(module, "layouts_of", layouts)
    pool: Any = None
    bucket: Any = Bucket()
    given: dict[str, Any] = {"sequence": 7, "position": EVENTS[2].position, **hole}
    found = refill(pool, bucket, partition=0, topic="t", stand=STAND, turned=lambda: None, **given)
    return [event async for event in found]


async def test_what_lies_before_the_record_is_refilled(monkeypatch: pytest.MonkeyPatch) -> None:
    assert [line for _, _, line in await fill(monkeypatch)] == LINES[:2]


async def test_the_end_of_a_partition_is_refilled_with_its_last_event(monkeypatch: pytest.MonkeyPatch) -> None:
    assert [line for _, _, line in await fill(monkeypatch, sequence=8, is_end=True)] == LINES


@pytest.mark.parametrize("sequence", [6, 8])
async def test_more_or_fewer_events_than_are_missing_stop_the_partition(
    monkeypatch: pytest.MonkeyPatch, sequence: int
) -> None:
    with pytest.raises(PermanentError, match="events are missing"):
        await fill(monkeypatch, sequence=sequence)


async def test_an_object_that_is_not_what_was_written_gives_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    other = rawfile.encode_block([event._replace(line=b'{"id":9,"client_id":"acme"}') for event in EVENTS])
    with pytest.raises(PermanentError, match="not what was written"):
        await fill(monkeypatch, body=other)
