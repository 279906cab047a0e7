"""A finished chunk becomes objects in S3, then rows of the ledger: only then it exists."""

from __future__ import annotations

import asyncio
import hashlib

from database.ledger import Pool, connected, records
from database.ledger import chunks as ledger
from pipeline import failpoints, metrics
from pipeline.gzip import member
from pipeline.keys import HOUR_MICROSECONDS, hour_of, processed_key, time_of
from pipeline.s3 import ObjectStore
from processor.chunk import Chunk, Draft

PARALLEL_PUTS = 16


class Writer:
    """Writes chunks of one topic."""

    def __init__(self, bucket: ObjectStore, pool: Pool, topic: str) -> None:
        self._bucket = bucket
        self._pool = pool
        self._topic = topic
        self._slots = asyncio.Semaphore(PARALLEL_PUTS)

    async def write(self, chunk: Chunk, partition: int, generation: int) -> None:
        """Durable and visible on return. Raises FencedError when another owner of the partition was faster."""
        with metrics.CHUNK_SECONDS.time():
            async with asyncio.TaskGroup() as tasks:
                puts = [tasks.create_task(self._put(chunk, draft, partition)) for draft in chunk.drafts.values()]
            assert chunk.first_position is not None
            commit = ledger.ChunkCommit(
                id=chunk.id,
                topic=self._topic,
                partition=partition,
                generation=generation,
                before=chunk.before,
                after=chunk.after,
                first_position=chunk.first_position,
                counts=chunk.counts(),
                objects=[put.result() for put in puts],
            )
            await records.put_chunk(self._bucket, commit)
            failpoints.reach("processor.after_put")
            async with connected(self._pool) as connection:
                await ledger.commit_chunk(connection, commit)
            failpoints.reach("processor.after_ledger")
        metrics.CHUNKS.inc()

    async def _put(self, chunk: Chunk, draft: Draft, partition: int) -> ledger.ProcessedObject:
        async with self._slots:
            body, sha256 = await asyncio.to_thread(_compress, draft.lines)
            hour = hour_of(draft.hour * HOUR_MICROSECONDS)
            key = processed_key(
                draft.kind, draft.client_id, hour, self._topic, partition, chunk.before.next_offset, str(chunk.id)
            )
            metadata = {
                "chunk-id": str(chunk.id),
                "first-position": str(chunk.first_position),
                "last-position": str(chunk.after.last_position),
                "events": str(len(draft.lines)),
                "kind": draft.kind,
                "client-id": draft.client_id,
                "privacy-level": draft.privacy_level,
                "policy-version": draft.policy_version,
                "min-commit-time": str(draft.min_commit_time),
                "max-commit-time": str(draft.max_commit_time),
            }
            await self._bucket.put_new(key, body, sha256=sha256, metadata=metadata)
        return ledger.ProcessedObject(
            kind=draft.kind,
            client_id=draft.client_id,
            hour=hour,
            bucket=self._bucket.bucket,
            key=key,
            events=len(draft.lines),
            bytes=len(body),
            sha256=sha256.hex(),
            privacy_level=draft.privacy_level,
            policy_version=draft.policy_version,
            min_commit_time=time_of(draft.min_commit_time),
            max_commit_time=time_of(draft.max_commit_time),
        )


def _compress(lines: list[bytes]) -> tuple[bytes, bytes]:
    body = member(b"\n".join(lines) + b"\n")
    return body, hashlib.sha256(body).digest()
