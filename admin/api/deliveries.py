"""/api/v1/clients/{id}: deliveries, and the orders for them."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Body, Path
from pydantic import BaseModel, Field

from admin import orders
from admin.api.common import Before, Limit, TheDesk, TheId, Who, problems
from admin.fields import Moment
from admin.ledger import deliveries
from admin.problems import Problem
from database.ledger import connected

router = APIRouter(prefix="/clients/{client_id}", tags=["deliveries"])

_MOST_FILES = 10_000


class RunView(BaseModel):
    """A delivery. Events and bytes count files that arrived; bytes are compressed."""

    run_key: str
    frequency: str
    status: str = Field(description="running, failed (tried again by itself) or finished")
    attempts: int
    error_class: str | None
    error: str | None = Field(description="why it failed, and what to do")
    bucket: str
    manifest_key: str | None
    complete_through: datetime | None = Field(description="hours up to this one are whole")
    started_at: datetime
    finished_at: datetime | None
    files: int
    files_delivered: int
    events: int
    bytes: int
    dropped_at_delivery: int


class FileView(BaseModel):
    """A file of a delivery; sizes and digest are known once it was built."""

    key: str
    hour: datetime
    state: str
    events: int | None
    bytes: int | None
    sha256: str | None
    policy_version: str | None
    dropped_at_delivery: int
    delivered_at: datetime | None


class RunPage(BaseModel):
    """Deliveries, newest first."""

    items: list[RunView]
    next: int | None


class RunDetails(RunView):
    """A delivery with its files and its manifest."""

    file_list: list[FileView]
    manifest: dict[str, Any] | None


class SyncOrder(BaseModel):
    """Hours to deliver, both included; without them everything that waits."""

    since: Moment | None = None
    until: Moment | None = None


class Ordered(BaseModel):
    """A delivery that was asked for."""

    client_id: str
    run_key: str


class StepView(BaseModel):
    """One thing that was tried; `ok` is null when an earlier step has failed already."""

    name: str
    ok: bool | None
    code: str
    explanation: str
    what_to_do: str


class TestReport(BaseModel):
    """Whether a delivery would work."""

    client_id: str
    ok: bool
    steps: list[StepView]
    warnings: list[str]


@router.get("/deliveries", responses=problems(404, 422))
async def list_deliveries(desk: TheDesk, client_id: TheId, limit: Limit = 50, before: Before = None) -> RunPage:
    """What was delivered, what is on its way, what failed and why."""
    await desk.client(client_id)
    async with connected(desk.pool) as connection:
        found = await deliveries.runs(connection, client_id, before=before, limit=limit + 1)
    page = found[:limit]
    return RunPage(
        items=[RunView.model_validate(run, from_attributes=True) for run in page],
        next=page[-1].id if len(found) > limit else None,
    )


@router.get("/deliveries/{run_key}", responses=problems(404, 422))
async def read_delivery(
    desk: TheDesk, client_id: TheId, run_key: Annotated[str, Path(pattern=r"^[A-Za-z0-9T-]{1,60}$")]
) -> RunDetails:
    """A delivery with its files and the manifest as it was delivered."""
    async with connected(desk.pool) as connection:
        run = await deliveries.run(connection, client_id, run_key)
        if run is None:
            raise Problem(404, "the client has no such delivery")
        files = await deliveries.files(connection, run.id, limit=_MOST_FILES)
        manifest = await deliveries.manifest(connection, run.id)
    return RunDetails(
        **RunView.model_validate(run, from_attributes=True).model_dump(),
        file_list=[FileView.model_validate(file, from_attributes=True) for file in files],
        manifest=manifest,
    )


@router.post("/sync", status_code=202, responses=problems(404, 409, 413, 422))
async def sync_now(
    desk: TheDesk, who: Who, client_id: TheId, given: Annotated[SyncOrder | None, Body()] = None
) -> Ordered:
    """Deliver now, whatever the schedule says; with hours, only what these hours still lack."""
    hours = given or SyncOrder()
    client = await desk.readable(client_id)
    run_key = await orders.sync(desk, client, who, since=hours.since, until=hours.until)
    return Ordered(client_id=client_id, run_key=run_key)


@router.post("/test-connection", responses=problems(404, 409, 413, 422))
async def test_connection(desk: TheDesk, who: Who, client_id: TheId) -> TestReport:
    """Try the client's bucket as a delivery would, step by step. Writes one small object below the prefix."""
    report = await orders.test(desk, await desk.readable(client_id), who)
    return TestReport.model_validate(report.to_document())
