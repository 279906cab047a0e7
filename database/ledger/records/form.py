"""What all records have in common: gzip around JSON, times, processed objects. Pure."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import orjson

from database.ledger.chunks import ProcessedObject
from pipeline import gzip
from pipeline.errors import PoisonError
from pipeline.gzip import GzipError

JSON = "application/json"
_TIMES = ("hour", "min_commit_time", "max_commit_time")


def pack(document: Any) -> bytes:
    """A record's bytes: gzip around JSON."""
    return gzip.member(orjson.dumps(document))


def unpack(body: bytes) -> Any:
    """The inverse of `pack`. Raises PoisonError."""
    try:
        return orjson.loads(b"".join(content for _, content in gzip.members(body)))
    except (GzipError, ValueError) as error:
        raise PoisonError("a record is damaged") from error


def time_of(text: str) -> datetime:
    """A time as orjson prints it. Raises ValueError."""
    return datetime.fromisoformat(text).astimezone(UTC)


def processed_object(item: dict[str, Any]) -> ProcessedObject:
    """The inverse of `members`. Raises TypeError or ValueError."""
    values: dict[str, Any] = {name: time_of(value) if name in _TIMES else value for name, value in item.items()}
    return ProcessedObject(**values)


def members(item: ProcessedObject) -> dict[str, Any]:
    """A processed object as a member of a record."""
    return {name: getattr(item, name) for name in ProcessedObject.__dataclass_fields__}
