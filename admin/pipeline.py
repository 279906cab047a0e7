"""The admin service: reads the ledger, answers questions."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack, suppress
from datetime import UTC, datetime, timedelta
from typing import Any

from fastapi import HTTPException

from admin.settings import AdminSettings
from database import preflight
from database.balance import Window
from database.ledger import Pool, connected, open_pool
from database.status import pipeline_status
from pipeline.errors import TransientError
from pipeline.health import Health, serving

PORT = 8080
TURN_SECONDS = 5.0

WINDOW = timedelta(hours=26)
"""How far back the balance is drawn: older hours don't change any more without a replay."""


async def serve(settings: AdminSettings, stop: asyncio.Event) -> None:
    """Answer until `stop` is set."""
    async with AsyncExitStack() as stack:
        await preflight.require(None, settings.ledger_dsn)
        pool = await stack.enter_async_context(open_pool(settings.ledger_dsn))
        health = Health(status=dict, ready=lambda: _ready(pool))
        app = health.app(settings, "admin")

        @app.get("/pipeline/status")
        async def status() -> dict[str, Any]:
            """Every stage with its lag, and the balance; 503 while the ledger does not answer."""
            window = Window(since=datetime.now(UTC) - WINDOW)
            try:
                async with connected(pool) as connection:
                    return await pipeline_status(
                        connection, slot=settings.replication_slot, topic=settings.kafka_raw_topic, window=window
                    )
            except TransientError as error:
                raise HTTPException(503, str(error)) from error

        await stack.enter_async_context(serving(app, settings, PORT))
        while not stop.is_set():
            health.turned()
            with suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), TURN_SECONDS)


async def _ready(pool: Pool) -> str | None:
    async with connected(pool) as connection:
        await connection.execute("SELECT 1")
    return None
