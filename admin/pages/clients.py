"""Clients: the list, the form, the page of one."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from fastapi import APIRouter, Request, Response
from pydantic import ValidationError

from admin import charts, clients, editing, orders, words
from admin.desk import Desk
from admin.ledger import deliveries, figures
from admin.listing import found_by
from admin.pages import form as forms
from admin.pages.form import Entered
from admin.pages.render import Form, TheDesk, Who, render, see_other
from admin.preview import preview
from admin.problems import Problem
from database.ledger import connected
from pipeline.clients import Client, ConsentMode, PrivacyLevel, UnreadableClient

router = APIRouter()

PAGE = 25
RUNS = 15


@router.get("/clients")
async def list_clients(request: Request, desk: TheDesk, q: str = "", after: str = "") -> Response:
    """The list; only its rows when htmx asks while somebody types."""
    found = found_by(desk.directory.entries(), q[:200])
    rest = [entry for entry in found if entry.client_id > after]
    items = [clients.summary(entry) for entry in rest[:PAGE]]
    async with connected(desk.pool) as connection:
        failing = await figures.failing_among(connection, [item.client_id for item in items])
    values: dict[str, Any] = {
        "items": items,
        "failing": failing,
        "total": len(found),
        "q": q,
        "after": after,
        "next": rest[PAGE - 1].client_id if len(rest) > PAGE else None,
    }
    part = request.headers.get("hx-target") == "found"
    return render(request, "parts/clients.html" if part else "clients.html", **values)


@router.get("/new-client")
async def new_client(request: Request, host: str = "", client_id: str = "") -> Response:
    """An empty form; quarantine leads here with a host or an id."""
    entered = forms.of_client(clients.blank(client_id[:255]))
    if host:
        entered.domains.insert(0, forms.DomainRow(host=host[:253], valid_from=""))
    return _form_page(request, entered, None)


@router.post("/new-client")
async def create(request: Request, desk: TheDesk, who: Who, form: Form) -> Response:
    """Create a client, or show the form again with what is wrong."""
    entered = forms.entered(form)
    try:
        client, new = await editing.create(desk, entered.as_new(), who)
    except (ValidationError, Problem) as error:
        return _form_page(request, entered, None, error=error)
    return see_other(f"/clients/{client.client_id}", note="created" if new else "same")


@router.get("/clients/{client_id}/edit")
async def edit(request: Request, desk: TheDesk, who: Who, client_id: str) -> Response:
    """The form with the settings as they are."""
    if not who.may_change:
        raise Problem(403, "you may look, not change: ask an admin")
    found = await desk.client(client_id)
    return _form_page(request, forms.of_client(found), found)


@router.post("/clients/{client_id}/edit")
async def save(request: Request, desk: TheDesk, who: Who, client_id: str, form: Form) -> Response:
    """Save, or show the form again with what is wrong. What was typed is kept either way, secrets aside."""
    found = await desk.client(client_id)
    entered = forms.entered(form)
    try:
        if entered.etag != clients.etag(found):
            raise Problem(
                412,
                "Somebody else has changed this client meanwhile. What you typed is still here: look through it, then"
                " save again to replace their changes.",
            )
        after = await editing.change(desk, found, entered.as_change(), who)
    except (ValidationError, Problem) as error:
        return _form_page(request, entered, found, error=error)
    return see_other(f"/clients/{client_id}", note="same" if after is found else "saved")


@router.post("/check")
async def check(request: Request, desk: TheDesk, form: Form, field: str) -> Response:
    """What is wrong with one field, while the form is being filled in."""
    entered = forms.entered(form)
    stored = await desk.store.get(clients.blank(entered.stored_id).client_id) if entered.stored_id else None
    faults = [fault for fault in forms.faults(desk, entered, stored) if fault.field.partition(".")[0] == field]
    return render(request, "parts/fault.html", field=field, message=faults[0].message if faults else "")


@router.post("/preview")
async def preview_part(request: Request, form: Form) -> Response:
    """A sample event before and after the chosen level, by the real engine."""
    return render(request, "parts/preview.html", **_preview(forms.entered(form), with_consent="visitor_agrees" in form))


@router.post("/test-connection")
async def test_entered(request: Request, desk: TheDesk, who: Who, form: Form) -> Response:
    """Try the bucket with what stands in the form, saved or not."""
    entered = forms.entered(form)
    stored = await desk.store.get(clients.blank(entered.stored_id).client_id) if entered.stored_id else None
    faults = [
        fault
        for fault in forms.faults(desk, entered, stored)
        if fault.field.startswith("client_s3") or fault.field == "client_id"
    ]
    if faults:
        return render(request, "parts/connection.html", report=None, faults=faults)
    client = forms.trial(desk, entered, stored)
    return render(request, "parts/connection.html", report=await orders.test(desk, client, who), faults=[])


@router.get("/parts/domain-row")
async def domain_row(request: Request) -> Response:
    """One more line for a domain."""
    return render(request, "parts/domain_row.html", row=forms.DomainRow(host="", valid_from=""))


@router.get("/clients/{client_id}")
async def client_page(request: Request, desk: TheDesk, client_id: str) -> Response:
    """Everything about one client."""
    found = await desk.client(client_id)
    if isinstance(found, UnreadableClient):
        return render(request, "unreadable.html", client=found)
    async with connected(desk.pool) as connection:
        events = await figures.events_by_hour(connection, client_id)
        lags = await figures.lag_by_hour(connection, client_id)
        held = (await figures.held(connection)).get(client_id, 0)
        failing = await figures.failing_among(connection, [client_id])
    return render(
        request,
        "client.html",
        client=clients.view(found),
        held=held,
        failing=bool(failing),
        events_chart=charts.bars(events, title="Events by hour", unit=words.count),
        lag_chart=charts.bars(lags, title="From event to bucket by hour of delivery", unit=words.duration),
        **await deliveries_of(desk, client_id),
    )


async def deliveries_of(desk: Desk, client_id: str, before: int | None = None) -> dict[str, Any]:
    """A page of deliveries, for templates."""
    async with connected(desk.pool) as connection:
        runs = await deliveries.runs(connection, client_id, before=before, limit=RUNS + 1)
    return {"runs": runs[:RUNS], "client_id": client_id, "next": runs[RUNS - 1].id if len(runs) > RUNS else None}


@router.post("/clients/{client_id}/pause")
async def pause(desk: TheDesk, who: Who, client_id: str, form: Form) -> Response:
    """Switch deliveries off or on."""
    client = await desk.readable(client_id)
    enabled = form.get("enabled") == "yes"
    if client.sync_enabled != enabled:
        action = "client.sync_resumed" if enabled else "client.sync_paused"
        await desk.put(replace(client, sync_enabled=enabled), client, who, action=action)
    return see_other(f"/clients/{client_id}", note="resumed" if enabled else "paused")


@router.post("/clients/{client_id}/key")
async def renew_key(desk: TheDesk, who: Who, client_id: str) -> Response:
    """A new pseudonym key."""
    await editing.renew_pseudonym_key(desk, await desk.readable(client_id), who)
    return see_other(f"/clients/{client_id}", note="key")


def _preview(entered: Entered, *, with_consent: bool) -> dict[str, Any]:
    client = Client(
        client_id=clients.blank("preview").client_id,
        privacy_level=_one_of(PrivacyLevel, entered.text("privacy_level"), PrivacyLevel.GDPR),
        consent_mode=_one_of(ConsentMode, entered.text("consent_mode"), ConsentMode.STRIP),
        consent_required=entered.flag("consent_required"),
        ip_collection_enabled=entered.flag("ip_collection_enabled"),
        lawful_basis=entered.text("lawful_basis"),
    )
    return {"preview": preview(client, consent=with_consent), "level": client.privacy_level, "agrees": with_consent}


def _one_of(kind: Any, text: str, otherwise: Any) -> Any:
    return kind(text) if text in list(kind) else otherwise


def _form_page(
    request: Request,
    entered: Entered,
    stored: Client | UnreadableClient | None,
    *,
    error: ValidationError | Problem | None = None,
) -> Response:
    faults, said, status = forms.explain(error)
    return render(
        request,
        "client_form.html",
        status=status,
        entered=entered,
        stored=stored,
        unreadable=isinstance(stored, UnreadableClient),
        etag=clients.etag(stored) if stored else "",
        faults=faults,
        said=said,
        **_preview(entered, with_consent=False),
    )
