from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncGenerator, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.clients import Client, ClientId, Domain, PrivacyLevel, UnreadableClient
from pipeline.directory import FULL_LOAD_SECONDS, OVERLAP_SECONDS, ClientDirectory, Snapshot
from pipeline.errors import PermanentError, TransientError
from pipeline.stores.memory import MemoryClientStore

START = datetime(2026, 1, 1, tzinfo=UTC)


class Clock:
    """Both clocks, moved by hand."""

    def __init__(self) -> None:
        self.seconds = 1000.0

    def monotonic(self) -> float:
        return self.seconds

    def wall(self) -> datetime:
        return START + timedelta(seconds=self.seconds)


class RecordingStore(MemoryClientStore):
    def __init__(self, clock: Clock) -> None:
        super().__init__(clock.wall)
        self.asked: list[datetime | None] = []

    async def changed_since(self, when: datetime | None) -> Sequence[Client | UnreadableClient]:
        self.asked.append(when)
        return await super().changed_since(when)


def make(clock: Clock) -> tuple[RecordingStore, ClientDirectory]:
    store = RecordingStore(clock)
    return store, ClientDirectory(store, clock=clock.monotonic, wall_clock=clock.wall)


def client(name: str, **fields: object) -> Client:
    return Client(client_id=ClientId(name), privacy_level=PrivacyLevel.GDPR, **fields)  # type: ignore[arg-type]


async def test_full_load_then_increments_with_overlap_then_full_load_again() -> None:
    clock = Clock()
    store, directory = make(clock)
    await store.put(client("a"), actor="t")
    newest = clock.wall()
    await directory.refresh()
    clock.seconds += 15
    await directory.refresh()
    clock.seconds += FULL_LOAD_SECONDS
    await directory.refresh()
    assert store.asked == [None, newest - timedelta(seconds=OVERLAP_SECONDS), None]


async def test_change_is_seen_at_the_next_refresh_and_raises_the_version() -> None:
    clock = Clock()
    store, directory = make(clock)
    stored = await store.put(client("a"), actor="t")
    await directory.refresh()
    version = directory.version
    await directory.refresh()
    assert directory.version == version
    clock.seconds += 15
    await store.put(replace(stored, privacy_level=PrivacyLevel.HIPAA), actor="t")
    await directory.refresh()
    found = directory.get("a")
    assert isinstance(found, Client)
    assert found.privacy_level is PrivacyLevel.HIPAA
    assert directory.version == version + 1


@pytest.mark.parametrize("error", [TransientError("down"), PermanentError("refused")])
async def test_failed_refresh_keeps_the_cache_and_lets_the_age_grow(error: Exception) -> None:
    clock = Clock()
    store, directory = make(clock)
    assert directory.age_seconds(clock.seconds) == math.inf
    await store.put(client("a"), actor="t")
    await directory.refresh()
    store.fail_with = error
    clock.seconds += 40
    with pytest.raises(type(error)):
        await directory.refresh()
    assert directory.get("a") is not None
    assert directory.age_seconds(clock.seconds) == 40


async def test_client_removed_by_hand_is_gone_after_a_full_load() -> None:
    clock = Clock()
    store, directory = make(clock)
    await store.put(client("a"), actor="t")
    await directory.refresh()
    store._documents.clear()
    store._updated_at.clear()
    clock.seconds += FULL_LOAD_SECONDS
    await directory.refresh()
    assert directory.get("a") is None


async def test_time_stamp_in_the_future_hides_no_later_change() -> None:
    clock = Clock()
    store, directory = make(clock)
    await store.put(client("forged"), actor="t")
    store._updated_at["forged"] = datetime.max.replace(tzinfo=UTC)
    await directory.refresh()
    clock.seconds += 15
    await store.put(client("b"), actor="t")
    await directory.refresh()
    assert directory.get("b") is not None


async def test_keep_fresh_survives_our_errors_and_ends_with_stop() -> None:
    stop = asyncio.Event()

    class Recovering(MemoryClientStore):
        async def changed_since(self, when: datetime | None) -> Sequence[Client | UnreadableClient]:
            self.fail_with = TransientError("down") if self.calls < 3 else None
            if self.calls == 4:
                stop.set()
            return await super().changed_since(when)

    store = Recovering()
    directory = ClientDirectory(store, refresh_seconds=0.001)
    await directory.keep_fresh(stop)
    assert store.calls == 5
    assert math.isfinite(directory.age_seconds(0.0))


