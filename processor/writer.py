"""A finished chunk becomes objects in S3, then rows of the ledger: only then it exists."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Mapping

from database.ledger import Pool, connected, records
from database.ledger import chunks as ledger
from pipeline import failpoints, logs, metrics
from pipeline.clients import PrivacyLevel
from pipeline.errors import PermanentError, PipelineError, TransientError
from pipeline.gzip import member
from pipeline.keys import HOUR_MICROSECONDS, hour_of, processed_key, time_of
from pipeline.privacy.envelope import ENCRYPTION
from pipeline.s3 import ObjectStore
from processor.chunk import Chunk, Draft

log = logs.get(__name__)

PARALLEL_PUTS = 16

OUTAGE_SECONDS = 90.0
"""How long S3 or the ledger may be away while a chunk is held ready; then the process ends and reads it again."""

_FIRST_REST_SECONDS = 0.5
_LONGEST_REST_SECONDS = 10.0


class UnusableKeyError(PermanentError):
    """The client's own KMS key refuses: that client's events must be held, its neighbours go on."""

    def __init__(self, client_id: str) -> None:
        super().__init__(
            f"the KMS key of client {client_id} can't be used",
            hint="the processor needs kms:GenerateDataKey on client_s3_kms_key",
        )
        self.client_id = client_id


class Writer:
    """Writes chunks of one topic. `clock`: seconds, monotonic; `turned` is called while it works or waits."""

    def __init__(
        self,
        bucket: ObjectStore,
        pool: Pool,
        topic: str,
        *,
        clock: Callable[[], float],
        turned: Callable[[], None],
    ) -> None:
        self._bucket = bucket
        self._pool = pool
        self._topic = topic
        self._clock = clock
        self._turned = turned
        self._slots = asyncio.Semaphore(PARALLEL_PUTS)

    async def write(self, chunk: Chunk, partition: int, generation: int) -> None:
        """Durable and visible on return. What fails for the moment is tried again, for OUTAGE_SECONDS.

        Raises FencedError when another owner of the partition was faster, or when a commit whose answer was lost stands
        already: in either case the ledger says where to go on. Raises UnusableKeyError for a client's key, and
        TransientError when the outage lasts.
        """
        stored: dict[tuple[str, str, int], ledger.ProcessedObject] = {}
        until, rest = self._clock() + OUTAGE_SECONDS, _FIRST_REST_SECONDS
        with metrics.CHUNK_SECONDS.time():
            while True:
                try:
                    await self._try(chunk, partition, generation, stored)
                    break
                except TransientError as error:
                    if self._clock() + rest > until:
                        raise
                    metrics.CHUNK_RETRIES.inc()
                    log.warning("processor.chunk.delayed", partition=partition, error=str(error))
                self._turned()
                await asyncio.sleep(rest)
                rest = min(2 * rest, _LONGEST_REST_SECONDS)
        metrics.CHUNKS.inc()

    async def _try(
        self,
        chunk: Chunk,
        partition: int,
        generation: int,
        stored: dict[tuple[str, str, int], ledger.ProcessedObject],
    ) -> None:
        """One attempt; `stored` keeps what is in S3 already."""
        missing = [(key, draft) for key, draft in chunk.drafts.items() if key not in stored]
        # Not a task group: one object's failure must not hide what became of the others.
        answers = await asyncio.gather(
            *(self._put(chunk, draft, partition) for _, draft in missing), return_exceptions=True
        )
        for (key, _), answer in zip(missing, answers, strict=True):
            if not isinstance(answer, BaseException):
                stored[key] = answer
        if failed := [answer for answer in answers if isinstance(answer, BaseException)]:
            raise min(failed, key=_gravity)
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
            objects=[stored[key] for key in chunk.drafts],
        )
        await records.put_chunk(self._bucket, commit)
        failpoints.reach("processor.after_put")
        async with connected(self._pool) as connection:
            await ledger.commit_chunk(connection, commit)
        failpoints.reach("processor.after_ledger")

    async def _put(self, chunk: Chunk, draft: Draft, partition: int) -> ledger.ProcessedObject:
        async with self._slots:
            hour = hour_of(draft.hour * HOUR_MICROSECONDS)
            key = processed_key(
                draft.kind, draft.client_id, hour, self._topic, partition, chunk.before.next_offset, str(chunk.id)
            )
            metadata = {
                "chunk-id": str(chunk.id),
                "first-position": str(chunk.first_position),
                "last-position": str(chunk.after.last_position),
            }
            stored = await put_draft(self._bucket, draft, key=key, metadata=metadata)
        self._turned()
        return stored


async def put_draft(
    bucket: ObjectStore, draft: Draft, *, key: str, metadata: Mapping[str, str]
) -> ledger.ProcessedObject:
    """Write one object, durable on return; what the ledger has to know of it. May be repeated.

    At hipaa it is stored under SSE-KMS: with the client's key, else the bucket's. `metadata` goes beside the draft's
    own. Raises UnusableKeyError when the client's key refuses, and what `ObjectStore.put_new` raises.
    """
    body, sha256 = await asyncio.to_thread(compress, draft.lines)
    own = {
        "events": str(len(draft.lines)),
        "kind": draft.kind,
        "client-id": draft.client_id,
        "privacy-level": draft.privacy_level,
        "policy-version": draft.policy_version,
        "min-commit-time": str(draft.min_commit_time),
        "max-commit-time": str(draft.max_commit_time),
    }
    is_hipaa = draft.privacy_level == PrivacyLevel.HIPAA
    if is_hipaa:
        own["encryption"] = ENCRYPTION
    try:
        await bucket.put_new(
            key, body, sha256=sha256, metadata={**metadata, **own}, kms_key=draft.kms_key if is_hipaa else None
        )
    except PermanentError as error:
        if draft.kms_key:
            raise UnusableKeyError(draft.client_id) from error
        raise
    return ledger.ProcessedObject(
        kind=draft.kind,
        client_id=draft.client_id,
        hour=hour_of(draft.hour * HOUR_MICROSECONDS),
        bucket=bucket.bucket,
        key=key,
        events=len(draft.lines),
        bytes=len(body),
        sha256=sha256.hex(),
        privacy_level=draft.privacy_level,
        policy_version=draft.policy_version,
        min_commit_time=time_of(draft.min_commit_time),
        max_commit_time=time_of(draft.max_commit_time),
    )


def _gravity(error: BaseException) -> int:
    """Which of several failures to tell: what none of us knows, what stays, what one client has, what passes by."""
    match error:
        case UnusableKeyError():
            return 2
        case TransientError():
            return 3
        case PipelineError():
            return 1
    return 0


def compress(lines: list[bytes]) -> tuple[bytes, bytes]:
    """An object's body and its SHA-256 (32 bytes); the same lines give the same bytes."""
    body = member(b"\n".join([*lines, b""]))  # one copy of all lines, not two
    return body, hashlib.sha256(body).digest()
