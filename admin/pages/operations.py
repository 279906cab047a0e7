"""Quarantine, replays, audit log."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from fastapi import APIRouter, Request, Response
from pydantic import ValidationError

from admin import editing, orders, words
from admin.desk import Desk
from admin.fields import DomainFields
from admin.ledger import quarantine
from admin.pages.deliveries import moment
from admin.pages.render import Form, TheDesk, Who, render, see_other
from admin.problems import Problem, faults_of
from database.ledger import audit, connected, replays
from database.ledger.replays import Order, Replay
from pipeline.clients import Client

router = APIRouter()

PAGE = 50


@router.get("/quarantine")
async def quarantine_page(request: Request, desk: TheDesk, q: str = "") -> Response:
    """Which domains wait for a client."""
    part = request.headers.get("hx-target") == "found"
    values = await _quarantine(desk, q)
    return render(request, "parts/quarantine.html" if part else "quarantine.html", said="", **values)


async def _quarantine(desk: Desk, q: str) -> dict[str, Any]:
    q = q[:200].replace("\0", "")
    async with connected(desk.pool) as connection:
        events, uncounted = await quarantine.totals(connection)
        items = await quarantine.names(connection, search=q, limit=PAGE)
    clients = sorted(
        (entry for entry in desk.directory.entries() if isinstance(entry, Client) and entry.is_active),
        key=lambda entry: entry.client_id,
    )
    known = {entry.client_id for entry in desk.directory.entries()}
    return {"events": events, "uncounted": uncounted, "items": items, "clients": clients, "known": known, "q": q}


@router.post("/quarantine")
async def register(request: Request, desk: TheDesk, who: Who, form: Form) -> Response:
    """Give a domain to a client, and replay what waited for it."""
    since = moment(form.get("since"), "since") or datetime.now(UTC)
    try:
        domain = DomainFields(host=str(form.get("host", "")), valid_from=since)
        client = await desk.readable(str(form.get("client_id", "")))
        await editing.add_domains(desk, client, [domain], who)
        replay = await orders.replay_quarantine(desk, since, who) if "replay" in form else None
    except (ValidationError, Problem) as error:
        faults = faults_of(error.errors(include_input=False)) if isinstance(error, ValidationError) else error.faults
        said = faults[0].message if faults else str(error)
        return render(request, "quarantine.html", status=422, said=said, **await _quarantine(desk, ""))
    return see_other("/quarantine", note="replayed" if replay else "registered")


@router.get("/replays")
async def replays_page(request: Request, desk: TheDesk, before: int | None = None) -> Response:
    """What was processed again; its rows only when htmx asks."""
    part = request.headers.get("hx-target") == "found"
    values = await _replays(desk, before)
    return render(request, "parts/replays.html" if part else "replays.html", said="", entered={}, **values)


async def _replays(desk: Desk, before: int | None) -> dict[str, Any]:
    async with connected(desk.pool) as connection:
        found = await replays.page(connection, before=before, limit=PAGE + 1)
    clients = sorted(entry.client_id for entry in desk.directory.entries())
    return {
        "items": found[:PAGE],
        "next": found[PAGE - 1].id if len(found) > PAGE else None,
        "clients": clients,
        "outcome": _outcome,
    }


def _outcome(replay: Replay) -> list[str]:
    """What a replay did, or would do, a line each; from its summary (see processor/replay/report.py)."""
    if replay.state != "finished":
        return [f"{words.plural(replay.cells, 'hour')} of clients done"] if replay.cells else []
    cells = replay.summary.get("cells") or {}
    if not any(cells.values()):
        return ["there are no such events"]
    lines = [f"{_counts(cells)} (hours of clients)"]
    lines += [
        f"{name}: {_counts(replay.summary[name])}"
        for name in ("before", "after")
        if any(replay.summary.get(name) or ())
    ]
    return lines


def _counts(found: dict[str, Any]) -> str:
    return ", ".join(f"{words.count(number)} {name.replace('_', ' ')}" for name, number in found.items() if number)


@router.post("/replays")
async def request_replay(request: Request, desk: TheDesk, who: Who, form: Form) -> Response:
    """Ask for one."""
    source = form.get("source")
    try:
        first, last = moment(form.get("first_hour"), "first hour"), moment(form.get("last_hour"), "last hour")
        if first is None or last is None:
            raise Problem(422, "give the first and the last hour")
        client_id = str(form.get("client_id", "")) or None
        if client_id is not None:
            await desk.client(client_id)
        order = Order(
            client_id=client_id,
            first_hour=first,
            last_hour=last,
            source="kafka" if source == "kafka" else "raw" if source == "raw" else "auto",
            quarantine="quarantine" in form,
            dry_run="dry_run" in form,
        )
        await orders.replay(desk, order, who)
    except Problem as problem:
        said = "; ".join(f"{fault.field} {fault.message}" for fault in problem.faults) or problem.detail
        values = await _replays(desk, None)
        return render(request, "replays.html", status=problem.status, said=said, entered=dict(form), **values)
    return see_other("/replays", note="replay")


@router.get("/audit")
async def audit_page(
    request: Request, desk: TheDesk, before: int | None = None, client_id: str = "", stored: bool = False
) -> Response:
    """Who did what; with `stored` also what the processor stored, chunk by chunk."""
    async with connected(desk.pool) as connection:
        found = await audit.page(
            connection,
            before=before,
            limit=PAGE + 1,
            client_id=client_id.replace("\0", "") or None,
            changes_only=not stored,
        )
    items = [(entry, _lines(entry.says())) for entry in found[:PAGE]]
    return render(
        request,
        "audit.html",
        items=items,
        next=found[PAGE - 1].id if len(found) > PAGE else None,
        client_id=client_id,
        stored=stored,
    )


@router.get("/audit/verify")
async def verify(request: Request, desk: TheDesk) -> Response:
    """Whether the chain is whole."""
    async with connected(desk.pool) as connection:
        verdict = await audit.verify(connection)
    return render(
        request, "parts/verdict.html" if request.headers.get("hx-request") else "verdict.html", verdict=verdict
    )


def _lines(says: dict[str, Any]) -> list[str]:
    """The details of an entry, a line each."""
    lines = []
    for name, change in (says.get("changes") or {}).items():
        before = "" if change.get("before") is None else f"{_short(change['before'])} → "
        lines.append(f"{_named(name)}: {before}{_short(change.get('after'))}")
    lines += [f"{name} changed" for name in says.get("hidden") or ()]
    lines += [
        f"{_named(name)}: {_short(value)}"
        for name, value in says.items()
        if name not in ("changes", "hidden") and value is not None
    ]
    return lines


def _named(field: str) -> str:
    return field.replace("client_s3_", "").replace("_", " ")


def _short(value: object) -> str:
    match value:
        case None:
            return "none"
        case bool():
            return "yes" if value else "no"
        case str():
            text = value
        case [dict(), *_]:
            objects: Sequence[Any] = value
            events = sum(item.get("events", 0) for item in objects)
            text = f"{words.plural(len(objects), 'object')}, {words.plural(events, 'event')}"
        case list():
            text = ", ".join(map(_short, value)) or "none"
        case dict():
            text = ", ".join(f"{_named(name)} {_short(inner)}" for name, inner in value.items()) or "none"
        case _:
            text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 200 else f"{text[:199]}…"
