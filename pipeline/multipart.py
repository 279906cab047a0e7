"""A large object in parts: each is retried by itself, read from disk while it is sent, and checked by its SHA-256.

The object appears when the last call is answered, not before, and under the same condition as a single PUT.
https://docs.aws.amazon.com/AmazonS3/latest/userguide/mpuoverview.html
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import io
import os
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from typing import IO, Any, Protocol, cast

from pipeline.errors import PermanentError, PipelineError, TransientError

Call = Callable[..., Awaitable[Any]]
"""One operation of S3 on the bucket, with our errors."""


class PutPart(Protocol):
    """Sends one part."""

    async def __call__(
        self, key: str, body: IO[bytes], *, size: int, sha256: bytes, number: int, upload_id: str
    ) -> str:
        """Its ETag; `body` is read from where it stands and may be wound back there. With our errors."""
        ...


LARGE_BYTES = 32 << 20
"""Above this an object goes in parts."""

_PART_BYTES = 8 << 20
_MOST_PARTS = 10_000  # S3's limit
_AT_ONCE = 4
_BLOCK_BYTES = 1 << 20


async def put_in_parts(
    call: Call,
    put_part: PutPart,
    key: str,
    body: IO[bytes],
    size: int,
    options: Mapping[str, Any],
    condition: Mapping[str, str],
) -> None:
    """Write `size` bytes of `body`, which has a file descriptor. `options` are those of create_multipart_upload,
    `condition` those of the completion.

    What was uploaded is given up when that fails; s3:PutObject does not include the right to do so, and then the
    bucket's own lifecycle has to. Raises what `call` and `put_part` raise.
    """
    part_bytes = max(_PART_BYTES, -(-size // _MOST_PARTS))
    starts = range(0, size, part_bytes)
    answer = await call("create_multipart_upload", Key=key, ChecksumAlgorithm="SHA256", **options)
    upload = {"Key": key, "UploadId": answer["UploadId"]}
    slots = asyncio.Semaphore(_AT_ONCE)

    async def send(number: int, start: int) -> dict[str, Any]:
        async with slots:
            part = _Slice(body.fileno(), start, min(part_bytes, size - start))
            sha256 = await asyncio.to_thread(part.sha256)
            etag = await put_part(
                key,
                cast(IO[bytes], part),
                size=min(part_bytes, size - start),
                sha256=sha256,
                number=number,
                upload_id=upload["UploadId"],
            )
            return {"PartNumber": number, "ETag": etag, "ChecksumSHA256": base64.b64encode(sha256).decode()}

    try:
        try:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(send(number, start)) for number, start in enumerate(starts, start=1)]
        except BaseExceptionGroup as errors:
            raise _first(errors) from None
        parts = [task.result() for task in tasks]
        await _complete(call, upload, parts, condition)
    except BaseException:
        with suppress(PipelineError):
            await asyncio.shield(call("abort_multipart_upload", **upload))
        raise


async def _complete(
    call: Call, upload: Mapping[str, str], parts: list[dict[str, Any]], condition: Mapping[str, str]
) -> None:
    try:
        await call("complete_multipart_upload", MultipartUpload={"Parts": parts}, **upload, **condition)
    except PermanentError as error:
        cause = error.__cause__
        if getattr(cause, "response", {}).get("Error", {}).get("Code") == "NoSuchUpload":
            # Either a try before this one was answered into the void, or somebody gave the upload up.
            raise TransientError(f"{error.args[0]}: the upload is gone") from cause
        raise


def _first(errors: BaseExceptionGroup[BaseException]) -> BaseException:
    """The error that ended the group; the other parts were cancelled because of it."""
    error = errors.exceptions[0]
    return _first(error) if isinstance(error, BaseExceptionGroup) else error


class _Slice(io.RawIOBase):
    """A range of an open file, independent of the file's own position; no fileno, so nobody takes it for the file."""

    def __init__(self, descriptor: int, start: int, size: int) -> None:
        self._descriptor = descriptor
        self._start = start
        self._size = size
        self._at = 0

    def sha256(self) -> bytes:
        """The digest of the range, 32 bytes. Blocks."""
        found = hashlib.sha256()
        for at in range(0, self._size, _BLOCK_BYTES):
            found.update(self._read(at, min(_BLOCK_BYTES, self._size - at)))
        return found.digest()

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def read(self, size: int | None = -1) -> bytes:
        """The next bytes; b"" at the end."""
        left = self._size - self._at
        data = self._read(self._at, left if size is None or size < 0 else min(size, left))
        self._at += len(data)
        return data

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Move within the range."""
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._size}[whence]
        self._at = max(0, min(base + offset, self._size))
        return self._at

    def tell(self) -> int:
        """Where in the range."""
        return self._at

    def _read(self, at: int, size: int) -> bytes:
        return os.pread(self._descriptor, size, self._start + at)
