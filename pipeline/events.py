"""An event on its way: between the source and Kafka, in a raw file, and back."""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

from aiokafka.partitioner import murmur2

from pipeline.position import Position


class Event(NamedTuple):
    """One row of the source. A tuple, because there is one for every event."""

    position: Position
    commit_time: int
    """Microseconds since 1970."""
    key: bytes | None
    """What its partition follows: client_id, else site_id, else nothing."""
    client_id: bytes | None
    line: bytes
    """The record, one line of JSON without the line break: the Kafka value and the raw file's line."""


@lru_cache(maxsize=65536)
def partition_of(key: bytes | None, partitions: int) -> int:
    """The partition of an event with `key`: that of Kafka's own default partitioner, so other tools agree."""
    return (murmur2(key or b"") & 0x7FFFFFFF) % partitions  # type: ignore[no-any-return]
