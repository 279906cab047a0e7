"""The client store in Firestore: collections `clients`, `domain_index`, `configuration_changes`.

`clients/{client_id}` holds the client's fields, updated_at as a Firestore timestamp. `domain_index/{any id}` holds host
(or the document's id), client_id, valid_from, updated_at. Other tools may write there too: what has no updated_at of
type timestamp is seen by `changed_since(None)` only, because a query compares values of one type.
https://cloud.google.com/firestore/docs/concepts/data-types#value_type_ordering
"""

from __future__ import annotations

import asyncio
import hashlib
from collections import defaultdict
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Sequence
from contextlib import aclosing, asynccontextmanager, suppress
from datetime import UTC, datetime
from typing import Any

from google.api_core import exceptions as google_errors
from google.auth import exceptions as auth_errors
from google.cloud import firestore
from google.cloud.firestore_v1.base_query import FieldFilter

from pipeline.clients import (
    ANYTHING,
    Anything,
    Client,
    ClientChangedError,
    ClientId,
    Domain,
    SyncReport,
    UnreadableClient,
)
from pipeline.errors import ConfigError, PermanentError, PipelineError, TransientError
from pipeline.stores import firestore_listening
from pipeline.stores.documents import change_of, expect, normal_domains, read_client, to_store

_IDS_PER_QUERY = 30  # the most values that an `in` filter takes


class FirestoreClientStore:
    """A ClientStore on Firestore, or on its emulator where FIRESTORE_EMULATOR_HOST is set.

    No call takes longer than `deadline_seconds`. updated_at is the server's time of the write request, and so lies some
    time before the moment at which the write can be seen: callers of `changed_since` ask with an overlap.
    """

    def __init__(self, project: str, *, deadline_seconds: float = 10.0) -> None:
        """Raises ConfigError when there are no Google credentials (the emulator needs none)."""
        self._deadline_seconds = deadline_seconds
        try:
            self._firestore = firestore.AsyncClient(project=project or None)
        except (auth_errors.DefaultCredentialsError, OSError) as error:
            raise ConfigError("no Google credentials or project", hint="set GOOGLE_CLOUD_PROJECT") from error

    async def changed_since(self, when: datetime | None) -> Sequence[Client | UnreadableClient]:
        """See `ClientStore`. Also repeats a client whose domain_index entries changed since `when`."""
        clients, entries = self._collection("clients"), self._collection("domain_index")
        async with self._translated():
            if when is None:
                index = _by_client([entry async for entry in self._stream(entries)])
                return [_read(snapshot, index) async for snapshot in self._stream(clients)]
            since = FieldFilter("updated_at", ">=", when)
            found = {snapshot.id: snapshot async for snapshot in self._stream(clients.where(filter=since))}
            touched = _by_client([entry async for entry in self._stream(entries.where(filter=since))])
            for client_id in touched.keys() - found.keys():
                snapshot = await self._snapshot(client_id)
                if snapshot.exists:
                    found[client_id] = snapshot
            index = _by_client(await self._entries_of(sorted(found)))
            return [_read(snapshot, index) for snapshot in found.values()]

    async def get(self, client_id: ClientId) -> Client | UnreadableClient | None:
        """See `ClientStore`."""
        async with self._translated():
            snapshot = await self._snapshot(client_id)
            if not snapshot.exists:
                return None
            return _read(snapshot, _by_client(await self._entries_of([client_id])))

    async def put(
        self,
        client: Client,
        *,
        actor: str,
        replacing: Client | UnreadableClient | Anything | None = ANYTHING,
        change_id: str | None = None,
    ) -> Client:
        """See `ClientStore`. One batch, so all or nothing.

        Members of the document that are none of ours stay. Raises ClientChangedError also when somebody else changed
        the client at the same moment.
        """
        async with self._translated():
            snapshot = await self._snapshot(client.client_id)
            before = snapshot.to_dict() if snapshot.exists else None
            entries = await self._entries_of([client.client_id])
            found = None if before is None else _read(snapshot, _by_client(entries))
            expect(replacing, found, client.client_id)
            batch = self._firestore.batch()
            document = {**to_store(client), "updated_at": firestore.SERVER_TIMESTAMP}
            # The precondition is a compare-and-set: a change that came in between is not overwritten unread.
            if before is None:
                batch.create(snapshot.reference, {"created_at": firestore.SERVER_TIMESTAMP, **document})
            else:
                unchanged = self._firestore.write_option(last_update_time=snapshot.update_time)
                batch.update(snapshot.reference, document, option=unchanged)
            wanted = {_entry_id(client.client_id, d): d for d in normal_domains(client.domains)}
            for entry in entries:
                if entry.id not in wanted:
                    batch.delete(entry.reference)
            for entry_id, domain in wanted.items():
                batch.set(self._collection("domain_index").document(entry_id), _entry(client.client_id, domain))
            change = change_of(before, client, actor=actor, change_id=change_id).to_document()
            history = self._collection("configuration_changes")
            batch.create(history.document(change_id), {**change, "at": firestore.SERVER_TIMESTAMP})
            await batch.commit(retry=None, timeout=self._deadline_seconds)
            stored = _read(
                await self._snapshot(client.client_id), _by_client(await self._entries_of([client.client_id]))
            )
        if isinstance(stored, UnreadableClient):
            raise PermanentError(f"client {client.client_id} was stored but can't be read: {stored.reason}")
        return stored

    async def has_change(self, client_id: ClientId, change_id: str) -> bool:
        """See `ClientStore`. The entry of the history has that id."""
        reference = self._collection("configuration_changes").document(change_id)
        async with self._translated():
            found = await reference.get(retry=None, timeout=self._deadline_seconds)
            return bool(found.exists and found.get("client_id") == client_id)

    async def report_sync(self, client_id: ClientId, report: SyncReport) -> None:
        """See `ClientStore`."""
        reference = self._collection("clients").document(client_id)
        async with self._translated():
            with suppress(google_errors.NotFound):
                await reference.update(report.to_document(), retry=None, timeout=self._deadline_seconds)

    async def listen(self) -> AsyncGenerator[None, None]:
        """See `ClientStore`. Entries of domain_index that somebody deletes by hand are not told of."""
        try:
            async with aclosing(firestore_listening.listen(self._firestore)) as told:
                async for _ in told:
                    yield
        except google_errors.GoogleAPIError as error:
            raise _translate(error) from error
        except auth_errors.GoogleAuthError as error:
            raise _no_token() from error

    async def close(self) -> None:
        """See `ClientStore`."""
        await self._firestore._firestore_api.transport.close()  # AsyncClient has no close of its own

    def _collection(self, name: str) -> Any:
        return self._firestore.collection(name)

    async def _snapshot(self, client_id: str) -> Any:
        reference = self._collection("clients").document(client_id)
        return await reference.get(retry=None, timeout=self._deadline_seconds)

    async def _entries_of(self, client_ids: Sequence[str]) -> list[Any]:
        found: list[Any] = []
        for start in range(0, len(client_ids), _IDS_PER_QUERY):
            named = FieldFilter("client_id", "in", client_ids[start : start + _IDS_PER_QUERY])
            query = self._collection("domain_index").where(filter=named)
            found += [entry async for entry in self._stream(query)]
        return found

    async def _stream(self, query: Any) -> AsyncIterator[Any]:
        async for snapshot in query.stream(retry=None, timeout=self._deadline_seconds):
            yield snapshot

    @asynccontextmanager
    async def _translated(self) -> AsyncIterator[None]:
        """The deadline of a whole call, and our errors for Google's. Only status names: messages may hold values."""
        try:
            async with asyncio.timeout(self._deadline_seconds):
                yield
        except TimeoutError as error:
            raise TransientError("Firestore did not answer in time") from error
        except google_errors.GoogleAPIError as error:
            raise _translate(error) from error
        except auth_errors.GoogleAuthError as error:
            raise _no_token() from error


