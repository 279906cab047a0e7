"""The syncer's own routes: how each client stands, and "deliver now"."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any

from fastapi import Body, FastAPI, HTTPException

from database.ledger import Pool, connected
from database.ledger.delivery_status import last_runs, pending_counts
from pipeline.clients import Client, ClientId, ClientStore
from pipeline.errors import PipelineError
from pipeline.health import admin_only
from pipeline.syncqueue import Hours, HoursError, Queue, manual_order
from syncer.due import why_not

_NOTHING = {"objects": 0, "events": 0, "bytes": 0}


def add_routes(app: FastAPI, *, pool: Pool, store: ClientStore, queue: Queue) -> None:
    """Add `GET /sync/status` and `POST /sync/run` to `app`."""

    @app.get("/sync/status")
    async def sync_status() -> dict[str, Any]:
        try:
            clients = await store.changed_since(None)
            async with connected(pool) as connection:
                runs = await last_runs(connection, [client.client_id for client in clients])
                pending = await pending_counts(connection)
        except PipelineError as error:
            raise HTTPException(503, str(error)) from error
        return {
            "clients": [
                {
                    "client_id": client.client_id,
                    "sync_frequency": client.sync_frequency.value if isinstance(client, Client) else None,
                    "skipped": why_not(client),
                    "last_run": runs.get(client.client_id),
                    "pending": pending.get(client.client_id, _NOTHING),
                }
                for client in sorted(clients, key=lambda client: client.client_id)
            ]
        }

    @app.post("/sync/run", status_code=202, dependencies=[admin_only])
    async def sync_run(
        client_id: Annotated[str, Body()],
        since: Annotated[str | None, Body()] = None,
        until: Annotated[str | None, Body()] = None,
    ) -> dict[str, Any]:
        now = datetime.now(UTC)
        try:
            hours = Hours.parse(since, until, now)
            client = await store.get(ClientId(client_id))
            if client is None:
                raise HTTPException(404, "there is no such client")
            if reason := why_not(client):
                raise HTTPException(409, f"nothing can be delivered: {reason}")
            order = manual_order(client.client_id, now, hours)
            await queue.send([order.to_body()])
        except HoursError as error:
            raise HTTPException(422, str(error)) from error
        except PipelineError as error:
            raise HTTPException(503, str(error)) from error
        return {"accepted": True, "client_id": order.client_id, "run_key": order.run_key}
