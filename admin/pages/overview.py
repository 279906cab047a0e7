"""The first page: the whole pipeline at a glance."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request, Response

from admin import charts, flow, words
from admin.pages.render import TheStatus, render
from admin.status import Status

router = APIRouter()


@router.get("/")
async def overview(request: Request, status: TheStatus) -> Response:
    """The page."""
    return render(request, "overview.html", **await _values(status))


@router.get("/parts/overview")
async def overview_part(request: Request, status: TheStatus) -> Response:
    """What of it is asked for every few seconds."""
    return render(request, "parts/overview.html", **await _values(status))


async def _values(status: Status) -> dict[str, Any]:
    found = await status.overview()
    boxes = flow.stages(found.stages, found.rates, found.slot.slot, clients=found.clients, failing=len(found.failing))
    return {
        "overview": found,
        "across": flow.across(boxes),
        "down": flow.down(boxes),
        "chart": charts.bars(found.hours, title="Events exported by hour, last two days", unit=words.count),
    }