def _no_token() -> TransientError:
    return TransientError("Google did not issue an access token", hint="see the service account")


def _translate(error: google_errors.GoogleAPIError) -> PipelineError:
    name = type(error).__name__
    match error:
        case google_errors.Unauthorized() | google_errors.Forbidden():
            hint = "the service account needs roles/datastore.user"
            return PermanentError(f"Firestore refused access: {name}", hint=hint)
        case google_errors.AlreadyExists() | google_errors.FailedPrecondition() | google_errors.Aborted():
            return ClientChangedError(f"the client was changed by somebody else at the same time: {name}")
        case google_errors.NotFound():
            return PermanentError(
                f"Firestore has no such database or document: {name}", hint="see GOOGLE_CLOUD_PROJECT"
            )
        case google_errors.TooManyRequests() | google_errors.ServerError() | google_errors.Cancelled():
            return TransientError(f"Firestore did not answer: {name}")
        case google_errors.ClientError():
            return PermanentError(f"Firestore refused the request: {name}")
        case _:
            return TransientError(f"Firestore did not answer: {name}")


def _entry_id(client_id: str, domain: Domain) -> str:
    # A digest, because a host or site id may hold what a document id may not; the fields are readable.
    text = "\n".join((client_id, domain.host, domain.valid_from.astimezone(UTC).isoformat()))
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def _entry(client_id: str, domain: Domain) -> dict[str, Any]:
    return {
        "host": domain.host,
        "client_id": client_id,
        "valid_from": domain.valid_from,
        "updated_at": firestore.SERVER_TIMESTAMP,
    }


def _by_client(entries: Iterable[Any]) -> dict[str, list[dict[str, Any]]]:
    """Entries of domain_index by the client they name; those that name none are nobody's."""
    found: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for entry in entries:
        fields = entry.to_dict()
        client_id = fields.get("client_id")
        if isinstance(client_id, str):
            found[client_id].append({"host": entry.id, "valid_from": datetime.fromtimestamp(0, UTC), **fields})
    return found


def _read(snapshot: Any, index: dict[str, list[dict[str, Any]]]) -> Client | UnreadableClient:
    document = snapshot.to_dict()
    stamp = document.get("updated_at")
    updated_at = stamp if isinstance(stamp, datetime) else snapshot.update_time
    return read_client(snapshot.id, document, updated_at, index.get(snapshot.id, ()))
