"""What all that talk to Kafka share: how to connect, the headers of a record, the check of the topic."""

from __future__ import annotations

import asyncio
import struct
import time
from collections.abc import Collection
from contextlib import suppress
from typing import Any

from aiokafka import ConsumerRecord, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import KafkaError

from pipeline.errors import ConfigError, PermanentError, TransientError
from pipeline.events import Event
from pipeline.kafka_security import security_options
from pipeline.position import POSITION_BYTES, Position
from pipeline.settings import KafkaSettings

_STOP_SECONDS = 5
_DEFAULT_BATCH_BYTES = 1_048_588

Header = tuple[str, bytes]


def connection_options(settings: KafkaSettings) -> dict[str, Any]:
    """Keyword arguments for aiokafka's clients. Raises ConfigError, see `security_options`."""
    return {
        "bootstrap_servers": settings.kafka_bootstrap_servers,
        "request_timeout_ms": 30_000,
        **security_options(settings),
    }


async def start(client: Any, servers: str) -> None:
    """Start an aiokafka client. Raises TransientError when no broker answers."""
    try:
        await client.start()
    except (KafkaError, OSError) as error:
        await (client.close() if hasattr(client, "close") else client.stop())
        raise TransientError(
            f"KAFKA_BOOTSTRAP_SERVERS: no broker answers at {servers}",
            hint="check address, TLS and password; the log's lines before say how each broker refused",
        ) from error


async def stop(client: Any) -> None:
    """Stop an aiokafka client, within seconds: a process that must end doesn't wait for a broker that is gone."""
    with suppress(TimeoutError, KafkaError):
        async with asyncio.timeout(_STOP_SECONDS):
            await client.stop()


async def check_topic(settings: KafkaSettings, partitions: int) -> int:
    """Raise ConfigError unless the raw topic exists with at least `partitions` partitions, those of its layout.

    Returns the size in bytes of the largest batch that it takes.
    """
    topic = settings.kafka_raw_topic
    admin = AIOKafkaAdminClient(**connection_options(settings))
    await start(admin, settings.kafka_bootstrap_servers)
    try:
        found = len((await admin.describe_topics([topic]))[0]["partitions"])
        (answer,) = await admin.describe_configs([ConfigResource(ConfigResourceType.TOPIC, topic)])
        config = {entry[0]: entry[1] for resource in answer.resources for entry in resource[4]}
    except KafkaError as error:
        raise TransientError(f"Kafka does not describe {topic} ({type(error).__name__})") from error
    finally:
        await admin.close()
    if not found:
        raise ConfigError(f"KAFKA_RAW_TOPIC is wrong: there is no topic {topic}", hint="create it, or name another")
    if found < partitions:
        raise ConfigError(
            f"KAFKA_RAW_TOPIC: {topic} has {found} partitions, but its events are to be spread over {partitions}",
            hint="add partitions to the topic",
        )
    if "compact" in config.get("cleanup.policy", ""):
        raise ConfigError(
            f"KAFKA_RAW_TOPIC: {topic} has cleanup.policy={config['cleanup.policy']}: it would lose events",
            hint="set cleanup.policy=delete",
        )
    return int(config.get("max.message.bytes") or _DEFAULT_BATCH_BYTES)


async def told_sequences(settings: KafkaSettings, partitions: Collection[int]) -> dict[int, int]:
    """By partition: the last sequence that was committed to the ledger, as the consumer group was told beside its
    offset; without partitions of which it was told nothing. Raises TransientError when Kafka does not answer.
    """
    topic = settings.kafka_raw_topic
    admin = AIOKafkaAdminClient(**connection_options(settings))
    await start(admin, settings.kafka_bootstrap_servers)
    try:
        told = await admin.list_consumer_group_offsets(
            settings.kafka_group, partitions=[TopicPartition(topic, partition) for partition in partitions]
        )
    except KafkaError as error:
        raise TransientError(
            f"Kafka does not say where group {settings.kafka_group} stands ({type(error).__name__})"
        ) from error
    finally:
        await admin.close()
    return {tp.partition: int(at.metadata) for tp, at in told.items() if at.offset >= 0 and at.metadata.isdecimal()}


def headers(event: Event, sequence: int) -> list[Header]:
    """The headers of an event's record: position (20 bytes), sequence (8) and commit_time (8), big-endian."""
    position, commit_time, _, _, _ = event
    return [
        ("position", POSITION_BYTES.pack(*position)),
        ("sequence", sequence.to_bytes(8, "big")),
        ("commit_time", commit_time.to_bytes(8, "big")),
    ]


_FENCE = "fence"
_UNPACK = POSITION_BYTES.unpack
_INTEGER = int.from_bytes


def fence_headers(position: Position, sequence: int) -> list[Header]:
    """The headers of a record that says nothing new: to readers a repeat of an event that stands before it.

    A streamer writes one to each partition, so that the broker refuses what its predecessor may still send.
    """
    now = time.time_ns() // 1000
    return [*headers(Event(position, now, None, None, b""), max(sequence, 0)), (_FENCE, b"")]


def is_fence(record: ConsumerRecord) -> bool:
    """No event: see `fence_headers`. An event has three headers, a fence one more."""
    return len(record.headers) > 3 and any(name == _FENCE for name, _ in record.headers)


def is_pointer(record: ConsumerRecord) -> bool:
    """The event is too large for the topic: it stands in its raw file alone, at the position of this record."""
    return record.value is None


def read_headers(record: ConsumerRecord) -> tuple[Position, int, int]:
    """(position, sequence, commit time in microseconds) of a record. Raises PermanentError for a stranger's record."""
    found = dict(record.headers)
    try:
        position = Position._make(_UNPACK(found["position"]))
        return position, _INTEGER(found["sequence"], "big"), _INTEGER(found["commit_time"], "big")
    except (KeyError, struct.error) as error:
        raise PermanentError(
            f"{record.topic}-{record.partition} offset {record.offset} was not written by a streamer",
            hint="nobody else may write to this topic",
        ) from error
