"""The files of runs, put together a few at a time; a run's next one while the one before is on its way."""

from __future__ import annotations

import asyncio
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from database.ledger import Pool, connected, delivery_files
from database.ledger.delivery_files import OpenFile
from pipeline.clients import Client
from syncer.content import Built, Source, build
from syncer.policies import Policies


class Builder:
    """One per process: at most `at_once` files are put together, and at most as many wait for their turn to be PUT.

    Those that are on disk, or on their way there, have at most `spool_bytes` in all, as far as their members tell; a
    larger file is alone.
    """

    def __init__(self, *, pool: Pool, source: Source, policies: Policies, at_once: int, spool_bytes: int) -> None:
        self._pool = pool
        self._spool_bytes = spool_bytes
        self._freed = asyncio.Event()
        self.spooled_bytes = 0
        self.waiting = 0
        """Files for which there is no room."""
        self._source = source
        self._policies = policies
        self._slots = asyncio.Semaphore(at_once)
        self.spare = at_once
        """How many files may still be begun ahead of their turn."""

    async def build(self, file: OpenFile, client: Client) -> Built:
        """The file under the client's current policy; the caller closes it. Raises like `content.build`."""
        async with connected(self._pool) as connection:
            members = await delivery_files.members_of(connection, file.id)
        size = sum(member.bytes for member in members)
        self.waiting += 1
        try:
            while self.spooled_bytes and self.spooled_bytes + size > self._spool_bytes:
                self._freed.clear()
                await self._freed.wait()
        finally:
            self.waiting -= 1
        self.spooled_bytes += size
        try:
            async with self._slots:
                built = await build(members, self._source, self._policies.of(client))
        except BaseException:
            self._free(size)
            raise
        built.when_closed = lambda: self._free(size)
        return built

    def _free(self, size: int) -> None:
        self.spooled_bytes -= size
        self._freed.set()


@dataclass(frozen=True, slots=True)
class _Begun:
    file: OpenFile
    client: Client
    task: asyncio.Task[Built]


class Ahead(AbstractAsyncContextManager["Ahead"]):
    """The files of one run, each built once or, when it or the client's settings changed meanwhile, again."""

    def __init__(self, builder: Builder) -> None:
        self._builder = builder
        self._begun: _Begun | None = None

    async def take(self, file: OpenFile, client: Client) -> Built:
        """The file, built; the caller closes it. Raises like `Builder.build`."""
        begun = self._begun
        if begun is None or (begun.file, begun.client) != (file, client):
            await self._drop()
            return await self._builder.build(file, client)
        built = await begun.task
        self._begun = None
        self._builder.spare += 1
        return built

    def begin(self, file: OpenFile, client: Client) -> None:
        """Build what is likely to be taken next, if there is room. Only after what was begun before is taken."""
        if self._begun is None and self._builder.spare > 0:
            self._builder.spare -= 1
            self._begun = _Begun(file, client, asyncio.create_task(self._builder.build(file, client)))

    async def _drop(self) -> None:
        begun, self._begun = self._begun, None
        if begun is None:
            return
        self._builder.spare += 1
        begun.task.cancel()
        await asyncio.wait({begun.task})
        if not begun.task.cancelled() and begun.task.exception() is None:
            begun.task.result().close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._drop()
