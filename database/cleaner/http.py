"""The cleaner's own routes: how far the clean-up is, what is refused and why, and "now"."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import Body, FastAPI, HTTPException

from database.cleaner.settings import CleanerSettings
from database.cleaner.status import Orders, Status
from database.ledger import Pool, cleanup
from database.translate import translated
from pipeline.errors import PipelineError
from pipeline.health import admin_only


def add_routes(app: FastAPI, *, settings: CleanerSettings, pool: Pool, status: Status, orders: Orders) -> None:
    """Add `GET /cleanup/status` and `POST /cleanup/run` to `app`."""

    @app.get("/cleanup/status")
    async def cleanup_status() -> dict[str, Any]:
        try:
            with translated("LEDGER_DATABASE_URL"):
                async with pool.connection() as connection:
                    objects = await cleanup.summary(connection, settings.cleanup_delay_seconds)
                    refused = await cleanup.problems(connection)
        except PipelineError as error:
            raise HTTPException(503, str(error)) from error
        return {
            "delay_seconds": settings.cleanup_delay_seconds,
            "batch_rows": settings.cleanup_batch_rows,
            "dry_run": settings.cleanup_dry_run,
            "state": status.state,
            "blocked": status.blocked,
            "last_turn_at": status.last_turn_at,
            "objects": objects,
            "refused": refused,
            "last_dry_run": status.last_dry_run,
        }

    @app.post("/cleanup/run", status_code=202, dependencies=[admin_only])
    async def cleanup_run(dry_run: Annotated[bool, Body(embed=True)] = False) -> dict[str, Any]:
        """A turn at once, which also looks at refused objects again. Delays hold, also for orders."""
        orders.dry_run, orders.retry = dry_run, not dry_run
        orders.wake.set()
        return {"accepted": True, "dry_run": dry_run}
