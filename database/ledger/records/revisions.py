"""Records of revisions of cells: by replays, releases, retention."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal
from uuid import UUID

from database.ledger.records.form import JSON, members, pack, processed_object, time_of, unpack
from database.ledger.revisions import NewObject, Revision, Rows
from pipeline.errors import PoisonError
from pipeline.s3 import ObjectStore, digest

REVISIONS = "ledger/revisions/"


@dataclass(frozen=True, slots=True, kw_only=True)
class RevisionRecord:
    """A revision of a cell that was, or was about to be, committed. `superseded` are keys of objects."""

    id: int
    cause: Literal["replay", "quarantine", "release", "retention"]
    client_id: str
    hour: datetime
    superseded: tuple[str, ...]
    removed: Rows
    added: Rows
    objects: tuple[NewObject, ...]
    summary: Mapping[str, Any]


def revision_key(revision_id: int, body: bytes) -> str:
    """The key of a revision's record. With a digest: a ledger that was rewound gives the same numbers out again."""
    return f"{REVISIONS}{revision_id:020d}-{digest(body).hex()[:16]}.json.gz"


async def put_revision(bucket: ObjectStore, revision: Revision, superseded: Sequence[str]) -> None:
    """Leave the record of `revision` in the processed bucket: after its objects, before it is committed.

    `superseded`: the keys of the objects whose ids it names. May be repeated: its digest stands in the key. Raises what
    `ObjectStore.create` raises.
    """
    body = encode_revision(revision, superseded)
    metadata = {"revision": str(revision.id), "client-id": revision.client_id}
    key = revision_key(revision.id, body)
    await bucket.create(key, body, sha256=digest(body), metadata=metadata, content_type=JSON)


def encode_revision(revision: Revision, superseded: Sequence[str]) -> bytes:
    """The bytes of a revision's record."""
    document = {
        "id": revision.id,
        "cause": revision.cause,
        "client_id": revision.client_id,
        "hour": revision.hour,
        "superseded": list(superseded),
        "removed": [[str(chunk), *key, events] for (chunk, key), events in revision.removed.items()],
        "added": [[str(chunk), *key, events] for (chunk, key), events in revision.added.items()],
        "objects": [[str(new.chunk_id), members(new.object)] for new in revision.objects],
        "summary": dict(revision.summary),
    }
    return pack(document)


def decode_revision(body: bytes) -> RevisionRecord:
    """The inverse of `encode_revision`. Raises PoisonError."""
    document = unpack(body)
    try:
        return RevisionRecord(
            id=int(document["id"]),
            cause=document["cause"],
            client_id=document["client_id"],
            hour=time_of(document["hour"]),
            superseded=tuple(document["superseded"]),
            removed=_rows(document["removed"]),
            added=_rows(document["added"]),
            objects=tuple(
                NewObject(chunk_id=UUID(chunk), object=processed_object(item)) for chunk, item in document["objects"]
            ),
            summary=document["summary"],
        )
    except (KeyError, TypeError, ValueError) as error:
        raise PoisonError("a revision's record is damaged") from error


def _rows(rows: Any) -> Rows:
    return {
        (UUID(chunk), (time_of(hour), source, client, disposition)): int(events)
        for chunk, hour, source, client, disposition, events in rows
    }
