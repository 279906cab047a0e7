"""The replay of one hour: read the ledger, read the events, write new objects, and let them take the old ones' place.

Until the last step everything is void: objects that no ledger row names don't exist. That step is one transaction per
cell, and it compares: whatever happened to the cell meanwhile, it goes through as read or not at all.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Collection, Coroutine, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol, TypeVar
from uuid import UUID

from database.ledger import Pool, connected, records, replays, revisions
from database.ledger import chunks as ledger
from database.ledger.cells import ChunkSpan, CurrentObject, HourState, files_of, hour_state
from database.ledger.replays import Order
from database.ledger.revisions import NewObject, Revision
from pipeline import gzip, logs
from pipeline.directory import ClientDirectory
from pipeline.errors import FencedError, PermanentError, PipelineError
from pipeline.failpoints import reach
from pipeline.gzip import GzipError
from pipeline.keys import HOUR_MICROSECONDS, processed_key
from pipeline.s3 import ObjectStore
from processor.chunk import Chunk, Draft
from processor.policies import PolicyCache
from processor.replay.cells import QUARANTINE, Cell, Ownership, cells_of
from processor.replay.report import CellSummary, refusal_of, summary_of
from processor.replay.rework import Outturn, Rework, same_object
from processor.replay.shown import Shown
from processor.replay.spans import Batch, Wanted
from processor.replay.usable import current_version, why_unusable
from processor.writer import PARALLEL_PUTS, UnusableKeyError, compress, put_draft

log = logs.get(__name__)

T = TypeVar("T")


class Reader(Protocol):
    """Where events are read again."""

    name: str
    """kafka or raw."""

    def read(self, wanted: Wanted) -> AsyncIterator[Batch]:
        """The events that are wanted, each once, in order within a chunk; each chunk is closed once.

        Raises PermanentError when they are gone, TransientError when they can't be read just now.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Workshop:
    """What a replay works with."""

    topic: str
    pool: Pool
    processed: ObjectStore
    directory: ClientDirectory
    policies: PolicyCache
    readers: Sequence[Reader]
    """In the order in which they are tried."""


class _WrongCountError(PermanentError):
    """A reader gave other events than the ledger has counted."""