async def test_one_change_among_thousands_asks_for_it_alone_and_a_burst_for_little_more() -> None:
    clock = Clock()
    store, directory = make(clock)
    for number in range(5_000):
        store.write_raw(f"c{number}", {"privacy_level": "gdpr"})
    await directory.refresh()
    clock.seconds += 2 * OVERLAP_SECONDS
    await directory.refresh()
    stop = asyncio.Event()
    keeping = asyncio.create_task(directory.keep_fresh(stop))
    store.asked.clear()

    async def until(name: str, level: PrivacyLevel) -> None:
        async with asyncio.timeout(10):
            while getattr(directory.get(name), "privacy_level", None) is not level:
                await asyncio.sleep(0)

    store.write_raw("c7", {"privacy_level": "hipaa"})
    await until("c7", PrivacyLevel.HIPAA)
    assert None not in store.asked
    assert await store.changed_since(store.asked[-1]) == [directory.get("c7")]
    store.asked.clear()
    for number in range(1_000):
        store.write_raw(f"c{number}", {"privacy_level": "standard"})
        await asyncio.sleep(0)
    await until("c999", PrivacyLevel.STANDARD)
    assert None not in store.asked
    assert len(store.asked) < 20
    stop.set()
    await keeping


async def test_store_that_cannot_tell_is_polled() -> None:
    class Mute(MemoryClientStore):
        async def listen(self) -> AsyncGenerator[None, None]:
            raise TransientError("nothing is told here")
            yield

    store = Mute()
    directory = ClientDirectory(store, refresh_seconds=0.01)
    stop = asyncio.Event()
    keeping = asyncio.create_task(directory.keep_fresh(stop))
    await store.put(client("a"), actor="t")
    async with asyncio.timeout(10):
        while directory.get("a") is None:
            await asyncio.sleep(0)
    stop.set()
    await keeping


async def test_keep_fresh_raises_what_is_unknown() -> None:
    store = MemoryClientStore()
    store.fail_with = RuntimeError("bug")
    with pytest.raises(RuntimeError):
        await ClientDirectory(store).keep_fresh(asyncio.Event())


async def test_owner_is_who_had_the_host_at_that_time() -> None:
    clock = Clock()
    store, directory = make(clock)

    def since(day: int) -> tuple[Domain, ...]:
        return (Domain(host="Shop.example.com", valid_from=START + timedelta(days=day)),)

    await store.put(client("first", domains=since(10)), actor="t")
    await store.put(client("second", domains=since(20)), actor="t")
    await store.put(client("third", domains=since(30)), actor="t")
    await store.put(client("rival", domains=since(30)), actor="t")
    await directory.refresh()
    owners = [directory.owner_of("shop.EXAMPLE.com", START + timedelta(days=day)) for day in (9, 10, 19, 20, 31)]
    assert owners == [None, "first", "first", "second", None]
    assert directory.owner_of("other.example.com", START) is None


async def test_host_of_an_unreadable_client_does_not_fall_back_to_a_former_owner() -> None:
    clock = Clock()
    store, directory = make(clock)
    await store.put(client("former", domains=(Domain(host="h", valid_from=START),)), actor="t")
    document = {"privacy_level": "?", "domains": [{"host": "h", "valid_from": (START + timedelta(days=1)).isoformat()}]}
    store.write_raw("broken", document)
    await directory.refresh()
    assert directory.owner_of("h", START + timedelta(days=2)) == "broken"
    assert isinstance(directory.get("broken"), UnreadableClient)


@given(
    # Each write: when it is stamped, how late it can be seen, and how far the store's clock is off ours.
    st.lists(st.tuples(st.floats(0, 200), st.floats(0, OVERLAP_SECONDS - 1)), max_size=12),
    st.floats(-3600, 3600),
)
def test_no_write_is_missed_whatever_the_skew_and_the_delay_of_commits(
    writes: list[tuple[float, float]], skew: float
) -> None:
    snapshot = Snapshot()
    for step in range(20):  # up to 285 s: less than a full load, so that increments alone must do
        now = step * 15.0
        since = snapshot.since(now, START + timedelta(seconds=now))
        found = []
        for number, (stamped, delay) in enumerate(writes):
            stamp = START + timedelta(seconds=stamped + skew)
            if stamped + delay <= now and (since is None or stamp >= since):
                found.append(replace(client(f"c{number}"), updated_at=stamp))
        snapshot = snapshot.absorb(found, since=since, now=now)
    assert len(snapshot.entries) == len(writes)
