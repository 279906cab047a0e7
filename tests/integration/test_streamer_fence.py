"""What a streamer that was cut off still sends is refused by the broker, before its successor looks what Kafka has."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.errors import KafkaError

from database.ledger import generations, open_pool
from local.stack import Stack
from pipeline import kafka
from pipeline.events import Event
from pipeline.position import Position
from streamer.producer import fence, open_producer
from streamer.settings import StreamerSettings
from streamer.tails import find_tails
from tests.integration.streamer_scene import PARTITIONS, Scene, open_scene


@pytest.fixture
async def scene(stack: Stack, tmp_path: Path) -> AsyncIterator[Scene]:
    async with open_scene(stack, tmp_path) as scene:
        yield scene


async def send(producer: AIOKafkaProducer, topic: str, partition: int, sequence: int) -> None:
    """One event, acknowledged."""
    batch = producer.create_batch()
    event = Event(Position(1, 100, sequence), 0, b"key", None, b"{}")
    batch.append(timestamp=None, key=b"key", value=b"{}", headers=kafka.headers(event, sequence))
    batch.close()
    await (await producer.send_batch(batch, topic, partition=partition))


async def test_predecessor_sends_nothing_more_to_any_partition_once_its_successor_has_looked(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in scene.environment.items():
        monkeypatch.setenv(name, value)
    settings, topic = StreamerSettings.load(), scene.topic
    async with AsyncExitStack() as exits:
        pool = await exits.enter_async_context(open_pool(settings.ledger_dsn))
        consumer = AIOKafkaConsumer(enable_auto_commit=False, **kafka.connection_options(settings))
        await consumer.start()
        exits.push_async_callback(consumer.stop)

        async def next_in_turn() -> AIOKafkaProducer:
            async with pool.connection() as connection:
                turn = await generations.take_over(connection, scene.slot)
            producer = await open_producer(settings, pool, turn)
            exits.push_async_callback(kafka.stop, producer)
            return producer

        zombie = await next_in_turn()
        await send(zombie, topic, 0, 0)
        successor = await next_in_turn()
        before = await find_tails(consumer, topic, range(PARTITIONS))
        await send(zombie, topic, 0, 1)  # after the first look
        await fence(successor, topic, before)
        await fence(successor, topic, before)  # as one does that died before it sent anything else
        found = await find_tails(consumer, topic, range(PARTITIONS))
        assert found[0].last_position == Position(1, 100, 1), "fences are looked through"
        assert [found[partition].last_position for partition in range(1, PARTITIONS)] == [None] * (PARTITIONS - 1)

        for partition in range(PARTITIONS):
            with pytest.raises(KafkaError):
                await send(zombie, topic, partition, 2)
        assert await find_tails(consumer, topic, range(PARTITIONS)) == found
        for partition in range(PARTITIONS):
            await send(successor, topic, partition, 2)
        third = await next_in_turn()
        await send(third, topic, 0, 3)
        with pytest.raises(KafkaError):
            await send(successor, topic, 0, 4)
