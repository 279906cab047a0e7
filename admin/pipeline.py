"""The admin service: answers people and programs, counts what lies in quarantine, completes the audit log."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress

from fastapi import FastAPI

from admin import changes, quarantine
from admin.app import build
from admin.desk import Desk
from admin.limits import RateLimit
from admin.oidc import Provider
from admin.settings import AdminSettings
from database import preflight
from database.ledger import Pool, connected, open_pool
from pipeline import logs
from pipeline.destination import ClientAccess
from pipeline.directory import ClientDirectory
from pipeline.errors import PipelineError
from pipeline.health import Health, serving
from pipeline.secrets import SecretBox
from pipeline.stores import open_store

PORT = 8080
TURN_SECONDS = 5.0
POOL_SIZE = 8

log = logs.get(__name__)


async def serve(settings: AdminSettings, stop: asyncio.Event) -> None:
    """Answer until `stop` is set."""
    async with application(settings, stop) as (app, health), serving(app, settings, PORT):
        while not stop.is_set():
            health.turned()
            with suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), TURN_SECONDS)


@asynccontextmanager
async def application(settings: AdminSettings, stop: asyncio.Event) -> AsyncIterator[tuple[FastAPI, Health]]:
    """The application with all that it needs open; what runs beside it ends with the block."""
    async with AsyncExitStack() as stack:
        await preflight.require(None, settings.ledger_dsn)
        box = SecretBox([key.get_secret_value() for key in settings.credentials_keys])
        pool = await stack.enter_async_context(open_pool(settings.ledger_dsn, max_size=POOL_SIZE))
        store = await open_store(
            kind=settings.client_store, project=settings.google_cloud_project, dsn=settings.ledger_dsn
        )
        stack.push_async_callback(store.close)
        directory = ClientDirectory(store)
        with suppress(PipelineError):  # the overview says so, and the directory goes on asking
            await directory.refresh()
        desk = Desk(
            settings=settings,
            pool=pool,
            store=store,
            directory=directory,
            box=box,
            access=ClientAccess(settings, box),
        )
        health = Health(status=dict, ready=lambda: _ready(pool))
        app = build(desk, health)
        app.state.login_limit = RateLimit()
        app.state.provider = Provider(settings, pool) if settings.oidc_issuer else None
        beside = (
            asyncio.create_task(directory.keep_fresh(stop)),
            asyncio.create_task(quarantine.keep_counting(settings, pool, stop)),
            asyncio.create_task(changes.keep_settling(pool, store, stop)),
        )
        try:
            yield app, health
        finally:
            for task in beside:
                task.cancel()
            await asyncio.gather(*beside, return_exceptions=True)


async def _ready(pool: Pool) -> str | None:
    async with connected(pool) as connection:
        await connection.execute("SELECT 1")
    return None
