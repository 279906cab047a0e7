"""Where to go on: the slot, the ledger and Kafka are compared before the first event moves."""

from __future__ import annotations

from enum import Enum

from psycopg import AsyncConnection

from database.ledger import stream as ledger
from database.ledger.stream import StreamState
from database.source import Slot
from pipeline.errors import PermanentError
from pipeline.position import Lsn
from streamer.replication import SystemIdentity
from streamer.transactions import EpochMap


class Start(Enum):
    """How the stream begins."""

    SNAPSHOT = "snapshot"
    STREAM = "stream"


def decide(slot: Slot | None, state: StreamState | None) -> Start:
    """How to begin, by what the server and the ledger say. Pure.

    Read the slot before the ledger: the ledger is written first, so a slot that is ahead of it is never a race.
    Raises PermanentError when the slot has given up WAL that the ledger does not have: a silent hole otherwise.
    """
    if slot is None or slot.wal_status == "lost":
        return Start.SNAPSHOT
    if state is None:
        raise PermanentError(
            "the replication slot exists, but the ledger has never heard of it",
            hint="restore the ledger, or drop the slot: a new one begins with a snapshot of the table",
        )
    if state.state == "snapshot":
        return Start.SNAPSHOT
    if slot.confirmed_flush > state.confirmed_lsn:
        raise PermanentError(
            f"the slot is at {slot.confirmed_flush}, the ledger only at {state.confirmed_lsn}: events between are lost",
            hint="restore the ledger, or drop the slot: a new one closes the gap from the table",
        )
    return Start.STREAM


async def epochs(connection: AsyncConnection, identity: SystemIdentity) -> EpochMap:
    """The ledger's epochs of this server's history, new ones entered."""
    begins_at = Lsn(0)
    found = []
    for timeline, ends_at in identity.history:
        found.append((begins_at, await ledger.epoch_of(connection, identity.system_identifier, timeline, begins_at)))
        begins_at = ends_at
    current = await ledger.epoch_of(connection, identity.system_identifier, identity.timeline, begins_at)
    return EpochMap([*found, (begins_at, current)])
