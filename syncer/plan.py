"""How processed objects become files of a delivery. Pure: the caller reads the objects and stores the plan."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from itertools import groupby

from database.ledger.delivery_plans import PendingObject, PlannedFile
from pipeline.keys import partition_path


def file_key(prefix: str, hour: datetime, run_key: str, number: int) -> str:
    """The key of file `number` (from 1) of a run in the client's bucket."""
    return f"{prefix}events/{partition_path(hour)}/{run_key}-{number:05d}.ndjson.gz"


def plan_files(objects: Iterable[PendingObject], *, prefix: str, run_key: str, max_bytes: int) -> list[PlannedFile]:
    """Every object in exactly one file, ordered by id within it; a file has one hour and one policy.

    A file has at most `max_bytes` compressed bytes, unless a single object is larger. One policy per file, because a
    manifest states it per file, and because what happens at delivery depends on it.
    """
    ordered = sorted(objects, key=lambda o: (o.hour, o.privacy_level, o.policy_version, o.id))
    files: list[PlannedFile] = []
    for (hour, _, policy_version), group in groupby(ordered, key=lambda o: (o.hour, o.privacy_level, o.policy_version)):
        for cut in _cuts(group, max_bytes):
            files.append(
                PlannedFile(
                    key=file_key(prefix, hour, run_key, len(files) + 1),
                    hour=hour,
                    policy_version=policy_version,
                    members=tuple(o.id for o in cut),
                )
            )
    return files


def _cuts(objects: Iterable[PendingObject], max_bytes: int) -> Iterable[Sequence[PendingObject]]:
    cut: list[PendingObject] = []
    size = 0
    for item in objects:
        if cut and size + item.bytes > max_bytes:
            yield cut
            cut, size = [], 0
        cut.append(item)
        size += item.bytes
    if cut:
        yield cut
