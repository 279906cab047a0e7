"""Templates, and what all of them know."""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlencode

import jinja2
from fastapi import Depends, Request, Response
from fastapi.responses import HTMLResponse, RedirectResponse
from starlette.datastructures import FormData

from admin import words
from admin.desk import Desk
from admin.identity import Identity
from admin.status import Status

_STATIC = Path(__file__).parent.parent / "static"

_NOTES = {
    "created": "The client was created.",
    "saved": "The changes were saved. Running services follow within 30 seconds.",
    "same": "Nothing was changed.",
    "paused": "Deliveries are paused. Events go on being collected.",
    "resumed": "Deliveries go on.",
    "ordered": "The delivery was ordered. It appears here when the syncer takes it up.",
    "registered": "The domain was registered.",
    "replayed": "The domain was registered, and the events in quarantine will be replayed.",
    "replay": "The replay was requested.",
    "key": "A new pseudonym key is in use.",
}
"""What a page says after a change; the address carries the word only, so that nobody can make us say something else."""


@cache
def asset(name: str) -> str:
    """The address of an asset, with a digest: browsers may keep it for ever."""
    return f"/static/{name}?v={hashlib.sha256((_STATIC / name).read_bytes()).hexdigest()[:12]}"


_templates = jinja2.Environment(
    loader=jinja2.FileSystemLoader(Path(__file__).parent.parent / "templates"),
    autoescape=True,
    undefined=jinja2.StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
_templates.globals.update(asset=asset)
_templates.filters.update(
    count=words.count,
    size=words.size,
    duration=words.duration,
    rate=words.rate,
    moment=words.moment,
    plural=words.plural,
)


def render(request: Request, name: str, *, status: int = 200, **values: Any) -> HTMLResponse:
    """The page `name`."""
    common = {
        "request": request,
        "who": getattr(request.state, "identity", None),
        "path": request.url.path,
        "note": _NOTES.get(request.query_params.get("note", "")),
    }
    return HTMLResponse(_templates.get_template(name).render({**common, **values}), status)


def see_other(path: str, **query: str) -> Response:
    """Send the browser on after a change, so that reloading doesn't repeat it."""
    return RedirectResponse(path + (f"?{urlencode(query)}" if query else ""), 303)


async def _form(request: Request) -> FormData:
    return await request.form()


def _desk(request: Request) -> Desk:
    desk: Desk = request.app.state.desk
    return desk


def _status(request: Request) -> Status:
    status: Status = request.app.state.status
    return status


def _identity(request: Request) -> Identity:
    identity: Identity = request.state.identity
    return identity


Form = Annotated[FormData, Depends(_form)]
TheDesk = Annotated[Desk, Depends(_desk)]
TheStatus = Annotated[Status, Depends(_status)]
Who = Annotated[Identity, Depends(_identity)]
