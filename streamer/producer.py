"""A Kafka producer that takes the place of its predecessor: brokers refuse what that one may still send.

An idempotent producer numbers its batches under a producer id and an epoch, and a partition that has seen an epoch
takes nothing of a lower one. All streamers of a slot use one producer id, and the epoch is one more with each turn: the
ledger counts them. The epoch reaches a partition with the first batch; where an event of a predecessor would do harm
before that, a fence goes first.
https://kafka.apache.org/documentation/#design_semantics and KIP-360
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError

from database.ledger import Pool, connected, generations
from database.ledger.generations import Generation
from pipeline import kafka
from pipeline.errors import TransientError
from pipeline.position import ZERO
from streamer.settings import StreamerSettings
from streamer.tails import FoundTail

BATCH_BYTES = 256 << 10
"""Larger ones save little CPU and cost memory: three of each partition are there at a time."""


async def open_producer(settings: StreamerSettings, pool: Pool, turn: Generation) -> AIOKafkaProducer:
    """A producer of this turn, started. Raises TransientError when no broker answers, FencedError when it is over."""
    producer = AIOKafkaProducer(
        enable_idempotence=True, acks="all", max_batch_size=BATCH_BYTES, **kafka.connection_options(settings)
    )
    identity: Any = producer._txn_manager  # aiokafka has no public way to go on under a known producer id
    if turn.producer_id is not None:
        identity.set_pid_and_epoch(turn.producer_id, turn.producer_epoch)
    await kafka.start(producer, settings.kafka_bootstrap_servers)
    if turn.producer_id is None:
        try:
            async with connected(pool) as connection:
                await generations.keep_producer(
                    connection,
                    settings.replication_slot,
                    turn.number,
                    identity.producer_id,
                    identity.producer_epoch,
                )
        except BaseException:
            await kafka.stop(producer)
            raise
    return producer


async def fence(producer: AIOKafkaProducer, topic: str, found: Mapping[int, FoundTail]) -> None:
    """Let every partition see this producer's epoch; what a predecessor sends afterwards is refused.

    `found`: an event of each partition that readers have passed when they come to the fence. Raises TransientError.
    """
    try:
        sent = []
        for partition, tail in found.items():
            batch = producer.create_batch()
            headers = kafka.fence_headers(tail.last_position or ZERO, tail.last_sequence)
            batch.append(timestamp=None, key=None, value=None, headers=headers)
            batch.close()
            sent.append(await producer.send_batch(batch, topic, partition=partition))
        await asyncio.gather(*sent)
    except KafkaError as error:
        raise TransientError(f"Kafka does not take a fence ({type(error).__name__})") from error
