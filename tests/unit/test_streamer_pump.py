"""A server that says nothing although it was asked is noticed, and a drain is not taken for a sign of life."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any, cast

import pytest

from pipeline.errors import TransientError
from pipeline.position import Lsn
from streamer import pump as pumping
from streamer.pump import pump, send_feedback
from streamer.replication import Burst
from streamer.transactions import EpochMap, Transactions
from streamer.watch import Status


class Silent:
    """A connection on which nothing ever comes."""

    def __init__(self) -> None:
        self.sent: list[tuple[int, int]] = []

    async def read(self, timeout: float) -> Burst:
        await asyncio.sleep(0)
        return Burst(payloads=[], keepalive=None)

    def send_status(self, written: Lsn, flushed: Lsn) -> None:
        self.sent.append((written, flushed))


def scene(connection: Silent) -> tuple[Any, Any]:
    replica = SimpleNamespace(
        connection=connection,
        status=Status(),
        stop=asyncio.Event(),
        health=SimpleNamespace(turned=lambda: None),
    )
    recorder = SimpleNamespace(
        empty=True, is_due=lambda _now: False, confirmed=Lsn(7), confirmed_changed=asyncio.Event()
    )
    turn = SimpleNamespace(
        transactions=Transactions(EpochMap([(Lsn(0), 1)])),
        publisher=SimpleNamespace(waiting=False),
        recorder=recorder,
    )
    return cast(Any, replica), cast(Any, turn)


async def test_server_that_is_silent_for_too_long_ends_the_stream_with_a_clear_error(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(pumping, "SILENCE_SECONDS", 0.01)
    with pytest.raises(TransientError, match="the server has been silent"):
        await pump(*scene(Silent()))


async def test_feedback_ends_when_it_is_cancelled_in_the_moment_of_a_confirmation() -> None:
    replica, turn = scene(Silent())
    task = asyncio.create_task(send_feedback(replica, turn))
    await asyncio.sleep(0)
    turn.recorder.confirmed_changed.set()  # the last file is in the ledger ...
    await asyncio.sleep(0)
    task.cancel()  # ... and the drain goes on at once
    done, _ = await asyncio.wait({task}, timeout=5)
    assert done, "a task that swallows its cancellation keeps the process from ending"
    assert task.cancelled() or replica.connection.sent == [(7, 7)]
