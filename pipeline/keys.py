"""Keys of objects, and the hour that they are filed under."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import lru_cache

from pipeline.clients import CLIENT_ID
from pipeline.position import Position

HOUR_MICROSECONDS = 3_600_000_000
_EPOCH = datetime.fromtimestamp(0, UTC)


def time_of(commit_time: int) -> datetime:
    """The time of `commit_time` (microseconds since 1970), in UTC and exact."""
    return _EPOCH + timedelta(microseconds=commit_time)


def microseconds_of(time: datetime) -> int:
    """The inverse of `time_of`."""
    return (time - _EPOCH) // timedelta(microseconds=1)


def hour_of(commit_time: int) -> datetime:
    """The hour of `commit_time` (microseconds since 1970), in UTC."""
    return _EPOCH + timedelta(hours=commit_time // HOUR_MICROSECONDS)


def partition_path(hour: datetime) -> str:
    """`dt=YYYY-MM-DD/hr=HH`: what Athena, Spark and DuckDB read as columns."""
    return hour.astimezone(UTC).strftime("dt=%Y-%m-%d/hr=%H")


def raw_key(first: Position, last: Position, first_commit_time: int) -> str:
    """The key of a raw file; the minute is that of its first commit."""
    return f"raw-events/{time_of(first_commit_time):%Y/%m/%d/%H/%M}/{first}-{last}.ndjson.gz"


def processed_key(
    kind: str, client_id: str, hour: datetime, topic: str, partition: int, first_offset: int, chunk_id: str
) -> str:
    """The key of a processed object. The chunk's id makes it unique: two owners of a partition never share a key."""
    folder = {
        "client": f"processed-events/{client_id}",
        "held": f"held/{client_id}",
        "quarantine": "quarantine",
        "dead_letter": "dead-letters",
    }[kind]
    return f"{folder}/{partition_path(hour)}/{topic}-{partition}-{first_offset:020d}-{chunk_id}.ndjson.gz"


@lru_cache(maxsize=4096)
def source_client_id(client_id: str | None) -> str:
    """How the ledger counts a client_id of the source: '' for NULL, '!' for what can't be an id.

    Bounded on purpose: a forger must not fill the ledger with ids, and row values stay out of it.
    """
    if client_id is None:
        return ""
    return client_id if CLIENT_ID.fullmatch(client_id) else "!"
