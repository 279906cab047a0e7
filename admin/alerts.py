"""What somebody should look at now, and what to do about it. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from admin.ledger.figures import Failing
from database.source import Slot

Level = Literal["bad", "warn"]

EXPORT_LAG_SECONDS = 300
PROCESSING_LAG_SECONDS = 1800  # several chunks of five minutes
CLEANUP_LAG_SECONDS = 2 * 86400
STORE_AGE_SECONDS = 120
LAG_BYTES = 1 << 30


@dataclass(frozen=True, slots=True, kw_only=True)
class Alert:
    """A line on the overview. `href` leads to where it can be mended."""

    level: Level
    title: str
    todo: str
    href: str = ""


def alerts(
    *,
    stages: Mapping[str, Any],
    slot: Slot | None,
    slot_problem: str | None,
    failing: Sequence[Failing],
    held: Mapping[str, int],
    unreadable: Sequence[str],
    store_age_seconds: float,
) -> list[Alert]:
    """The worst first."""
    found: list[Alert] = []

    def add(level: Level, title: str, todo: str, href: str = "") -> None:
        found.append(Alert(level=level, title=title, todo=todo, href=href))

    if slot_problem:
        add("bad", slot_problem[:1].upper() + slot_problem[1:], "See that the source database and the streamer run.")
    if slot is not None:
        _slot(slot, add)
    _lags(stages, add)
    balance = stages["balance"]
    if not balance["balances"]:
        kinds = ", ".join(f"{count} {kind}" for kind, count in sorted(balance["kinds"].items()))
        add("bad", f"The ledger does not balance: {kinds}", "Run: python -m database reconcile --deep. It names each.")
    if refused := stages["cleanup"]["refused"]:
        add(
            "bad",
            f"{refused} raw files differ from what was written: nothing is deleted on their strength",
            "The cleaner's log and reconcile name them; restore them from a copy or a version of the bucket.",
        )
    for client_id in unreadable:
        add(
            "bad",
            f"The settings of {client_id} can't be read: its events are held",
            "Open the client and give its settings anew.",
            f"/clients/{client_id}",
        )
    for client_id, events in held.items():
        if client_id not in unreadable:
            add(
                "warn",
                f"{events:,} events of {client_id} are held",
                "They are released by themselves.",
                _page(client_id),
            )
    for run in failing:
        add(
            "bad",
            f"Deliveries to {run.client_id} fail since {run.since:%d %b %H:%M} UTC ({run.error_class})",
            run.error or "Open the client.",
            _page(run.client_id),
        )
    if stages["processing"]["dead_letter"]:
        count = stages["processing"]["dead_letter"]
        add(
            "warn",
            f"{count:,} events could not be read (dead letters)",
            "Look into dead-letters/ of the processed bucket.",
        )
    if store_age_seconds > STORE_AGE_SECONDS:
        add("bad", "The client store does not answer", "Services go on with the settings they know, for a while.")
    return sorted(found, key=lambda alert: alert.level != "bad")


def _page(client_id: str) -> str:
    return f"/clients/{client_id}"


def _slot(slot: Slot, add: Any) -> None:
    if slot.danger:
        add(
            "bad",
            f"The replication slot is in danger: {slot.danger}",
            "Start the streamer, or raise max_slot_wal_keep_size.",
        )
    elif not slot.active:
        add("bad", "Nobody reads the replication slot: WAL piles up", "Start the streamer.")
    elif slot.lag_bytes > LAG_BYTES:
        add(
            "warn",
            f"{slot.lag_bytes / LAG_BYTES:.1f} GiB of WAL wait for the streamer",
            "See its log, and Kafka's health.",
        )


def _lags(stages: Mapping[str, Any], add: Any) -> None:
    lags = (
        ("export", EXPORT_LAG_SECONDS, "The streamer is behind", "See the streamer's log."),
        ("processing", PROCESSING_LAG_SECONDS, "The processor is behind", "See its log, or start more processors."),
        ("cleanup", CLEANUP_LAG_SECONDS, "The cleaner is behind: rows stay in events_log", "See the cleaner's log."),
    )
    for stage, limit, title, todo in lags:
        lag = stages[stage]["lag_seconds"]
        if lag is not None and lag > limit:
            add("warn", title, todo)
