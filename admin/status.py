"""How the pipeline stands, asked of ledger and source at most every few seconds, however many look."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Generic, TypeVar

import psycopg

from admin.alerts import Alert, alerts
from admin.desk import Desk
from admin.ledger import figures
from admin.ledger.figures import Failing, Hour, Rates
from database.balance import Window
from database.ledger import connected
from database.source import Slot, connect, find_slot
from database.status import pipeline_status
from pipeline.clients import UnreadableClient
from pipeline.errors import PipelineError, TransientError

WINDOW = timedelta(hours=26)
"""How far back the balance is drawn: older hours don't change any more without a replay."""

KEEP_SECONDS = 2.0

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class SlotState:
    """The replication slot, or why nothing is known about it."""

    slot: Slot | None
    problem: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Overview:
    """All that the first page shows."""

    at: datetime
    stages: dict[str, Any]
    rates: Rates
    failing: list[Failing]
    held: dict[str, int]
    hours: list[Hour]
    slot: SlotState
    clients: int
    unreadable: list[str]
    alerts: list[Alert]


class _Kept(Generic[T]):
    """An answer that is asked for anew when it is old; who comes meanwhile waits for the same."""

    def __init__(self, ask: Callable[[], Awaitable[T]]) -> None:
        self._ask = ask
        self._turn = asyncio.Lock()
        self._answer: T | None = None
        self._asked_at = -KEEP_SECONDS

    async def __call__(self) -> T:
        async with self._turn:
            if self._answer is None or time.monotonic() - self._asked_at >= KEEP_SECONDS:
                self._answer, self._asked_at = None, time.monotonic()
                self._answer = await self._ask()
            return self._answer


class Status:
    """Answers for the overview and for GET /pipeline/status."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self.stages: Callable[[], Awaitable[dict[str, Any]]] = _Kept(self._stages)
        self.overview: Callable[[], Awaitable[Overview]] = _Kept(self._overview)

    async def _stages(self) -> dict[str, Any]:
        settings = self._desk.settings
        async with connected(self._desk.pool) as connection:
            return await pipeline_status(
                connection,
                slot=settings.replication_slot,
                topic=settings.kafka_raw_topic,
                window=Window(since=datetime.now(UTC) - WINDOW),
            )

    async def _overview(self) -> Overview:
        stages = await self.stages()
        async with connected(self._desk.pool) as connection:
            rates = await figures.rates(connection)
            failing = await figures.failing(connection)
            held = await figures.held(connection)
            hours = await figures.exported_by_hour(connection)
        slot = await self._slot()
        entries = self._desk.directory.entries()
        unreadable: list[str] = sorted(entry.client_id for entry in entries if isinstance(entry, UnreadableClient))
        age = self._desk.directory.age_seconds(time.monotonic())
        found = alerts(
            stages=stages,
            slot=slot.slot,
            slot_problem=slot.problem,
            failing=failing,
            held=held,
            unreadable=unreadable,
            store_age_seconds=age,
        )
        return Overview(
            at=datetime.now(UTC),
            stages=stages,
            rates=rates,
            failing=failing,
            held=held,
            hours=hours,
            slot=slot,
            clients=len(entries),
            unreadable=unreadable,
            alerts=found,
        )

    async def _slot(self) -> SlotState:
        settings = self._desk.settings
        try:
            async with connect(settings.source_dsn) as connection:
                slot = await find_slot(connection, settings.replication_slot)
        except TransientError:  # its text names the server
            return SlotState(slot=None, problem="the source database does not answer")
        except (PipelineError, psycopg.Error):
            return SlotState(slot=None, problem="the source database does not say how the slot stands")
        if slot is None:
            return SlotState(slot=None, problem=f"there is no slot {settings.replication_slot}")
        return SlotState(slot=slot)
