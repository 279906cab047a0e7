"""A message stays invisible to others for as long as it is worked on, and comes back as soon as it is dropped."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Any

import pytest

from pipeline.errors import TransientError
from pipeline.syncqueue import ClientSync, Message
from syncer.pipeline import Syncer
from syncer.settings import SyncerSettings

MESSAGE = Message(
    id="m", body='{"client_id":"c","run_key":"20240101T0500-hourly"}', receipt="r",
    sent_at=datetime(2024, 1, 1, tzinfo=UTC), receives=1,
)  # fmt: skip


class FakeQueue:
    """Hands nothing out; notes what happens to the message. The first attempt to hide it fails."""

    max_receives = 5

    def __init__(self) -> None:
        self.calls: list[object] = []
        self.hidden_twice = asyncio.Event()

    async def hide(self, _message: Message, seconds: float) -> None:
        self.calls.append(seconds)
        if len(self.calls) == 1:
            raise TransientError("the queue does not answer")
        self.hidden_twice.set()

    async def delete(self, _message: Message) -> None:
        self.calls.append("deleted")


def syncer(queue: FakeQueue, deliver: Any) -> Syncer:
    class Deliverer:
        async def deliver(self, order: ClientSync) -> None:
            await deliver(order)

    parts: dict[str, Any] = {"queue": queue, "store": None, "deliverer": Deliverer()}
    return Syncer(SyncerSettings.model_construct(sync_visibility_seconds=0.03), **parts)


async def test_while_a_delivery_lasts_its_message_is_hidden_again_and_again() -> None:
    queue = FakeQueue()

    async def long(_order: ClientSync) -> None:
        async with asyncio.timeout(30):
            await queue.hidden_twice.wait()

    await syncer(queue, long)._handle(MESSAGE)
    assert queue.calls[:2] == [0.03, 0.03]
    assert queue.calls[-1] == "deleted"


async def test_a_delivery_that_is_broken_off_gives_its_message_back_at_once() -> None:
    queue = FakeQueue()
    begun = asyncio.Event()

    async def for_ever(_order: ClientSync) -> None:
        begun.set()
        await asyncio.Event().wait()

    handling = asyncio.create_task(syncer(queue, for_ever)._handle(MESSAGE))
    await begun.wait()
    handling.cancel()
    with pytest.raises(asyncio.CancelledError):
        await handling
    assert queue.calls[-1] == 0
    assert "deleted" not in queue.calls
