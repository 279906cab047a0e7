"""The twin of the real stores, for unit tests: the same documents, in this process."""

from __future__ import annotations

import asyncio
import copy
from collections.abc import AsyncGenerator, Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from pipeline.clients import ANYTHING, Anything, Client, ClientId, SyncReport, UnreadableClient
from pipeline.stores.documents import Change, change_of, expect, read_client, to_store


class MemoryClientStore:
    """A ClientStore in memory. `fail_with` makes every call raise; `calls` counts them, `changes` is the history."""

    def __init__(self, clock: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self._clock = clock
        self._documents: dict[str, dict[str, Any]] = {}
        self._updated_at: dict[str, datetime] = {}
        self._index: list[dict[str, Any]] = []
        self.fail_with: Exception | None = None
        self._listeners: list[asyncio.Event] = []
        self.calls = 0
        self.changes: list[Change] = []

    async def changed_since(self, when: datetime | None) -> Sequence[Client | UnreadableClient]:
        """See `ClientStore`."""
        self._called()
        return [self._read(key) for key, at in self._updated_at.items() if when is None or at >= when]

    async def get(self, client_id: ClientId) -> Client | UnreadableClient | None:
        """See `ClientStore`."""
        self._called()
        return self._read(client_id) if client_id in self._documents else None

    async def put(
        self,
        client: Client,
        *,
        actor: str,
        replacing: Client | UnreadableClient | Anything | None = ANYTHING,
        change_id: str | None = None,
    ) -> Client:
        """See `ClientStore`."""
        self._called()
        before = self._documents.get(client.client_id)
        expect(replacing, self._read(client.client_id) if before is not None else None, client.client_id)
        self.changes.append(change_of(before, client, actor=actor, change_id=change_id))
        old = {"created_at": self._clock().isoformat()} if before is None else before
        self._index = [entry for entry in self._index if entry["client_id"] != client.client_id]
        self.write_raw(client.client_id, {**old, **copy.deepcopy(to_store(client))})
        stored = self._read(client.client_id)
        assert isinstance(stored, Client)
        return stored

    async def has_change(self, client_id: ClientId, change_id: str) -> bool:
        """See `ClientStore`."""
        self._called()
        return any((change.client_id, change.change_id) == (client_id, change_id) for change in self.changes)

    def write_raw(self, client_id: str, document: dict[str, Any]) -> None:
        """Store a document as it is, as another tool would; updated_at moves on."""
        last = self._updated_at.get(client_id, datetime.fromtimestamp(0, UTC))
        now = max(self._clock(), last + timedelta(microseconds=1))
        self._documents[client_id] = document
        self._updated_at[client_id] = now
        self.tell()

    def write_index(self, client_id: str, host: str, valid_from: Any) -> None:
        """Add an entry to domain_index, as another tool would."""
        self._index.append({"client_id": client_id, "host": host, "valid_from": valid_from})
        if client_id in self._documents:
            self.write_raw(client_id, self._documents[client_id])

    async def report_sync(self, client_id: ClientId, report: SyncReport) -> None:
        """See `ClientStore`."""
        self._called()
        if client_id in self._documents:
            self._documents[client_id] |= report.to_document()

    async def listen(self) -> AsyncGenerator[None, None]:
        """See `ClientStore`."""
        told = asyncio.Event()
        told.set()
        self._listeners.append(told)
        try:
            while True:
                await told.wait()
                told.clear()
                if self.fail_with is not None:
                    raise self.fail_with
                yield
        finally:
            self._listeners.remove(told)

    def tell(self) -> None:
        """Wake those who listen; with `fail_with` their connection is lost."""
        for told in self._listeners:
            told.set()

    async def close(self) -> None:
        """See `ClientStore`."""

    def _read(self, client_id: str) -> Client | UnreadableClient:
        index = [entry for entry in self._index if entry["client_id"] == client_id]
        return read_client(client_id, copy.deepcopy(self._documents[client_id]), self._updated_at[client_id], index)

    def _called(self) -> None:
        self.calls += 1
        if self.fail_with is not None:
            raise self.fail_with
