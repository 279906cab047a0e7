"""Being told of changes by Firestore: one Listen stream with a query on each of the collections that make up a client.

The queries match what is stamped from now on, so that neither a start nor a new connection reads all clients again.
https://cloud.google.com/firestore/docs/reference/rpc/google.firestore.v1#google.firestore.v1.Firestore.Listen
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

from google.cloud import firestore
from google.cloud.firestore_v1.base_query import FieldFilter
from google.cloud.firestore_v1.types import ListenRequest, ListenResponse, Target, TargetChange

from pipeline.errors import TransientError

COLLECTIONS = ("clients", "domain_index")

_STREAM_SECONDS = 3600.0
"""Then it is opened anew: what the queries match, and so what a new connection costs, stays little."""

_SKEW = timedelta(seconds=60)
"""Server and this machine may disagree about now by that."""


async def listen(client: firestore.AsyncClient) -> AsyncGenerator[None, None]:
    """See `ClientStore.listen`; the library's errors are not translated here."""
    closed = asyncio.Event()
    requests = _targets(client, closed)
    stream = await client._firestore_api.listen(
        requests=requests, metadata=client._rpc_metadata, retry=None, timeout=_STREAM_SECONDS
    )
    watched = Watched()
    try:
        async for response in stream:
            if watched.tells_of_change(response):
                yield
    finally:
        closed.set()
        stream.cancel()
    raise TransientError("Firestore has ended the stream of changes")


async def _targets(client: firestore.AsyncClient, closed: asyncio.Event) -> AsyncIterator[ListenRequest]:
    """The requests; the stream stays open as long as they don't end."""
    since = datetime.now(UTC) - _SKEW
    for number, name in enumerate(COLLECTIONS):
        query: Any = client.collection(name).where(filter=FieldFilter("updated_at", ">=", since))
        parent, _ = query._parent._parent_info()
        target = Target.QueryTarget(parent=parent, structured_query=query._to_protobuf())
        # Target ids are ours to choose, and 0 is none.
        added = Target(query=target, target_id=number + 1)
        yield ListenRequest(database=client._database_string, add_target=added)
    await closed.wait()


class Watched:
    """What the stream has told so far. Pure."""

    def __init__(self) -> None:
        self._current: set[int] = set()
        self._is_told = False
        self._stamps: dict[str, datetime] = {}

    def tells_of_change(self, response: ListenResponse) -> bool:
        """Whether a client may have changed; once, too, when the queries' first answers are complete.

        A document whose stamp is known tells nothing: a report of a delivery moves no stamp, and the server may repeat
        all documents at any time. Raises TransientError when the server gives a query up.
        """
        match response._pb.WhichOneof("response_type"):
            case "target_change":
                return self._is_complete(response.target_change)
            case "document_change":
                document = response.document_change.document
                stamp = document.fields["updated_at"].timestamp_value
                is_new = self._stamps.get(document.name) != stamp
                self._stamps[document.name] = stamp
                return is_new and self._is_told
            case "document_delete" | "document_remove":
                return self._is_told
            case _:
                return False

    def _is_complete(self, change: TargetChange) -> bool:
        kind = TargetChange.TargetChangeType
        if change.target_change_type == kind.REMOVE:
            raise TransientError(f"Firestore has ended the stream of changes (status {change.cause.code})")
        if change.target_change_type == kind.CURRENT:
            self._current.update(change.target_ids)
        if self._is_told or len(self._current) < len(COLLECTIONS):
            return False
        self._is_told = True
        return True
