"""Which streamer holds a slot: a number that only grows, and the identity that its Kafka producer has with it."""

from __future__ import annotations

from dataclasses import dataclass

from psycopg import AsyncConnection

from pipeline.errors import FencedError

_LAST_EPOCH = 32_767
"""Of a producer id: 16 bits with a sign."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Generation:
    """A streamer's turn with a slot."""

    number: int
    producer_id: int | None
    """None when Kafka has to give a new one."""
    producer_epoch: int


async def take_over(connection: AsyncConnection, slot: str) -> Generation:
    """The turn of a streamer that now holds `slot`; what those before it may do is over."""
    cursor = await connection.execute(
        "INSERT INTO pipeline.stream_generations AS s (slot, generation) VALUES (%s, 1)"
        " ON CONFLICT (slot) DO UPDATE SET generation = s.generation + 1,"
        " producer_id = CASE WHEN s.producer_epoch < %s THEN s.producer_id END,"
        " producer_epoch = CASE WHEN s.producer_epoch < %s THEN s.producer_epoch + 1 ELSE 0 END"
        " RETURNING generation, producer_id, producer_epoch",
        (slot, _LAST_EPOCH, _LAST_EPOCH),
    )
    row = await cursor.fetchone()
    assert row is not None
    return Generation(number=row[0], producer_id=row[1], producer_epoch=row[2])


async def keep_producer(connection: AsyncConnection, slot: str, number: int, producer_id: int, epoch: int) -> None:
    """Remember the producer that Kafka gave to generation `number`. Raises FencedError when that one is over."""
    cursor = await connection.execute(
        "UPDATE pipeline.stream_generations SET producer_id = %s, producer_epoch = %s"
        " WHERE slot = %s AND generation = %s",
        (producer_id, epoch, slot, number),
    )
    _one(cursor.rowcount)


async def hold(connection: AsyncConnection, slot: str, number: int) -> None:
    """Let nobody take `slot` over before this transaction ends. Raises FencedError when somebody has."""
    cursor = await connection.execute(
        "SELECT FROM pipeline.stream_generations WHERE slot = %s AND generation = %s FOR UPDATE", (slot, number)
    )
    _one(cursor.rowcount)


def _one(rows: int) -> None:
    if rows != 1:
        raise FencedError("another streamer has taken the slot over", hint="this process stops; that one goes on")
