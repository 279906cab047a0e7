"""Deliveries: the table on a client's page, the page of one, and the order for another."""

from __future__ import annotations

import json
from datetime import UTC, datetime

from fastapi import APIRouter, Request, Response

from admin import orders
from admin.ledger import deliveries
from admin.pages.clients import deliveries_of
from admin.pages.render import Form, TheDesk, Who, render, see_other
from admin.problems import Fault, Problem
from database.ledger import connected

router = APIRouter()

MOST_FILES = 500


@router.get("/clients/{client_id}/deliveries")
async def table(request: Request, desk: TheDesk, client_id: str, before: int | None = None) -> Response:
    """The table: asked for every few seconds, and for older pages."""
    values = await deliveries_of(desk, client_id, before)
    part = bool(request.headers.get("hx-request"))
    return render(request, "parts/deliveries.html" if part else "deliveries.html", **values)


@router.get("/clients/{client_id}/deliveries/{run_key}")
async def details(request: Request, desk: TheDesk, client_id: str, run_key: str) -> Response:
    """Files and manifest of a delivery."""
    async with connected(desk.pool) as connection:
        run = await deliveries.run(connection, client_id, run_key)
        if run is None:
            raise Problem(404, "the client has no such delivery")
        files = await deliveries.files(connection, run.id, limit=MOST_FILES)
        manifest = await deliveries.manifest(connection, run.id)
    printed = json.dumps(manifest, indent=2) if manifest else None
    return render(request, "delivery.html", client_id=client_id, run=run, files=files, manifest=printed)


@router.post("/clients/{client_id}/sync")
async def sync(desk: TheDesk, who: Who, client_id: str, form: Form) -> Response:
    """Deliver now; with hours, what these still lack."""
    client = await desk.readable(client_id)
    since, until = moment(form.get("since"), "since"), moment(form.get("until"), "until")
    await orders.sync(desk, client, who, since=since, until=until)
    return see_other(f"/clients/{client_id}", note="ordered")


def moment(text: object, field: str) -> datetime | None:
    """A moment as the browser writes it, in UTC. Raises Problem 422."""
    if not text:
        return None
    try:
        return datetime.fromisoformat(str(text)).replace(tzinfo=UTC)
    except ValueError:
        raise Problem(422, f"{field} is no time", [Fault(field=field, message="is no time")]) from None
