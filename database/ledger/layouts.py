"""How events are spread over the partitions of a topic: what is in force, and what an operator has asked for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from psycopg import AsyncConnection
from psycopg.types.json import Jsonb

from database.ledger import generations
from pipeline.errors import PermanentError
from pipeline.layout import Layout, Layouts
from pipeline.position import ZERO, Position


@dataclass(frozen=True, slots=True, kw_only=True)
class LayoutRequest:
    """What an operator wants from now on, and why the streamer has not done it, if it could not."""

    partitions: int
    fanout: dict[str, int]
    problem: str | None = None

    def from_position(self, position: Position) -> Layout:
        """The layout that is in force from there."""
        return Layout(from_position=position, partitions=self.partitions, fanout=_keys(self.fanout))


def _keys(fanout: Mapping[str, int]) -> dict[bytes, int]:
    return {key.encode(): width for key, width in fanout.items()}


async def layouts_of(connection: AsyncConnection, topic: str, partitions: int | None = None) -> Layouts:
    """The layouts of `topic`; one over `partitions` becomes the first of a new topic.

    Raises PermanentError when the topic is new and no number is given.
    """
    if partitions is not None:
        await connection.execute(
            "INSERT INTO pipeline.topic_layouts (topic, from_position, partitions)"
            " SELECT %s, %s, %s WHERE NOT EXISTS (SELECT FROM pipeline.topic_layouts WHERE topic = %s)"
            " ON CONFLICT DO NOTHING",
            (topic, str(ZERO), partitions, topic),
        )
    found = await known_layouts(connection, topic)
    if not found:
        raise PermanentError(f"KAFKA_RAW_TOPIC: no streamer has written to {topic} yet")
    return Layouts(found)


async def known_layouts(connection: AsyncConnection, topic: str) -> list[Layout]:
    """The layouts of `topic`; none when nobody has written to it yet."""
    cursor = await connection.execute(
        "SELECT from_position, partitions, fanout FROM pipeline.topic_layouts WHERE topic = %s", (topic,)
    )
    return [
        Layout(from_position=Position.parse(row[0]), partitions=row[1], fanout=_keys(row[2]))
        for row in await cursor.fetchall()
    ]


async def insert_layout(connection: AsyncConnection, topic: str, layout: Layout) -> None:
    """Enter a layout, inside the caller's transaction."""
    fanout = {key.decode(): width for key, width in layout.fanout.items()}
    await connection.execute(
        "INSERT INTO pipeline.topic_layouts (topic, from_position, partitions, fanout) VALUES (%s, %s, %s, %s)",
        (topic, str(layout.from_position), layout.partitions, Jsonb(fanout)),
    )


async def request(connection: AsyncConnection, topic: str, wanted: LayoutRequest) -> None:
    """Ask for a layout, in place of what was asked for before."""
    await connection.execute(
        "INSERT INTO pipeline.layout_requests (topic, partitions, fanout) VALUES (%s, %s, %s) ON CONFLICT (topic)"
        " DO UPDATE SET partitions = excluded.partitions, fanout = excluded.fanout, requested_at = now(),"
        " problem = NULL",
        (topic, wanted.partitions, Jsonb(wanted.fanout)),
    )


async def requested(connection: AsyncConnection, topic: str) -> LayoutRequest | None:
    """What is asked for and not in force yet."""
    cursor = await connection.execute(
        "SELECT partitions, fanout, problem FROM pipeline.layout_requests WHERE topic = %s", (topic,)
    )
    row = await cursor.fetchone()
    return None if row is None else LayoutRequest(partitions=row[0], fanout=row[1], problem=row[2])


async def refuse(connection: AsyncConnection, topic: str, problem: str) -> None:
    """Say why a request can't be taken up; it stays, for the operator to change."""
    await connection.execute("UPDATE pipeline.layout_requests SET problem = %s WHERE topic = %s", (problem, topic))


async def put_in_force(
    connection: AsyncConnection, topic: str, wanted: LayoutRequest, from_position: Position, slot: str, generation: int
) -> None:
    """Let `wanted` be in force from `from_position` on, before any event there is sent.

    One transaction. Raises FencedError when another streamer has taken the slot over: it may have sent events of those
    positions by the layout before.
    """
    async with connection.transaction():
        await generations.hold(connection, slot, generation)
        await insert_layout(connection, topic, wanted.from_position(from_position))
        await connection.execute(
            "DELETE FROM pipeline.layout_requests WHERE topic = %s AND partitions = %s AND fanout = %s",
            (topic, wanted.partitions, Jsonb(wanted.fanout)),
        )
