"""The processor goes on without its client store for a grace time, then it stops: fail closed."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from pipeline.errors import TransientError
from processor.pipeline import STORE_GRACE_SECONDS, Processor
from processor.settings import ProcessorSettings


class Directory:
    def __init__(self, age: float) -> None:
        self.age = age

    def age_seconds(self, _now: float) -> float:
        return self.age


class Consumer:
    """Has nothing to give; ends the service at its second poll."""

    def __init__(self, stop: asyncio.Event) -> None:
        self.stop = stop
        self.polls = 0

    def subscribe(self, *_arguments: Any, **_named: Any) -> None:
        pass

    async def getmany(self, **_limits: Any) -> dict[Any, Any]:
        self.polls += 1
        if self.polls == 2:
            self.stop.set()
        return {}


async def polls_on_settings_of(age: float) -> int:
    stop = asyncio.Event()
    consumer = Consumer(stop)
    settings = ProcessorSettings.model_construct(kafka_raw_topic="t", processed_flush_seconds=300.0)
    parts: dict[str, Any] = dict.fromkeys(("policies", "pool", "processed_bucket", "raw_bucket"))
    parts |= {"settings": settings, "consumer": consumer, "directory": Directory(age)}
    await Processor(**parts).run(stop)
    return consumer.polls


async def test_nothing_is_processed_on_settings_older_than_the_grace_time() -> None:
    assert await polls_on_settings_of(STORE_GRACE_SECONDS) == 2
    with pytest.raises(TransientError, match="nothing may leave on old settings"):
        await polls_on_settings_of(STORE_GRACE_SECONDS + 1)
