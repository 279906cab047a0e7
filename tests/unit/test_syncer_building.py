"""Files built ahead of their turn: used when nothing changed, bounded in number and bytes, and never left behind."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from database.ledger import delivery_files
from database.ledger.delivery_files import Member, OpenFile
from pipeline.clients import Client, ClientId
from pipeline.gzip import member as gzip_member
from syncer import building
from syncer.building import Ahead, Builder

HOUR = datetime(2026, 11, 23, 5, tzinfo=UTC)
CLIENT = Client(client_id=ClientId("c"))
BODY = gzip_member(b"{}\n")


class Policy:
    level = "standard"
    version = "v1"


class World:
    """One object for each file; downloads wait for `open`."""

    def __init__(self) -> None:
        self.open = asyncio.Event()
        self.open.set()
        self.downloads = 0

    async def get(self, key: str) -> bytes:
        self.downloads += 1
        await self.open.wait()
        return BODY

    def of(self, client: Client) -> Policy:
        return Policy()

    def builder(self, *, at_once: int = 2, files_on_disk: int = 100) -> Builder:
        world: Any = self
        return Builder(pool=world, source=self, policies=world, at_once=at_once, spool_bytes=files_on_disk * len(BODY))


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    @asynccontextmanager
    async def connected(_: Any) -> AsyncIterator[None]:
        yield None

    async def members_of(_: Any, file_id: int) -> list[Member]:
        return [
            Member(
                id=file_id,
                bucket="b",
                key=str(file_id),
                events=1,
                bytes=len(BODY),
                sha256=hashlib.sha256(BODY).hexdigest(),
                privacy_level="standard",
                policy_version="v1",
                min_commit_time=HOUR,
                max_commit_time=HOUR,
            )
        ]

    monkeypatch.setattr(building, "connected", connected)
    monkeypatch.setattr(delivery_files, "members_of", members_of)
    return World()


def file(number: int) -> OpenFile:
    return OpenFile(id=number, replacement_id=None, bucket="b", key=str(number), hour=HOUR, revision=1)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0)


async def test_file_begun_ahead_is_built_once_and_one_that_changed_meanwhile_again(world: World) -> None:
    builder = world.builder()
    async with Ahead(builder) as ahead:
        ahead.begin(file(1), CLIENT)
        await until(lambda: world.downloads == 1)
        (await ahead.take(file(1), CLIENT)).close()
        assert world.downloads == 1
        for changed_file, changed_client in (
            (replace(file(2), revision=2), CLIENT),
            (file(2), replace(CLIENT, client_s3_prefix="other/")),
            (file(3), CLIENT),
        ):
            before = world.downloads
            ahead.begin(file(2), CLIENT)
            await until(lambda: world.downloads > before)  # noqa: B023 - within this turn
            (await ahead.take(changed_file, changed_client)).close()
            assert world.downloads == before + 2
    assert (builder.spare, builder.spooled_bytes) == (2, 0)


async def test_what_was_begun_and_not_taken_is_given_up(world: World) -> None:
    builder = world.builder()
    async with Ahead(builder) as ahead:
        ahead.begin(file(1), CLIENT)
        await until(lambda: world.downloads == 1)
        assert builder.spooled_bytes == len(BODY)
    world.open.clear()
    async with Ahead(builder) as ahead:
        ahead.begin(file(2), CLIENT)
        await until(lambda: world.downloads == 2)
    assert (builder.spare, builder.spooled_bytes) == (2, 0)


async def test_only_as_many_files_wait_for_their_turn_as_are_built_at_once(world: World) -> None:
    builder = world.builder(at_once=2)
    async with Ahead(builder) as first, Ahead(builder) as second, Ahead(builder) as third:
        for number, ahead in enumerate((first, second, third)):
            ahead.begin(file(number), CLIENT)
        assert builder.spare == 0
        (await third.take(file(2), CLIENT)).close()  # not begun, so built now
        await until(lambda: world.downloads == 3)


async def test_build_waits_for_room_on_disk_and_a_file_larger_than_all_of_it_is_alone(world: World) -> None:
    builder = world.builder(at_once=4, files_on_disk=2)
    first, second = [await builder.build(file(number), CLIENT) for number in (1, 2)]
    third = asyncio.create_task(builder.build(file(3), CLIENT))
    await until(lambda: builder.waiting == 1)
    assert world.downloads == 2
    first.close()
    (await asyncio.wait_for(third, 10)).close()
    second.close()
    tiny = world.builder(files_on_disk=0)
    (await asyncio.wait_for(tiny.build(file(4), CLIENT), 10)).close()
    assert (builder.spooled_bytes, tiny.spooled_bytes) == (0, 0)
