"""The manifest of a run: what a reader of the client's bucket relies on. Deterministic, so that retries are equal."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import orjson

from database.ledger.deliveries import FinishedRun, Run
from database.ledger.delivery_files import DeliveredFile, ReplacedFile

SCHEMA_VERSION = 1


def manifest_key(prefix: str, run_key: str) -> str:
    """The manifest's key in the client's bucket."""
    return f"{prefix}manifests/{run_key}.json"


def latest_key(prefix: str) -> str:
    """Where the newest manifest is found without listing the bucket."""
    return f"{prefix}manifests/latest.json"


def render(
    run: Run, files: Sequence[DeliveredFile], replaced: Sequence[ReplacedFile], previous: FinishedRun | None
) -> str:
    """The manifest's text. `previous` is the run before: its digest makes the chain."""
    document = {
        "schema_version": SCHEMA_VERSION,
        "client_id": run.client_id,
        "run_key": run.run_key,
        "generated_at": rfc3339(run.started_at),
        "complete_through": run.complete_through and rfc3339(run.complete_through),
        "events": sum(file.events for file in files),
        "files": [_file(file) for file in files],
        "replaced": [_replaced(file) for file in replaced],
        "previous_manifest": previous
        and {
            "bucket": previous.bucket,
            "key": manifest_key(previous.prefix, previous.run_key),
            "sha256": previous.manifest_sha256,
        },
    }
    return orjson.dumps(document, option=orjson.OPT_INDENT_2).decode() + "\n"


def sha256_of(text: str) -> str:
    """Digest of the manifest's bytes, in hexadecimal."""
    return hashlib.sha256(text.encode()).hexdigest()


def rfc3339(time: datetime) -> str:
    """UTC with `Z`; six digits of the second unless they are all zero."""
    return time.astimezone(UTC).isoformat().replace("+00:00", "Z")


def _file(file: DeliveredFile) -> dict[str, Any]:
    return {
        "bucket": file.bucket,
        "key": file.key,
        "hour": rfc3339(file.hour),
        "events": file.events,
        "bytes": file.bytes,
        "sha256": file.sha256,
        "policy_version": file.policy_version,
        "first_commit_time": file.first_commit_time and rfc3339(file.first_commit_time),
        "last_commit_time": file.last_commit_time and rfc3339(file.last_commit_time),
    }


def _replaced(file: ReplacedFile) -> dict[str, Any]:
    return _file(file) | {
        "old_bucket": file.old_bucket,
        "old_key": file.old_key,
        "old_events": file.old_events,
        "old_sha256": file.old_sha256,
    }
