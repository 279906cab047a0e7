"""Where a client's files go: a place of its own, for the keys below a prefix hold no client id."""

from __future__ import annotations

from contextlib import AsyncExitStack
from urllib.parse import urlsplit

from database.ledger import Pool, connected, destinations
from database.ledger.destinations import Place
from pipeline.clients import Client, ClientId, ClientStore
from pipeline.destination import ClientAccess, ClientBucketError
from pipeline.s3 import ObjectStore, open_bucket
from syncer.due import why_not


class Destination:
    """A client's bucket while a run lasts: settled and opened anew when its settings change."""

    def __init__(self, stack: AsyncExitStack, pool: Pool, store: ClientStore, access: ClientAccess) -> None:
        self._stack = stack
        self._pool = pool
        self._store = store
        self._access = access
        self._settled: Place | None = None
        self._open: ObjectStore | None = None

    async def open(self, client: Client) -> ObjectStore:
        """The bucket. Raises like `settle` and `ClientAccess.of`."""
        access = await self._access.of(client)
        if place_of(client) != self._settled:
            await settle(self._pool, self._store, client)
            self._settled = place_of(client)
        if self._open is None or self._open.access != access:
            self._open = await self._stack.enter_async_context(open_bucket(access))
        return self._open


def place_of(client: Client) -> Place:
    """Where the client's files go, as its settings stand."""
    host = urlsplit(client.client_s3_endpoint_url).hostname or ""
    endpoint = "" if host.endswith(".amazonaws.com") else client.client_s3_endpoint_url.rstrip("/")
    return Place(endpoint, client.client_s3_bucket, client.client_s3_prefix)


async def settle(pool: Pool, store: ClientStore, client: Client) -> None:
    """Make sure that the client's place is its own. One that another client has left unused is taken over.

    Raises ClientBucketError when another client is, or ever was, delivered there.
    """
    place = place_of(client)
    async with connected(pool) as connection:
        holder = await destinations.holder_of(connection, place, client.client_id)
    if holder == client.client_id:
        return
    other = await store.get(ClientId(holder))
    if isinstance(other, Client) and why_not(other) is None and place_of(other) == place:
        raise _shared(holder)
    async with connected(pool) as connection:
        if not await destinations.take_over(connection, place, client.client_id, holder):
            raise _shared(await destinations.holder_of(connection, place, client.client_id))


def _shared(holder: str) -> ClientBucketError:
    return ClientBucketError(
        "DestinationShared",
        f"this bucket and prefix are client {holder}'s [DestinationShared]",
        hint="give each client a prefix of its own",
    )
