"""/api/v1/clients: who gets which events, how much of them, and where to."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Query, Response
from pydantic import BaseModel

from admin import clients, editing
from admin.api.common import IfMatch, Limit, TheDesk, TheId, Who, matched, problems
from admin.fields import ClientFields, ClientSummary, ClientView, DomainFields, DomainView, Host, Moment, NewClient
from admin.listing import found_by
from admin.problems import Problem
from pipeline.clients import UnreadableClient

router = APIRouter(prefix="/clients", tags=["clients"])


class ClientPage(BaseModel):
    """A part of the list, by id."""

    items: list[ClientSummary]
    total: int
    """How many there are in all."""
    next: str | None
    """`after` of the next page; null on the last one."""


class DomainList(BaseModel):
    """The hosts and site ids of a client."""

    items: list[DomainView]


@router.get("", responses=problems(422))
async def list_clients(
    desk: TheDesk,
    q: Annotated[str, Query(max_length=200, description="part of id, name or domain")] = "",
    limit: Limit = 50,
    after: Annotated[str, Query(max_length=255)] = "",
) -> ClientPage:
    """Clients by id, inactive ones too. A change appears after at most some seconds."""
    found = found_by(desk.directory.entries(), q)
    rest = [entry for entry in found if entry.client_id > after]
    page = rest[:limit]
    return ClientPage(
        items=[clients.summary(entry) for entry in page],
        total=len(found),
        next=page[-1].client_id if len(rest) > limit else None,
    )


@router.post(
    "",
    status_code=201,
    response_model=ClientView,
    responses={**problems(409, 412, 413, 422), 200: {"model": ClientView, "description": "it was there already"}},
)
async def create_client(desk: TheDesk, who: Who, given: NewClient, response: Response) -> ClientView:
    """Create a client. Repeating it does no harm: 200 and the client, if it is there with these settings."""
    client, new = await editing.create(desk, given, who)
    response.status_code = 201 if new else 200
    response.headers["location"] = f"/api/v1/clients/{client.client_id}"
    response.headers["etag"] = clients.etag(client)
    return clients.view(client)


@router.get("/{client_id}", responses=problems(404, 409, 422))
async def read_client(desk: TheDesk, client_id: TheId, response: Response) -> ClientView:
    """A client without its secrets; the ETag is what a change needs. 409 when the stored settings can't be read."""
    found = await desk.client(client_id)
    if isinstance(found, UnreadableClient):
        raise Problem(409, f"the stored settings can't be read: {found.reason}; mend them by PATCH with If-Match: *")
    response.headers["etag"] = clients.etag(found)
    return clients.view(found)


@router.patch("/{client_id}", responses=problems(404, 409, 412, 413, 422, 428))
async def change_client(
    desk: TheDesk, who: Who, client_id: TheId, given: ClientFields, response: Response, if_match: IfMatch = None
) -> ClientView:
    """Change the settings that are given. Running services follow within 30 s."""
    found = await desk.client(client_id)
    matched(found, if_match)
    client = await editing.change(desk, found, given, who)
    response.headers["etag"] = clients.etag(client)
    return clients.view(client)


@router.delete("/{client_id}", status_code=204, responses=problems(404, 409, 412, 422, 428))
async def deactivate_client(desk: TheDesk, who: Who, client_id: TheId, if_match: IfMatch = None) -> None:
    """Make a client inactive: its events go to quarantine, and nothing is delivered. Settings and history stay."""
    found = await desk.readable(client_id)
    matched(found, if_match)
    await editing.deactivate(desk, found, who)


@router.get("/{client_id}/domains", responses=problems(404, 409, 422))
async def list_domains(desk: TheDesk, client_id: TheId) -> DomainList:
    """Whose pixel is the client's: hosts and site ids, each from a moment on."""
    client = await desk.readable(client_id)
    return DomainList(items=clients.view(client).domains)


@router.post("/{client_id}/domains", status_code=201, responses=problems(404, 409, 412, 413, 422))
async def add_domain(desk: TheDesk, who: Who, client_id: TheId, given: DomainFields) -> DomainList:
    """Register a host or site id. One that is there from the same moment on stays as it is."""
    client = await editing.add_domains(desk, await desk.readable(client_id), [given], who)
    return DomainList(items=clients.view(client).domains)


@router.delete("/{client_id}/domains", responses=problems(404, 409, 412, 422))
async def remove_domain(
    desk: TheDesk,
    who: Who,
    client_id: TheId,
    host: Annotated[Host, Query()],
    valid_from: Annotated[Moment | None, Query(description="only the entry that begins then")] = None,
) -> DomainList:
    """Take a host or site id away."""
    moment: datetime | None = valid_from
    client = await editing.remove_domain(desk, await desk.readable(client_id), host, moment, who)
    return DomainList(items=clients.view(client).domains)


@router.post("/{client_id}/pseudonym-keys", status_code=201, responses=problems(404, 409, 412, 413, 422))
async def renew_pseudonym_key(desk: TheDesk, who: Who, client_id: TheId) -> ClientView:
    """Make a new version of the pseudonym key. Visitors who come again look like new ones from then on."""
    return clients.view(await editing.renew_pseudonym_key(desk, await desk.readable(client_id), who))
