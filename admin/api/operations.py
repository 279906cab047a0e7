"""/api/v1: quarantine, replays, audit log."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query
from pydantic import BaseModel, Field

from admin import editing, orders
from admin.api.common import Before, Limit, TheDesk, Who, problems
from admin.fields import DomainFields, Host, Id, Moment
from admin.ledger import quarantine
from admin.problems import Problem
from database.ledger import audit, connected, replays
from database.ledger.replays import Order

router = APIRouter()


class NameView(BaseModel):
    """Events that nobody was found for, by what they came with."""

    client_id: str = Field(description="the unknown or inactive client that they name; empty for none, ! for no id")
    site_id: str
    host: str
    events: int
    first_hour: datetime
    last_hour: datetime


class Quarantined(BaseModel):
    """What lies in quarantine."""

    events: int
    not_counted_yet: int = Field(description="of these events, those whose names will be counted within seconds")
    items: list[NameView]


class Registration(BaseModel):
    """A domain for a client, and what waited for it."""

    client_id: Id
    host: Host
    valid_from: Moment
    replay: bool = Field(True, description="deliver what lies in quarantine since then")


class Registered(BaseModel):
    """What came of it."""

    client_id: str
    host: str
    replay: int | None = Field(description="id of the replay")


class ReplayOrder(BaseModel):
    """Which events to process again: those whose commit falls into the hours, both included."""

    client_id: Id | None = Field(None, description="null: all clients")
    first_hour: Moment
    last_hour: Moment
    source: Literal["auto", "kafka", "raw"] = "auto"
    quarantine: bool = Field(False, description="events in quarantine, instead of those that have found their client")
    dry_run: bool = Field(False, description="say what would change, change nothing")


class ReplayView(BaseModel):
    """A replay, and how far it is."""

    id: int
    client_id: str | None
    first_hour: datetime
    last_hour: datetime
    source: str
    quarantine: bool
    dry_run: bool
    state: str = Field(description="requested, running, finished or failed")
    requested_by: str
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    error: str | None
    cells: int
    summary: dict[str, Any]


class ReplayPage(BaseModel):
    """Replays, newest first."""

    items: list[ReplayView]
    next: int | None


class EntryView(BaseModel):
    """An entry of the audit log. `hash` covers all of it and the hash of the entry before."""

    id: int
    at: datetime
    actor: str
    action: str
    client_id: str | None
    subject: str
    details: dict[str, Any]
    previous_hash: str
    hash: str


class EntryPage(BaseModel):
    """Entries, newest first."""

    items: list[EntryView]
    next: int | None


class Verification(BaseModel):
    """Whether the chain is what was written. Keep the head somewhere else and give it as `anchor` later."""

    whole: bool
    entries: int
    head: str
    broken_at: int | None
    problem: str | None


@router.get("/quarantine", tags=["quarantine"], responses=problems(422))
async def list_quarantine(
    desk: TheDesk, q: Annotated[str, Query(max_length=200, pattern=r"^[^\x00]*$")] = "", limit: Limit = 100
) -> Quarantined:
    """Which domains and unknown clients have how many events in quarantine."""
    async with connected(desk.pool) as connection:
        events, uncounted = await quarantine.totals(connection)
        found = await quarantine.names(connection, search=q, limit=limit)
    items = [NameView.model_validate(item, from_attributes=True) for item in found]
    return Quarantined(events=events, not_counted_yet=uncounted, items=items)


@router.post("/quarantine/register", status_code=201, tags=["quarantine"], responses=problems(404, 409, 412, 413, 422))
async def register(desk: TheDesk, who: Who, given: Registration) -> Registered:
    """Give a domain to a client, and replay what has come from it since."""
    client = await desk.readable(given.client_id)
    await editing.add_domains(desk, client, [DomainFields(host=given.host, valid_from=given.valid_from)], who)
    number = None
    if given.replay:
        number = await orders.replay_quarantine(desk, given.valid_from, who)
    return Registered(client_id=given.client_id, host=given.host, replay=number)


@router.get("/replays", tags=["replays"], responses=problems(422))
async def list_replays(desk: TheDesk, limit: Limit = 50, before: Before = None) -> ReplayPage:
    """What was processed again, or will be."""
    async with connected(desk.pool) as connection:
        found = await replays.page(connection, before=before, limit=limit + 1)
    page = found[:limit]
    return ReplayPage(
        items=[ReplayView.model_validate(replay, from_attributes=True) for replay in page],
        next=page[-1].id if len(found) > limit else None,
    )


@router.post("/replays", status_code=202, tags=["replays"], responses=problems(404, 413, 422))
async def request_replay(desk: TheDesk, who: Who, given: ReplayOrder) -> ReplayView:
    """Ask for a replay; `python -m processor replay --requested` runs it."""
    if given.client_id is not None:
        await desk.client(given.client_id)
    number = await orders.replay(desk, Order(**given.model_dump()), who)
    async with connected(desk.pool) as connection:
        found = await replays.find(connection, number)
    assert found is not None
    return ReplayView.model_validate(found, from_attributes=True)


@router.get("/audit", tags=["audit"], responses=problems(422))
async def list_audit(
    desk: TheDesk, limit: Limit = 50, before: Before = None, client_id: Annotated[Id | None, Query()] = None
) -> EntryPage:
    """Who did what, when, and how it was before."""
    async with connected(desk.pool) as connection:
        found = await audit.page(connection, before=before, limit=limit + 1, client_id=client_id)
    page = found[:limit]
    items = [
        EntryView(
            id=entry.id,
            at=entry.at,
            actor=entry.actor,
            action=entry.action,
            client_id=entry.client_id,
            subject=entry.subject,
            details=entry.says(),
            previous_hash=entry.previous_hash,
            hash=entry.hash,
        )
        for entry in page
    ]
    return EntryPage(items=items, next=page[-1].id if len(found) > limit else None)


@router.get("/audit/verify", tags=["audit"], responses=problems(422))
async def verify_audit(
    desk: TheDesk, anchor: Annotated[str | None, Query(pattern=r"^[0-9]{1,18}:[0-9a-f]{64}$")] = None
) -> Verification:
    """Follow the chain from its first entry to its end."""
    noted = None
    if anchor is not None:
        try:
            noted = audit.Head.parse(anchor)
        except ValueError as error:
            raise Problem(422, str(error)) from error
    async with connected(desk.pool) as connection:
        verdict = await audit.verify(connection, noted)
    broken = verdict.broken
    return Verification(
        whole=broken is None,
        entries=verdict.head.entries,
        head=str(verdict.head),
        broken_at=broken.id if broken else None,
        problem=broken.problem if broken else None,
    )
