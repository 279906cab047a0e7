"""One file into the client's bucket, such that late writers do no harm and PutObject is all that is needed."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import IO

from database.ledger.deliveries import Run
from database.ledger.delivery_files import Announced
from pipeline.destination import refusal
from pipeline.errors import FencedError, PipelineError
from pipeline.s3 import NotSupportedError, ObjectStore
from syncer.manifest import latest_key, manifest_key, sha256_of

_JSON = "application/json"


async def put_file(
    bucket: ObjectStore,
    key: str,
    body: bytes | IO[bytes],
    *,
    sha256: str,
    metadata: dict[str, str],
    announced: Announced,
    still_ours: Callable[[], Awaitable[None]],
) -> None:
    """Write the file; its content was announced to the ledger. Raises ClientBucketError or TransientError.

    A process that was paused and lost its run may still come here. As long as every attempt has the same bytes we only
    create the key, so its late PUT finds the key taken. Once attempts differed (the policy changed) or the file is
    built again, the owner overwrites. `still_ours` asks the ledger before a key is overwritten; it raises FencedError.
    """
    digest = bytes.fromhex(sha256)
    try:
        if announced is not Announced.CHANGED:
            try:
                if await bucket.create(key, body, sha256=digest, metadata=metadata):
                    return
                if announced is Announced.AGAIN:
                    return  # an attempt before this one wrote these very bytes
            except NotSupportedError:
                pass  # a store without conditional writes
            # Announced for the first time, and yet the key is taken: an answer of this call was lost, or a stranger's
            # object is there, or we slept and somebody else delivers this run.
            if not isinstance(body, bytes):
                body.seek(0)
        await still_ours()
        await bucket.put(key, body, sha256=digest, metadata=metadata)
    except FencedError:
        raise
    except PipelineError as error:
        raise refusal(error, f"s3://{bucket.bucket}/{key}") from error.__cause__


async def put_manifest(bucket: ObjectStore, run: Run, text: str) -> None:
    """Write the run's manifest. Every attempt has the same bytes."""
    await _put_text(bucket, manifest_key(run.prefix, run.run_key), text)


async def put_latest(bucket: ObjectStore, prefix: str, text: str) -> None:
    """Let `latest.json` be this manifest."""
    await _put_text(bucket, latest_key(prefix), text)


async def _put_text(bucket: ObjectStore, key: str, text: str) -> None:
    digest = bytes.fromhex(sha256_of(text))
    try:
        await bucket.put(key, text.encode(), sha256=digest, metadata={}, content_type=_JSON)
    except PipelineError as error:
        raise refusal(error, f"s3://{bucket.bucket}/{key}") from error.__cause__
