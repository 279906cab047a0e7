"""Records of chunks: one for each, also for those without objects."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from database.ledger.chunks import ChunkCommit, ConsumerPosition
from database.ledger.records.form import JSON, members, pack, processed_object, time_of, unpack
from pipeline.errors import PoisonError
from pipeline.position import Position
from pipeline.s3 import ObjectStore, digest

CHUNKS = "ledger/chunks/"


def chunk_key(topic: str, partition: int, first_offset: int, chunk_id: UUID) -> str:
    """The key of a chunk's record; `first_offset` as the ledger has it."""
    return f"{CHUNKS}{topic}/{partition}/{first_offset:020d}-{chunk_id}.json.gz"


def chunks_after(topic: str, partition: int, offset: int) -> tuple[str, str]:
    """(prefix, key) of a listing of the records of that partition's chunks that begin behind `offset`."""
    prefix = f"{CHUNKS}{topic}/{partition}/"
    return prefix, f"{prefix}{offset:020d}."  # a full stop comes after the hyphen of a chunk that begins there


async def put_chunk(bucket: ObjectStore, chunk: ChunkCommit) -> None:
    """Leave the record of `chunk` in the processed bucket: before its commit, durable on return.

    Raises what `ObjectStore.put_new` raises.
    """
    body = encode_chunk(chunk)
    first_offset = min(chunk.before.next_offset, chunk.after.next_offset)
    await bucket.put_new(
        chunk_key(chunk.topic, chunk.partition, first_offset, chunk.id),
        body,
        sha256=digest(body),
        metadata={
            "chunk-id": str(chunk.id),
            "first-position": str(chunk.first_position),
            "last-position": str(chunk.after.last_position),
        },
        content_type=JSON,
    )


def encode_chunk(chunk: ChunkCommit) -> bytes:
    """The bytes of a chunk's record."""
    document = {
        "id": str(chunk.id),
        "topic": chunk.topic,
        "partition": chunk.partition,
        "generation": chunk.generation,
        "before": _stand(chunk.before),
        "after": _stand(chunk.after),
        "first_position": str(chunk.first_position),
        "counts": [[hour, *names, events] for (hour, *names), events in chunk.counts.items()],
        "objects": [members(item) for item in chunk.objects],
    }
    return pack(document)


def decode_chunk(body: bytes) -> ChunkCommit:
    """The inverse of `encode_chunk`. Raises PoisonError."""
    document = unpack(body)
    try:
        return ChunkCommit(
            id=UUID(document["id"]),
            topic=document["topic"],
            partition=document["partition"],
            generation=document["generation"],
            before=_parse_stand(document["before"]),
            after=_parse_stand(document["after"]),
            first_position=Position.parse(document["first_position"]),
            counts={
                (time_of(hour), source, client, disposition): events
                for hour, source, client, disposition, events in document["counts"]
            },
            objects=[processed_object(item) for item in document["objects"]],
        )
    except (KeyError, TypeError, ValueError) as error:
        raise PoisonError("a chunk's record is damaged") from error


def _stand(stand: ConsumerPosition) -> list[Any]:
    return [stand.next_offset, stand.last_sequence, str(stand.last_position)]


def _parse_stand(parts: Any) -> ConsumerPosition:
    next_offset, last_sequence, last_position = parts
    return ConsumerPosition(
        next_offset=int(next_offset), last_sequence=int(last_sequence), last_position=Position.parse(last_position)
    )
