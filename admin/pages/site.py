"""All pages and their assets, and how a problem looks on a page."""

from __future__ import annotations

from pathlib import Path

from fastapi import FastAPI, Request, Response
from starlette.staticfiles import StaticFiles

from admin.guard import API, OPERATIONS
from admin.pages import clients, deliveries, door, operations, overview
from admin.pages.render import render
from admin.problems import Problem

_FOLDER = Path(__file__).parent.parent / "static"


def add_to(app: FastAPI) -> None:
    """Add all pages and their assets."""
    for part in (overview, clients, deliveries, operations, door):
        app.include_router(part.router, include_in_schema=False)
    app.mount("/static", StaticFiles(directory=_FOLDER))


def is_page(request: Request) -> bool:
    """Whether a person looks at the answer."""
    path = request.url.path
    return not (path.startswith((API, "/static/")) or path in OPERATIONS)


def error_page(request: Request, problem: Problem) -> Response:
    """A problem as a page, or as a notice inside of one when htmx asked."""
    part = bool(request.headers.get("hx-request"))
    name = "parts/problem.html" if part else "problem.html"
    return render(request, name, status=200 if part else problem.status, problem=problem)
