"""Files of a delivery: copied or filtered, checked, deterministic, bounded."""

from __future__ import annotations

import asyncio
import gzip
import hashlib
from contextlib import closing
from dataclasses import dataclass, replace
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from database.ledger.delivery_files import Member
from pipeline.errors import PermanentError, TransientError
from pipeline.gzip import member as gzip_member
from pipeline.privacy import UnparsableRecord
from syncer import content
from syncer.content import Built, ProcessedObjectError, build

HOUR = datetime(2026, 11, 23, 5, tzinfo=UTC)


@dataclass
class Result:
    line: bytes | None


class Upper:
    """A policy that shouts, drops lines with a minus and can't read those with a question mark."""

    version = "v2"

    def __init__(self, *, takes_nothing: bool = False) -> None:
        self.takes_nothing = takes_nothing

    def apply(self, line: bytes) -> Result:
        if b"?" in line:
            raise UnparsableRecord("no")
        return Result(None if b"-" in line else line.upper())


class Objects:
    """Processed objects in memory, and how many were asked for at once."""

    def __init__(self) -> None:
        self.bodies: dict[str, bytes] = {}
        self.members: list[Member] = []
        self.under_way = self.most = 0
        self.failure: Exception | None = None

    def add(self, *lines: bytes, version: str = "v2", level: str = "gdpr") -> None:
        body = gzip_member(b"".join(line + b"\n" for line in lines))
        number = len(self.members)
        self.bodies[str(number)] = body
        self.members.append(
            Member(
                id=number,
                bucket="b",
                key=str(number),
                events=len(lines),
                bytes=len(body),
                sha256=hashlib.sha256(body).hexdigest(),
                privacy_level=level,
                policy_version=version,
                min_commit_time=HOUR,
                max_commit_time=HOUR,
            )
        )

    async def get(self, key: str) -> bytes:
        self.under_way += 1
        self.most = max(self.most, self.under_way)
        await asyncio.sleep(0)
        self.under_way -= 1
        if self.failure is not None:
            raise self.failure
        return self.bodies[key]


async def built(objects: Objects, *, takes_nothing: bool = False) -> tuple[bytes, Built]:
    policy = Upper(takes_nothing=takes_nothing)
    with closing(await build(objects.members, objects, policy)) as file:  # type: ignore[arg-type]
        payload = file.payload()
        data = payload if isinstance(payload, bytes) else payload.read()
        assert hashlib.sha256(data).hexdigest() == file.content.sha256
        assert len(data) == file.content.bytes
        return data, file


async def test_objects_of_the_current_policy_are_copied_byte_by_byte() -> None:
    objects = Objects()
    objects.add(b"a-1", b"b?2")
    objects.add(b"c")
    data, file = await built(objects)
    assert data == objects.bodies["0"] + objects.bodies["1"]
    assert gzip.decompress(data) == b"a-1\nb?2\nc\n"
    assert (file.content.events, file.content.dropped, file.content.policy_version) == (3, 0, "v2")


async def test_other_versions_are_filtered_again_and_drops_are_counted() -> None:
    objects = Objects()
    objects.add(b"a", b"b-", b"c?", version="v1")
    objects.add(b"d")
    data, file = await built(objects)
    assert gzip.decompress(data) == b"A\nd\n"
    assert (file.content.events, file.content.dropped, file.unfilterable) == (2, 2, 1)
    assert (await built(objects))[0] == data


async def test_tighter_objects_are_kept_when_the_client_gets_everything_now() -> None:
    objects = Objects()
    objects.add(b"a-", level="hipaa", version="v1")
    data, file = await built(objects, takes_nothing=True)
    assert gzip.decompress(data) == b"a-\n"
    assert file.content.policy_version == "v1"


async def test_file_of_which_nothing_is_left_is_an_empty_gzip_file() -> None:
    objects = Objects()
    objects.add(b"-", version="v1")
    data, file = await built(objects)
    assert gzip.decompress(data) == b""
    assert (file.content.events, file.content.dropped) == (0, 1)


async def test_objects_that_are_not_what_the_ledger_describes_are_refused() -> None:
    for change in (
        lambda m: replace(m, sha256="00"),
        lambda m: replace(m, sha256="00", policy_version="v1"),
        lambda m: replace(m, events=7, policy_version="v1"),
    ):
        objects = Objects()
        objects.add(b"a")
        objects.members = [change(m) for m in objects.members]
        with pytest.raises(ProcessedObjectError):
            await built(objects)
    for damage in (lambda b: b[:-3], lambda b: b[:-6] + b"xxxxxx", lambda _: b"no gzip", lambda b: b + b"more"):
        objects = Objects()
        objects.add(b"a")
        body = objects.bodies["0"] = damage(objects.bodies["0"])
        with pytest.raises(ProcessedObjectError, match="sha256 differs"):
            await built(objects)
        # Damaged before its digest was taken: seen as soon as it must be read to be filtered.
        sha256 = hashlib.sha256(body).hexdigest()
        objects.members = [replace(objects.members[0], sha256=sha256, policy_version="v1")]
        with pytest.raises(ProcessedObjectError):
            await built(objects)


async def test_missing_object_is_permanent_and_outage_stays_transient() -> None:
    objects = Objects()
    objects.add(b"a")
    objects.failure = PermanentError("NoSuchKey")
    with pytest.raises(ProcessedObjectError, match="can't be read"):
        await built(objects)
    objects.failure = TransientError("SlowDown")
    with pytest.raises(TransientError):
        await built(objects)


async def test_many_unreadable_events_stop_the_run_instead_of_vanishing() -> None:
    objects = Objects()
    objects.add(*[b"?"] * 100, *[b"a"] * 900, version="v1")
    with pytest.raises(ProcessedObjectError, match="can't be filtered"):
        await built(objects)


async def test_downloads_run_ahead_within_bounds() -> None:
    objects = Objects()
    for number in range(100):
        objects.add(b"%d" % number)
    data, _ = await built(objects)
    assert gzip.decompress(data).split() == [b"%d" % number for number in range(100)]
    assert 1 < objects.most <= content._AHEAD_OBJECTS


@given(st.lists(st.lists(st.binary(max_size=30).map(lambda b: b.replace(b"\n", b"")), max_size=5), max_size=4))
def test_lines_come_back_from_any_split_into_members(groups: list[list[bytes]]) -> None:
    data = b"".join(gzip_member(b"".join(line + b"\n" for line in group)) for group in groups)
    assert list(content._lines(data)) == [line for group in groups for line in group]
