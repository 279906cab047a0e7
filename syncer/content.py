"""One file of a delivery, put together from processed objects: downloaded, checked, filtered again where needed.

Gzip members one after the other are a gzip file, so what needs no filter is copied byte by byte, and its digest alone
says that it is what the processor wrote and counted. Memory is bounded by the objects on their way; the file itself
goes to disk beyond a mebibyte.
"""

from __future__ import annotations

import asyncio
import hashlib
import tempfile
import zlib
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import IO, Any, Protocol

from isal import isal_zlib

from database.ledger.delivery_files import Content, Member
from pipeline.errors import PermanentError
from pipeline.gzip import member as gzip_member
from pipeline.privacy import Policy, UnparsableRecord
from syncer.policies import Treatment, treatment

IN_MEMORY_BYTES = 1 << 20
_AHEAD_BYTES = 16 << 20
_AHEAD_OBJECTS = 16
_BATCH_BYTES = 512 << 10
_SLICE_BYTES = 64 << 10  # compressed; one slice grows to at most 66 MB, and in practice to half a megabyte
_MEMBER_BYTES = 4 << 20

_DAMAGED: Any = isal_zlib.error  # the library's stubs take this class for an instance

UNFILTERABLE_MINIMUM = 100
UNFILTERABLE_RATIO = 0.01


class ProcessedObjectError(PermanentError):
    """A processed object is missing, damaged, or not what the ledger says."""


class Source(Protocol):
    """Where processed objects are read."""

    async def get(self, key: str) -> bytes:
        """The whole object. Raises TransientError or PermanentError."""
        ...


@dataclass(slots=True)
class Built:
    """A file ready for its PUT. `body` is read from its start."""

    body: IO[bytes]
    content: Content
    members: int
    unfilterable: int
    """Events among the dropped ones that the policy could not read."""
    when_closed: Callable[[], None] = lambda: None

    def close(self) -> None:
        """Give up memory and disk. Once."""
        self.body.close()
        self.when_closed()

    def payload(self) -> bytes | IO[bytes]:
        """What to send: small files as bytes."""
        self.body.seek(0)
        return self.body.read() if self.content.bytes <= IN_MEMORY_BYTES else self.body


async def build(members: Sequence[Member], source: Source, policy: Policy) -> Built:
    """The file made of `members`, in order; the caller closes it.

    The same members and policy give the same bytes. Raises ProcessedObjectError, or what `source` raises.
    """
    body = tempfile.SpooledTemporaryFile(max_size=IN_MEMORY_BYTES)  # noqa: SIM115 - the caller's from here on
    try:
        assembly = _Assembly(body, policy)
        async for batch in _batches(members, source):
            await asyncio.to_thread(assembly.add, batch)
        assembly.finish()
        return Built(
            body=body,
            content=Content(
                events=assembly.events,
                bytes=assembly.bytes,
                sha256=assembly.sha256.hexdigest(),
                policy_version=assembly.policy_version,
                dropped=assembly.dropped,
                first_commit_time=min((item.min_commit_time for item in members), default=None),
                last_commit_time=max((item.max_commit_time for item in members), default=None),
            ),
            members=len(members),
            unfilterable=assembly.unfilterable,
        )
    except BaseException:
        body.close()
        raise