class HourReplay:
    """One attempt at one hour. What it couldn't do is in `undone`, what became of the rest in `summaries`."""

    def __init__(
        self, shop: Workshop, order: Order, replay_id: int | None, hour: datetime, only: Collection[str] | None = None
    ) -> None:
        """Without `replay_id` nothing is written: a dry run. `only`: of the hour's cells these clients' alone."""
        self._shop = shop
        self._order = order
        self._replay_id = replay_id
        self._hour = hour
        self._only = only
        self._slots = asyncio.Semaphore(PARALLEL_PUTS)
        self._revision_ids: dict[str, int] = {}
        self._refused: dict[str, list[str]] = {}
        self.summaries: list[CellSummary] = []
        self.undone: set[str] = set()
        """Clients whose cell somebody else has changed meanwhile: to be read anew."""

    async def run(self) -> None:
        """Rework all cells that the replay isn't done with.

        Raises TransientError, and PermanentError when the events are gone; cells that were committed before stay so.
        """
        await self._shop.directory.refresh()
        state, cells = await self._read_ledger()
        if not cells:
            return
        outturns, rework, source = await self._read_events(state, cells)
        await self._shop.directory.refresh()
        for client_id, outturn in outturns.items():
            if client_id not in self._refused:
                await self._settle(outturn, rework, state, source)
        for client_id, reasons in self._refused.items():
            self.summaries.append(refusal_of(cells[client_id], reasons))

    async def _read_ledger(self) -> tuple[HourState, dict[str, Cell]]:
        order = self._order
        filed_under = QUARANTINE if order.quarantine else order.client_id
        async with connected(self._shop.pool) as connection:
            state = await hour_state(connection, self._shop.topic, self._hour, filed_under)
            done = (
                await replays.done_cells(connection, self._replay_id, self._hour)
                if self._replay_id is not None
                else set()
            )
        cells = cells_of(state, None if filed_under is None else {filed_under})
        cells = {client_id: cell for client_id, cell in cells.items() if client_id not in done}
        if self._only is not None:
            cells = {client_id: cell for client_id, cell in cells.items() if client_id in self._only}
        for client_id, cell in list(cells.items()):
            reason = None if client_id == QUARANTINE else why_unusable(self._shop.policies, client_id)
            if reason is not None:
                self.summaries.append(refusal_of(cell, [reason], state="skipped"))
                del cells[client_id]
        return state, cells

    async def _read_events(self, state: HourState, cells: Mapping[str, Cell]) -> tuple[dict[str, Outturn], Rework, str]:
        chunk_ids = set().union(*(cell.chunk_ids for cell in cells.values()))
        events: dict[UUID, int] = defaultdict(int)
        for (chunk_id, _), count in state.rows.items():
            events[chunk_id] += count
        wanted = Wanted(
            hour=int(self._hour.timestamp() * 1_000_000) // HOUR_MICROSECONDS,
            spans=[state.chunks[chunk_id] for chunk_id in chunk_ids],
            sources={source for cell in cells.values() for _, (_, source, _, _) in cell.rows},
            events=events,
        )
        ownership = Ownership(state)
        await self._learn_owners(ownership, cells)
        for reader in self._shop.readers:
            is_last = reader is self._shop.readers[-1]
            rework = Rework(
                cells=cells,
                spans=state.chunks,
                ownership=ownership,
                policies=self._shop.policies,
                release_to=self._order.client_id if self._order.quarantine else None,
            )
            outturns = {client_id: Outturn(cell) for client_id, cell in cells.items()}
            self._refused.clear()
            try:
                await self._consume(reader.read(wanted), rework, outturns, state.chunks, refuse=is_last)
            except PipelineError as error:
                if is_last:
                    raise
                log.warning("processor.replay.source_changed", source=reader.name, reason=str(error))
                continue
            return outturns, rework, reader.name
        raise AssertionError("there is no reader")

    async def _learn_owners(self, ownership: Ownership, cells: Collection[str]) -> None:
        """Read the ids of the events in objects, where the ledger's counts don't tell whose an event is."""
        learned: set[int] = set()
        while items := [item for item in ownership.objects_to_ask(cells) if item.id not in learned]:
            learned.update(item.id for item in items)
            await _together(self._learn(ownership, item) for item in items)

    async def _learn(self, ownership: Ownership, item: CurrentObject) -> None:
        async with self._slots:
            try:
                body = await self._shop.processed.get(item.key)
                await asyncio.to_thread(lambda: ownership.know(item, _lines_of(body)))
            except (PermanentError, GzipError) as error:
                log.warning("processor.replay.object_unreadable", object_id=item.id, reason=str(error))
                ownership.cannot_know(item)

    async def _consume(
        self,
        batches: AsyncIterator[Batch],
        rework: Rework,
        outturns: Mapping[str, Outturn],
        spans: Mapping[UUID, ChunkSpan],
        *,
        refuse: bool,
    ) -> None:
        """Take all batches, write each chunk's objects as soon as it is complete.

        A chunk without just the events that the ledger has counted has its cells refused, or with `refuse` being
        False raises _WrongCountError.
        """
        async for batch in batches:
            await asyncio.to_thread(_take_all, rework, batch)
            for chunk_id in batch.closed:
                for client_id, difference in rework.differences(chunk_id):
                    if not refuse:
                        raise _WrongCountError(difference)
                    self._refused.setdefault(client_id, []).append(difference)
                await _together(
                    self._write(outturns[client_id], chunk, spans[chunk_id])
                    for client_id, chunk in rework.close(chunk_id).items()
                    if client_id not in self._refused
                )

    async def _write(self, outturn: Outturn, chunk: Chunk, span: ChunkSpan) -> None:
        """The chunk's events of one cell, where they come out otherwise than what there is."""
        outturn.add_counts(chunk)
        drafts = []
        for draft in chunk.drafts.values():
            _, sha256 = await asyncio.to_thread(compress, draft.lines)
            same = same_object(draft, sha256.hex(), chunk.id, outturn.cell.objects)
            async with self._slots:
                is_kept = same is not None and await self._is_intact(same)
            if same is not None and is_kept:
                outturn.kept.add(same.id)
            else:
                drafts.append(draft)
            if draft.kind == "client":
                await asyncio.to_thread(outturn.shown_after.add, draft.lines)
                if is_kept:
                    await asyncio.to_thread(outturn.shown_before.add, draft.lines)
        outturn.new_objects += len(drafts)
        if self._replay_id is None or not drafts:
            return
        try:
            outturn.new += await _together(self._put(draft, chunk, span, outturn.cell) for draft in drafts)
        except UnusableKeyError as error:
            self._refused.setdefault(outturn.cell.client_id, []).append(str(error))

    async def _is_intact(self, item: CurrentObject) -> bool:
        """Whether the object is still there; one that was lost is written anew."""
        metadata = await self._shop.processed.head(item.key)
        return metadata is not None and metadata.get("sha256") == item.sha256

    async def _put(self, draft: Draft, chunk: Chunk, span: ChunkSpan, cell: Cell) -> NewObject:
        async with self._slots:
            revision_id = await self._revision_id(cell)
            key = processed_key(
                draft.kind,
                draft.client_id,
                self._hour,
                self._shop.topic,
                span.partition,
                span.first_offset,
                f"{chunk.id}-{revision_id}",
            )
            metadata = {
                "chunk-id": str(chunk.id),
                "first-position": str(chunk.first_position),
                "last-position": str(chunk.after.last_position),
                "revision": str(revision_id),
            }
            stored = await put_draft(self._shop.processed, draft, key=key, metadata=metadata)
        reach("replay.after_put")
        return NewObject(chunk_id=chunk.id, object=stored)

    async def _revision_id(self, cell: Cell) -> int:
        if cell.client_id not in self._revision_ids:
            async with connected(self._shop.pool) as connection:
                self._revision_ids.setdefault(cell.client_id, await revisions.reserve(connection))
        return self._revision_ids[cell.client_id]

    async def _settle(self, outturn: Outturn, rework: Rework, state: HourState, source: str) -> None:
        """Commit what has changed in a cell, and that the replay is done with it."""
        cell = outturn.cell
        old = [item for item in cell.objects if item.kind == "client" and item.id not in outturn.kept]
        for shown in await _together(self._shown(item) for item in old):
            outturn.shown_before.merge(shown)
        async with connected(self._shop.pool) as connection:
            files = await files_of(connection, outturn.superseded)
        summary = summary_of(outturn, rework.findings[cell.client_id], source, files)
        if self._replay_id is not None:
            try:
                await self._commit(outturn, summary, self._replay_id)
            except FencedError:
                log.warning("processor.replay.fenced", client_id=cell.client_id, hour=str(state.hour))
                self.undone.add(cell.client_id)
                return
        self.summaries.append(summary)

    async def _shown(self, item: CurrentObject) -> Shown:
        """What an object of now shows. One that is lost shows nothing."""
        shown = Shown()
        async with self._slots:
            try:
                body = await self._shop.processed.get(item.key)
                await asyncio.to_thread(lambda: shown.add(_lines_of(body)))
            except (PermanentError, GzipError) as error:
                log.warning("processor.replay.object_unreadable", object_id=item.id, reason=str(error))
        return shown

    async def _commit(self, outturn: Outturn, summary: CellSummary, replay_id: int) -> None:
        cell = outturn.cell
        if not outturn.is_changed:
            async with connected(self._shop.pool) as connection:
                await replays.progress(connection, replay_id, cell.client_id, cell.hour, None)
            return
        for new in outturn.new:
            if new.object.kind == "client" and not self._is_current(new):
                raise FencedError("the client's settings have changed since its events were filtered")
        revision = Revision(
            id=await self._revision_id(cell),
            cause="quarantine" if cell.client_id == QUARANTINE else "replay",
            client_id=cell.client_id,
            hour=cell.hour,
            superseded=outturn.superseded,
            removed=outturn.removed,
            added=outturn.added,
            objects=outturn.new,
            replay_id=replay_id,
            summary=summary,
        )
        reach("replay.before_record")
        old = {item.id: item.key for item in cell.objects}
        await records.put_revision(self._shop.processed, revision, [old[id_] for id_ in revision.superseded])
        reach("replay.before_commit")
        async with connected(self._shop.pool) as connection, connection.transaction():
            await revisions.supersede(connection, revision)
            await replays.progress(connection, replay_id, cell.client_id, cell.hour, revision.id)
            await ledger.audit_stored(
                connection,
                subject=f"replay {replay_id}",
                actor="processor",
                objects=[new.object for new in revision.objects],
            )
        reach("replay.after_commit")
        log.info(
            "processor.cell.replayed",
            client_id=cell.client_id,
            hour=str(cell.hour),
            revision=revision.id,
            objects=len(revision.objects),
        )

    def _is_current(self, new: NewObject) -> bool:
        return new.object.policy_version == current_version(self._shop.policies, new.object.client_id)


def _lines_of(body: bytes) -> Iterator[bytes]:
    for _, content in gzip.members(body):
        yield from content.split(b"\n")[:-1]


def _take_all(rework: Rework, batch: Batch) -> None:
    for event in batch.events:
        rework.take(*event)


async def _together(work: Iterable[Coroutine[Any, Any, T]]) -> list[T]:
    """All of it at once; when any fails, the others are waited for and the first failure is raised."""
    answers = await asyncio.gather(*work, return_exceptions=True)
    for answer in answers:
        if isinstance(answer, BaseException):
            raise answer
    return [answer for answer in answers if not isinstance(answer, BaseException)]
