"""Was the ledger set back? What others keep of its steps must never be ahead of it.

An older backup that is restored, or a standby that had not received the last commits, looks like any other ledger; a
service that goes on from there does again what was done. But commits leave traces: the consumer group is told how far
a partition was committed; a chunk's record says where the chunk began, which is where another one was committed; plans
and copies of manifests are written once their run is committed. Traces are read before the ledger is, so what others
commit meanwhile is no trace ahead of it.

The last step before the loss may have left none: a chunk of whose commit the group was never told, a run without files
and manifest.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterable, Mapping
from itertools import chain

from database.ledger import Pool, chunks, connected
from database.ledger.chunks import ConsumerPosition
from database.ledger.deliveries import newest_run_keys
from database.ledger.records import chunks_after, decode_chunk, manifests_after, plans_after
from pipeline import logs, metrics
from pipeline.errors import PermanentError, PoisonError
from pipeline.health import Health
from pipeline.s3 import Listed, ObjectStore

log = logs.get(__name__)

_PAGE = 1_000
"""Records that are looked at beyond a partition's place: none, unless the topic was made anew under its old name."""

_NEWEST = 3
"""Of these so many are read: of several processes that wrote last, one had read the ledger as it was."""


class LedgerSetBackError(PermanentError):
    """The ledger is older than what was made of it: whoever goes on does again what was done."""

    def __init__(self, what: str) -> None:
        super().__init__(
            f"the ledger is older than what was recorded elsewhere: {what}",
            hint="it was lost or set back: stop all services and run python -m database rebuild-ledger",
        )


async def check_partitions(
    pool: Pool, bucket: ObjectStore, topic: str, partitions: Collection[int], told: Mapping[int, int]
) -> None:
    """Raise LedgerSetBackError when more of a partition was processed than the ledger knows.

    `told`: by partition, the last sequence that the consumer group was told of. `bucket` is the processed one. Writes
    nothing. Raises TransientError when the ledger or S3 is away.
    """
    async with connected(pool) as connection:
        before = await chunks.stands(connection, topic)
    proofs = await asyncio.gather(
        *(_recorded(bucket, topic, partition, before.get(partition, chunks.NOWHERE)) for partition in partitions)
    )
    async with connected(pool) as connection:
        now = await chunks.stands(connection, topic)
    for partition, recorded in zip(partitions, proofs, strict=True):
        known = now.get(partition, chunks.NOWHERE).last_sequence
        proven = max(recorded, told.get(partition, -1))
        if proven > known:
            raise LedgerSetBackError(f"{topic}-{partition} was processed to sequence {proven}, the ledger says {known}")


async def _recorded(bucket: ObjectStore, topic: str, partition: int, stand: ConsumerPosition) -> int:
    """The sequence that the partition must have reached, by the records of its chunks; -1: they say nothing."""
    prefix, after = chunks_after(topic, partition, stand.next_offset)
    found = await _page(bucket, prefix, after)
    newest = sorted(found, key=lambda item: item.modified_at)[-_NEWEST:]
    bodies = await asyncio.gather(*(bucket.get(item.key) for item in newest))
    return proven_sequence(bodies)


def proven_sequence(bodies: Iterable[bytes]) -> int:
    """The furthest sequence at which one of these chunks began; a record that can't be read says nothing. Pure.

    Where a chunk ends proves nothing: its record is written before its commit.
    """
    reached = -1
    for body in bodies:
        try:
            reached = max(reached, decode_chunk(body).before.last_sequence)
        except PoisonError:
            continue
    return reached


async def check_deliveries(pool: Pool, bucket: ObjectStore, client_ids: Collection[str]) -> None:
    """Raise LedgerSetBackError when one of these clients was delivered more than the ledger knows.

    Raises like `check_partitions`.
    """
    async with connected(pool) as connection:
        before = await newest_run_keys(connection, client_ids)
    found = await asyncio.gather(*(_later_run(bucket, name, before.get(name, "")) for name in client_ids))
    ahead = {name: run_key for name, run_key in zip(client_ids, found, strict=True) if run_key}
    if not ahead:
        return
    async with connected(pool) as connection:
        now = await newest_run_keys(connection, ahead)
    for name, run_key in ahead.items():
        if run_key > now.get(name, ""):
            raise LedgerSetBackError(f"run {run_key} of client {name} was delivered, the ledger has never heard of it")


async def _later_run(bucket: ObjectStore, client_id: str, run_key: str) -> str:
    """The last run after `run_key` of which S3 has the plan or the manifest; '' when there is none."""
    places = (plans_after(client_id, run_key), manifests_after(client_id, run_key))
    found = await asyncio.gather(*(_page(bucket, prefix, after) for prefix, after in places))
    names = (item.key.rpartition("/")[2].partition(".")[0] for item in chain.from_iterable(found))
    return max(names, default="")


async def refuse(error: BaseException, health: Health, stop: asyncio.Event) -> None:
    """What a service does about it: nothing, unready and with an alert, until it is stopped."""
    metrics.LEDGER_SET_BACK.set(1)
    log.error("service.ledger.refused", error=str(error))
    await health.refuse(str(error), stop)


async def _page(bucket: ObjectStore, prefix: str, after: str) -> list[Listed]:
    found = []
    async for item in bucket.list(prefix, after=after):
        found.append(item)
        if len(found) == _PAGE:
            break
    return found
