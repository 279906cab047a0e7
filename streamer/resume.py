"""Where to go on: the server, its slot, the ledger and Kafka are compared before the first event moves."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum

from psycopg import AsyncConnection

from database.ledger import stream as ledger
from database.ledger.stream import StreamState
from database.source import Slot
from pipeline.errors import PermanentError
from pipeline.position import ZERO, Lsn, Position
from streamer.replication import SystemIdentity
from streamer.transactions import EpochMap

ZERO_LSN = Lsn(0)


class Start(Enum):
    """How the stream begins."""

    SNAPSHOT = "snapshot"
    STREAM = "stream"


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What to do, and why, for the log."""

    start: Start
    reason: str = ""
    """first_start, slot_missing, slot_lost, unfinished or other_history: why a snapshot is needed."""
    begin_lsn: Lsn = ZERO_LSN
    """Where a stream goes on."""


def decide(slot: Slot | None, state: StreamState | None, history: EpochMap, wal_end: Lsn) -> Plan:
    """How to begin, by what the server and the ledger say. Pure.

    Read the slot before the ledger: the ledger is written first, so a slot that is ahead of it is never a race. Read
    `wal_end`, the server's last LSN, after the ledger. Raises PermanentError when going on would be a silent hole: the
    slot has given up WAL that the ledger does not have, or the server is older than what was recorded of it.
    """
    if state is not None:
        _check_history(state, history, wal_end)
    if slot is None:
        return Plan(start=Start.SNAPSHOT, reason="first_start" if state is None else "slot_missing")
    if slot.wal_status == "lost":
        return Plan(start=Start.SNAPSHOT, reason="slot_lost")
    if state is None:
        raise PermanentError(
            "the replication slot exists, but the ledger has never heard of it",
            hint="run: python -m database rebuild-ledger; or drop the slot: a new one begins with a snapshot",
        )
    if state.state == "snapshot":
        return Plan(start=Start.SNAPSHOT, reason="unfinished")
    end = history.end_of(state.epoch)
    if end is None:
        return Plan(start=Start.SNAPSHOT, reason="other_history")
    # What was confirmed behind the end of its epoch is not in this server's WAL; other commits have those LSNs here.
    begin_lsn = min(state.confirmed_lsn, end)
    if slot.confirmed_flush > begin_lsn:
        raise PermanentError(
            f"the slot is at {slot.confirmed_flush}, the ledger only at {begin_lsn}: events between are lost",
            hint="run: python -m database rebuild-ledger; or drop the slot: a new one closes the gap from the table",
        )
    return Plan(start=Start.STREAM, begin_lsn=begin_lsn)


def _check_history(state: StreamState, history: EpochMap, wal_end: Lsn) -> None:
    last = state.last_position or ZERO
    if max(state.epoch, last.epoch) > history.current:
        raise PermanentError(
            f"DATABASE_URL: this server's history is epoch {history.current}, but events of epoch"
            f" {max(state.epoch, last.epoch)} are recorded: new events would pass for old ones",
            hint="connect to the server that took over; to go back on purpose, restore this one to a new timeline",
        )
    recorded = max(
        state.confirmed_lsn if state.epoch == history.current else Lsn(0),
        Lsn(last.commit_lsn) if last.epoch == history.current else Lsn(0),
    )
    if recorded > wal_end:
        raise PermanentError(
            f"DATABASE_URL: the server's WAL ends at {wal_end}, but {recorded} of the same timeline is recorded: it was"
            " set back, and new events would pass for old ones",
            hint="start the server once with recovery.signal, so that it begins a new timeline",
        )


def left_behind_elsewhere(
    tails: Iterable[Position | None], recorded_until: Position | None, history: EpochMap, wal_end: Lsn
) -> bool:
    """Kafka holds events that no raw object has and that this server's slot will never send. Pure.

    They were committed on a server that was lost. Only a snapshot takes them in. Raises PermanentError when Kafka
    is ahead of both the ledger and the server: the ledger was set back.
    """
    elsewhere = False
    for tail in tails:
        if tail is None or tail <= (recorded_until or ZERO):
            continue
        if tail.epoch > history.current or (tail.epoch == history.current and tail.commit_lsn > wal_end):
            raise PermanentError(
                f"KAFKA_RAW_TOPIC holds events at {tail}, which neither the ledger nor the server has reached",
                hint="restore the ledger, python -m database rebuild-ledger, or make the topic anew",
            )
        elsewhere |= history.at(Lsn(tail.commit_lsn)) != tail.epoch
    return elsewhere


async def epochs(connection: AsyncConnection, identity: SystemIdentity) -> EpochMap:
    """The ledger's epochs of this server's history, new ones entered."""
    begins_at = Lsn(0)
    found = []
    for timeline, ends_at in identity.history:
        found.append((begins_at, await ledger.epoch_of(connection, identity.system_identifier, timeline, begins_at)))
        begins_at = ends_at
    current = await ledger.epoch_of(connection, identity.system_identifier, identity.timeline, begins_at)
    return EpochMap([*found, (begins_at, current)])