class _Assembly:
    def __init__(self, body: IO[bytes], policy: Policy) -> None:
        self._body = body
        self._policy = policy
        self.policy_version = policy.version
        self.sha256 = hashlib.sha256()
        self.events = 0
        self.bytes = 0
        self.dropped = 0
        self.unfilterable = 0

    def add(self, batch: Sequence[tuple[Member, bytes]]) -> None:
        """Check each object and write it. Blocks."""
        for item, data in batch:
            self._add(item, data)

    def _add(self, item: Member, data: bytes) -> None:
        if hashlib.sha256(data).hexdigest() != item.sha256:
            raise ProcessedObjectError(
                f"processed object {item.id} is not the one that the ledger describes: its sha256 differs",
                hint="restore the version that the processor wrote, or replay its hour",
            )
        how = treatment(item.privacy_level, item.policy_version, self._policy)
        if how is Treatment.FILTER:
            found = self._filter(data)
            if found != item.events:
                raise ProcessedObjectError(
                    f"processed object {item.id} holds {found} events, {item.events} expected", hint="replay its hour"
                )
            return
        self._write(data)
        self.events += item.events
        if how is Treatment.KEEP:
            self.policy_version = item.policy_version

    def finish(self) -> None:
        """A file without any event is still a gzip file."""
        if not self.bytes:
            self._write(gzip_member(b""))

    def _filter(self, data: bytes) -> int:
        found = 0
        kept: list[bytes] = []
        size = 0
        unfilterable = 0
        for line in _lines(data):
            found += 1
            try:
                filtered = self._policy.apply(line).line
            except UnparsableRecord:
                unfilterable += 1
                filtered = None
            if filtered is None:
                self.dropped += 1
                continue
            kept += (filtered, b"\n")
            size += len(filtered)
            self.events += 1
            if size >= _MEMBER_BYTES:
                self._write(gzip_member(b"".join(kept)))
                kept, size = [], 0
        if kept:
            self._write(gzip_member(b"".join(kept)))
        self.unfilterable += unfilterable
        if unfilterable >= UNFILTERABLE_MINIMUM and unfilterable > found * UNFILTERABLE_RATIO:
            raise ProcessedObjectError(
                f"{unfilterable} of {found} events of a processed object can't be filtered",
                hint="so many are a fault of the pipeline, not of the events: nothing is dropped until it is mended",
            )
        return found

    def _write(self, data: bytes) -> None:
        self._body.write(data)
        self.sha256.update(data)
        self.bytes += len(data)


async def _batches(members: Sequence[Member], source: Source) -> AsyncIterator[list[tuple[Member, bytes]]]:
    """In order, with as many on their way as the bounds allow; small ones together: a thread costs more than they."""
    waiting = deque(members)
    coming: deque[tuple[Member, asyncio.Task[bytes]]] = deque()
    ahead = 0
    batch: list[tuple[Member, bytes]] = []
    size = 0
    try:
        while waiting or coming:
            while waiting and (
                not coming or (len(coming) < _AHEAD_OBJECTS and ahead + waiting[0].bytes <= _AHEAD_BYTES)
            ):
                item = waiting.popleft()
                ahead += item.bytes
                coming.append((item, asyncio.create_task(source.get(item.key))))
            item, task = coming[0]
            try:
                data = await task
            except PermanentError as error:
                raise ProcessedObjectError(
                    f"processed object {item.id} can't be read: {error.args[0]}",
                    hint="check PROCESSED_S3_BUCKET, its key's policy and its retention",
                ) from error
            coming.popleft()
            ahead -= item.bytes
            batch.append((item, data))
            size += len(data)
            if size >= _BATCH_BYTES or not (waiting or coming):
                yield batch
                batch, size = [], 0
    finally:
        for _, task in coming:
            task.cancel()
        await asyncio.gather(*(task for _, task in coming), return_exceptions=True)


def _inflate(data: bytes) -> Iterator[bytes]:
    """The content of all gzip members of `data`, block by block. Raises ProcessedObjectError when it is damaged."""
    view = memoryview(data)
    inflate: Any = None
    for start in range(0, len(view), _SLICE_BYTES):
        piece: bytes = bytes(view[start : start + _SLICE_BYTES])
        while piece:
            if inflate is None:
                inflate = isal_zlib.decompressobj(16 + zlib.MAX_WBITS)
            try:
                yield inflate.decompress(piece)
            except _DAMAGED as error:
                raise ProcessedObjectError("a processed object is no gzip file", hint="replay its hour") from error
            piece = inflate.unused_data
            if inflate.eof:
                inflate = None
    if inflate is not None:
        raise ProcessedObjectError("a processed object is cut short", hint="replay its hour")


def _lines(data: bytes) -> Iterator[bytes]:
    """The lines without their breaks. A last line without break is not counted, as everywhere."""
    rest = b""
    for block in _inflate(data):
        *lines, rest = (rest + block).split(b"\n")
        yield from lines
