"""Held events leave by themselves once their client can be read: filtered, in place of the held object, exactly once.

Beside the loop that consumes. What it changes, it changes as a replay does: one revision for each held object, in one
transaction that is fenced when anybody was faster.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections import Counter
from collections.abc import Callable
from contextlib import suppress

from database.ledger import Pool, chunks, connected, held, records, revisions
from database.ledger.chunks import ConsumerPosition, ProcessedObject
from database.ledger.held import HeldObject
from database.ledger.revisions import NewObject, Revision
from pipeline import failpoints, gzip, logs, metrics
from pipeline.clients import Client
from pipeline.errors import FencedError, PermanentError, PipelineError, PoisonError
from pipeline.keys import microseconds_of, processed_key, source_client_id
from pipeline.position import Position
from pipeline.record import text_column
from pipeline.s3 import ObjectStore
from processor.chunk import Chunk
from processor.outcome import Outcome, filtered
from processor.policies import PolicyCache
from processor.writer import UnusableKeyError, put_draft

log = logs.get(__name__)

REST_SECONDS = 5.0
_AT_ONCE = 100
"""Objects of one client that are released before the next client has its turn."""

_SLICE = 500
"""Events that are filtered between two turns of the event loop: heartbeats must go on."""


class Releaser:
    """Releases what is held. One process at a time does it; the others look on."""

    def __init__(self, *, policies: PolicyCache, pool: Pool, bucket: ObjectStore, fresh: Callable[[], bool]) -> None:
        """`fresh`: whether the clients' settings are known as of now; nothing is released on old ones."""
        self._policies = policies
        self._pool = pool
        self._bucket = bucket
        self._fresh = fresh

    async def run(self, stop: asyncio.Event) -> None:
        """Look every REST_SECONDS until `stop` is set. Our own errors are logged, any other is raised."""
        while not stop.is_set():
            try:
                await self.turn()
            except PipelineError as error:
                log.warning("processor.release.failed", error=str(error), error_class=type(error).__name__)
            with suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), REST_SECONDS)

    async def turn(self) -> int:
        """Release what can be; returns how many objects. An object that is damaged is named in the log and stays."""
        async with connected(self._pool) as connection:
            waiting = await held.waiting(connection)
            metrics.HELD_OBJECTS.set(sum(waiting.values()))
            ready = [client_id for client_id in waiting if self._is_ready(client_id)]
            if not ready:
                return 0
            async with held.alone(connection) as mine:
                return sum([await self._release_client(client_id) for client_id in ready]) if mine else 0

    def _is_ready(self, client_id: str) -> bool:
        if not self._fresh():
            return False
        client = self._policies.client(client_id)
        return isinstance(client, Client) and (not client.is_active or self._policies.policy(client) is not None)

    async def _release_client(self, client_id: str) -> int:
        async with connected(self._pool) as connection:
            found = await held.objects_of(connection, client_id, _AT_ONCE)
        released = 0
        for item in found:
            try:
                await self._release(item)
                released += 1
            except UnusableKeyError as error:
                self._policies.refuse(error.client_id)
                break
            except FencedError:
                log.info("processor.release.fenced", object=item.key)
            except PermanentError as error:
                log.error("processor.release.refused", object=item.key, error=str(error))
        return released

    async def _release(self, item: HeldObject) -> None:
        async with connected(self._pool) as connection:
            counts = await held.counts_of(connection, item)
            number = await revisions.reserve(connection)
        chunk = await self._filter(item)
        objects = [
            NewObject(chunk_id=item.chunk_id, object=stored) for stored in await self._store(item, chunk, number)
        ]
        try:
            revision = Revision(
                id=number,
                cause="release",
                client_id=item.client_id,
                hour=item.hour,
                superseded=[item.id],
                removed=counts,
                added={(item.chunk_id, key): events for key, events in chunk.counts().items()},
                objects=objects,
                summary={"events": item.events},
            )
        except ValueError as error:
            raise PermanentError(f"{item.key}: {error}", hint="run python -m database reconcile") from error
        await records.put_revision(self._bucket, revision, [item.key])
        failpoints.reach("processor.release.after_put")
        async with connected(self._pool) as connection, connection.transaction():
            await revisions.supersede(connection, revision)
            await chunks.audit_stored(
                connection, actor="processor", subject=f"revision {number}", objects=[new.object for new in objects]
            )
        failpoints.reach("processor.release.after_ledger")
        dispositions: Counter[str] = Counter()
        for (_, _, _, disposition), events in chunk.counts().items():
            dispositions[disposition] += events
        for disposition, events in dispositions.items():
            metrics.RELEASED_EVENTS.labels(disposition).inc(events)
        log.info("processor.held.released", client_id=item.client_id, object=item.key, **dispositions)

    async def _filter(self, item: HeldObject) -> Chunk:
        """What its events come out as now, as a chunk of their own. Raises PermanentError for a damaged object."""
        body = await self._bucket.get(item.key)
        if hashlib.sha256(body).hexdigest() != item.sha256:
            raise PermanentError(f"{item.key} is not what was written", hint="restore its version")
        lines = b"".join(content for _, content in gzip.members(body)).split(b"\n")[:-1]
        del body
        position = Position.parse(item.first_position)
        before = ConsumerPosition(next_offset=item.first_offset, last_sequence=-1, last_position=position)
        chunk = Chunk(item.chunk_id, before, 0.0)
        first, last = microseconds_of(item.min_commit_time), microseconds_of(item.max_commit_time)
        fate = self._fate(item)
        for number, line in enumerate(lines):
            if number % _SLICE == 0:
                await asyncio.sleep(0)
            # Of single events only their hour is known: the object's bounds stay those of what comes of it.
            chunk.add(fate(line), _source(line), position, number, first)
        for draft in chunk.drafts.values():
            draft.max_commit_time = last
        return chunk

    def _fate(self, item: HeldObject) -> Callable[[bytes], Outcome]:
        """What becomes of its events, by the settings of this moment for all of them.

        As `outcome.decide`, but that they stay the events of the client for whom they were held. Raises FencedError
        when that client can't be read any more.
        """
        client = self._policies.client(item.client_id)
        if isinstance(client, Client):
            if not client.is_active:
                return lambda line: Outcome("quarantine", "quarantine", "", line)
            policy = self._policies.policy(client)
            if policy is not None:
                place = f"{item.first_position} to {item.last_position}"
                return lambda line: filtered(client, policy, line, place)
        raise FencedError(f"client {item.client_id} can't be read any more")

    async def _store(self, item: HeldObject, chunk: Chunk, number: int) -> list[ProcessedObject]:
        stored = []
        for draft in chunk.drafts.values():
            key = processed_key(
                draft.kind,
                draft.client_id,
                item.hour,
                item.topic,
                item.partition,
                item.first_offset,
                f"{item.chunk_id}-{number}",
            )
            metadata = {
                "chunk-id": str(item.chunk_id),
                "first-position": item.first_position,
                "last-position": item.last_position,
                "revision": str(number),
            }
            stored.append(await put_draft(self._bucket, draft, key=key, metadata=metadata))
        return stored


def _source(line: bytes) -> str:
    """As the ledger has counted it when the event was held: then its columns could be read."""
    try:
        return source_client_id(text_column(line, "client_id"))
    except PoisonError as error:
        raise PermanentError("a held record has no client_id column") from error
