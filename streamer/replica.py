"""What the steps of the streamer share."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

import psycopg

from database.ledger import Pool
from database.ledger.generations import Generation
from pipeline.health import Health
from pipeline.s3 import ObjectStore
from streamer.publisher import Publisher
from streamer.recorder import Recorder
from streamer.replication import ReplicationConnection
from streamer.settings import StreamerSettings
from streamer.transactions import EpochMap, Transactions
from streamer.watch import Status


@dataclass(frozen=True, slots=True, kw_only=True)
class Replica:
    """One process: what it is told, whom it talks to, what it shows."""

    settings: StreamerSettings
    stop: asyncio.Event
    status: Status
    health: Health
    pool: Pool
    db: psycopg.AsyncConnection
    bucket: ObjectStore
    connection: ReplicationConnection
    epochs: EpochMap

    @property
    def slot(self) -> str:
        """The name of the slot that all replicas want."""
        return self.settings.replication_slot

    @property
    def topic(self) -> str:
        """Where events go."""
        return self.settings.kafka_raw_topic


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """What the replica has besides that holds the slot."""

    generation: Generation
    transactions: Transactions
    publisher: Publisher
    recorder: Recorder
