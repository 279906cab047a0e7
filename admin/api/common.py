"""What all routes of the API share."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import Depends, Header, Path, Query, Request

from admin import clients
from admin.desk import Desk
from admin.identity import Identity
from admin.problems import Problem, ProblemDocument
from pipeline.clients import CLIENT_ID, Client, UnreadableClient

_PROBLEM = {"model": ProblemDocument, "content": {"application/problem+json": {}}}


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """For `responses=`: the problems that a route may answer, beside those that every route may."""
    described = {
        400: "a body that can't be read",
        401: "neither key nor session",
        403: "no key configured, or not allowed",
        404: "no such thing",
        409: "does not fit what is there",
        412: "changed meanwhile: read again",
        413: "too large",
        422: "values that can't be; `errors` names them",
        428: "If-Match is missing",
        503: "a part of the pipeline does not answer",
    }
    always = (401, 403, 503, *((400,) if 413 in statuses else ()))  # where a body is taken, it may be unreadable
    return {status: {**_PROBLEM, "description": described[status]} for status in sorted({*always, *statuses})}


def _desk(request: Request) -> Desk:
    desk: Desk = request.app.state.desk
    return desk


def _identity(request: Request) -> Identity:
    identity: Identity = request.state.identity
    return identity


TheDesk = Annotated[Desk, Depends(_desk)]
Who = Annotated[Identity, Depends(_identity)]
TheId = Annotated[str, Path(pattern=rf"^{CLIENT_ID.pattern}$", description="the client's id")]
Limit = Annotated[int, Query(ge=1, le=200, description="how many at most")]
Before = Annotated[int | None, Query(ge=1, le=2**62, description="`next` of the page before")]
IfMatch = Annotated[
    str | None,
    Header(alias="If-Match", max_length=200, description="the ETag that you have read, or * for whatever is there"),
]


def matched(found: Client | UnreadableClient, if_match: str | None) -> None:
    """Raise Problem 428 without If-Match, 412 when it names another version than `found`."""
    if if_match is None:
        raise Problem(428, "give the ETag that you have read as If-Match, so that no change of others gets lost")
    if if_match.strip() == "*":
        return
    tags = {tag.strip().removeprefix("W/") for tag in if_match.split(",")}
    if clients.etag(found) not in tags:
        raise Problem(412, f"client {found.client_id} was changed meanwhile: read it again")
