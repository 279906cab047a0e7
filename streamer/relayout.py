"""Another layout while the stream runs: more partitions, or a hot client spread over several by its sessions."""

from __future__ import annotations

import asyncio

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer

from database.ledger import connected, layouts, records
from pipeline import failpoints, kafka, logs
from pipeline.errors import ConfigError
from streamer import tails
from streamer.replica import Replica, Turn

log = logs.get(__name__)

ASK_SECONDS = 1.0


async def follow_requests(replica: Replica, turn: Turn, consumer: AIOKafkaConsumer, producer: AIOKafkaProducer) -> None:
    """Bring into force what an operator asks for, for ever.

    A layout begins behind the last event that was sent, and stands in the ledger before the next one goes: so every
    event has one partition, whoever asks. `consumer` is free for reading the ends of partitions that are new.
    """
    while True:
        await asyncio.sleep(ASK_SECONDS)
        async with connected(replica.pool) as connection:
            wanted = await layouts.requested(connection, replica.topic)
        if wanted is None or wanted.problem is not None:
            continue
        try:
            await kafka.check_topic(replica.settings, wanted.partitions)
        except ConfigError as error:
            log.error("streamer.layout.refused", partitions=wanted.partitions, error=str(error))
            async with connected(replica.pool) as connection:
                await layouts.refuse(connection, replica.topic, str(error))
            continue
        await producer.client.force_metadata_update()  # partitions that were added since it last looked
        new = [partition for partition in range(wanted.partitions) if partition not in turn.publisher.partitions]
        found = await tails.find_tails(consumer, replica.topic, new)
        consumer.unsubscribe()
        async with turn.publisher.standing_still() as after:
            layout = wanted.from_position(after._replace(index=after.index + 1))
            async with connected(replica.pool) as connection:
                await layouts.put_in_force(
                    connection, replica.topic, wanted, layout.from_position, replica.slot, turn.generation.number
                )
            failpoints.reach("streamer.after_layout")
            await records.put_layouts(replica.bucket, replica.topic, [layout])
            turn.publisher.relayout(layout, tails.starts(found, {}, None))
        log.info(
            "streamer.layout.changed",
            from_position=str(layout.from_position),
            partitions=layout.partitions,
            keys_fanned_out=len(layout.fanout),
        )
