"""Which clients a tick makes due.

At a tick of its own frequency a client is due when it has no finished run in the period that the tick begins: the very
minute of an hourly tick (so that a schedule of one minute makes a run each minute), the day of a daily one, the week of
a weekly one. A tick of another frequency makes good what was lost: a client is due when its last finished run lies more
than a period back. So the hour that the operator chose for the daily rule is kept, and a lost tick costs an hour. An
unfinished run makes its client due at every tick.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta

from database.ledger.delivery_status import SyncState
from pipeline.clients import Client, SyncFrequency, UnreadableClient
from pipeline.destination import missing_settings
from pipeline.syncqueue import ClientSync, Tick, run_key, run_time

_PERIODS = {
    SyncFrequency.HOURLY: timedelta(hours=1),
    SyncFrequency.DAILY: timedelta(days=1),
    SyncFrequency.WEEKLY: timedelta(weeks=1),
}


def stale(tick: Tick, now: datetime) -> bool:
    """It waited so long that the next tick of its rule has come too: after an outage not all are worked off."""
    return now - tick.time > _PERIODS[tick.frequency]


def why_not(client: Client | UnreadableClient | None) -> str | None:
    """The reason why nothing may be delivered to this client now; None when it may."""
    if client is None:
        return "unknown client"
    if isinstance(client, UnreadableClient):
        return "its settings can't be read"
    if not client.is_active:
        return "inactive"
    if not client.sync_enabled:
        return "sync is not enabled"
    return missing_settings(client)


def is_due(frequency: SyncFrequency, state: SyncState | None, tick: Tick) -> bool:
    """Whether `tick` makes a client of that frequency due."""
    if state is None or state.open or state.last_finished_key is None:
        return True
    last = run_time(state.last_finished_key)
    if tick.frequency == frequency:
        return last < _period_start(tick)
    return last < tick.time - _PERIODS[frequency]


def is_overdue(client: Client, state: SyncState | None, now: datetime) -> bool:
    """Whether the client waits for more than two periods: ticks don't come, or its deliveries don't end."""
    last = run_time(state.last_finished_key) if state and state.last_finished_key else client.created_at
    return last < now - 2 * _PERIODS[client.sync_frequency]


def due_clients(
    clients: Iterable[Client | UnreadableClient], states: Mapping[str, SyncState], tick: Tick
) -> tuple[list[ClientSync], dict[str, int]]:
    """The orders that `tick` gives rise to, and how many clients were left out for which reason."""
    orders: list[ClientSync] = []
    skipped: dict[str, int] = {}
    for client in clients:
        state = states.get(client.client_id)
        reason = why_not(client)
        if reason is None and state is not None and state.under_way:
            reason = "under way"
        if reason is None and isinstance(client, Client):
            if is_due(client.sync_frequency, state, tick):
                orders.append(
                    ClientSync(client_id=client.client_id, run_key=run_key(tick.time, client.sync_frequency.value))
                )
                continue
            reason = "not due"
        skipped[reason or ""] = skipped.get(reason or "", 0) + 1
    return orders, skipped


def _period_start(tick: Tick) -> datetime:
    time = tick.time.replace(second=0, microsecond=0)
    if tick.frequency is SyncFrequency.HOURLY:
        return time
    day = time.replace(hour=0, minute=0)
    return day if tick.frequency is SyncFrequency.DAILY else day - timedelta(days=day.weekday())
