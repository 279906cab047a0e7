"""`python -m streamer` as a black box on real parts: exactly once through every crash."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path

import psutil
import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from database import source
from database.ledger import open_pool
from local.stack import Stack
from pipeline import metrics
from streamer.watch import count_unexported
from tests.faults import Proxy, http_error, proxy_to
from tests.integration.streamer_scene import PARTITIONS, Scene, Streamer, eventually, open_scene


@pytest.fixture
async def scene(stack: Stack, tmp_path: Path) -> AsyncIterator[Scene]:
    async with open_scene(stack, tmp_path) as scene:
        yield scene


async def test_kill_at_every_failpoint_of_the_stream_loses_and_doubles_nothing(scene: Scene) -> None:
    streamer = await scene.streamer().start()
    await streamer.until_state("streaming")
    await scene.insert(10)
    await scene.until_recorded()
    for failpoint in (
        "streamer.after_publish",
        "streamer.after_publish:2",
        "streamer.after_put",
        "streamer.after_ledger",
        "streamer.before_feedback:2",
    ):
        await streamer.kill()
        await streamer.start(FAILPOINT=failpoint)
        await scene.insert(500)
        async with scene.load():
            await streamer.died_at_its_failpoint()
    await streamer.start()
    await scene.until_recorded()
    assert await streamer.stop() == 0, streamer.log_tail
    await scene.check()


async def test_kill_at_every_point_of_the_snapshot_loses_and_doubles_nothing(scene: Scene) -> None:
    await scene.insert(5000)
    streamer = scene.streamer(RAW_MAX_BYTES="20000")
    for failpoint in (
        "streamer.after_slot_created",
        "streamer.in_snapshot:2",
        "streamer.after_put",
        "streamer.after_ledger:2",
    ):
        await streamer.start(FAILPOINT=failpoint)
        await streamer.died_at_its_failpoint()
        await scene.insert(300)
    await streamer.start()
    await scene.insert(100)
    await scene.until_recorded()
    assert await streamer.stop() == 0, streamer.log_tail
    await scene.check()


async def test_files_that_cover_a_part_of_what_kafka_has_say_so_in_the_ledger(scene: Scene) -> None:
    streamer = scene.streamer()
    await streamer.start(FAILPOINT="streamer.after_put")
    await streamer.until_state("streaming")
    await scene.insert(6000)
    await streamer.died_at_its_failpoint()
    assert (await scene.read()).kafka_records > 3000  # some may still have been on their way
    smaller = scene.streamer(RAW_MAX_BYTES="20000")
    await smaller.start(FAILPOINT="streamer.after_ledger:2")
    await smaller.died_at_its_failpoint()
    assert 0 < await scene.recorded() < 6000
    await smaller.start()
    await scene.insert(10)
    await scene.until_recorded()
    assert await smaller.stop() == 0
    await scene.check()


async def test_kill_between_two_files_of_one_transaction_adds_no_duplicate_and_confirms_no_half(scene: Scene) -> None:
    streamer = scene.streamer(RAW_MAX_BYTES="20000")
    await streamer.start(FAILPOINT="streamer.after_ledger:3")
    await streamer.until_state("streaming")
    await scene.insert(1)
    await scene.until_recorded()
    before = await scene.wal_lsn()
    await scene.insert(8000)
    await streamer.died_at_its_failpoint()
    assert 1 < await scene.recorded() < 8001, "the transaction is in raw files by half"
    assert await scene.confirmed() <= before
    await streamer.start()
    await scene.until_recorded()
    assert await streamer.stop() == 0
    await scene.check()


async def test_snapshot_then_stream_without_gap_or_repeat_under_load(scene: Scene) -> None:
    await scene.insert(3000)
    async with scene.load():
        streamer = await scene.streamer(RAW_MAX_BYTES="20000").start()
        await streamer.until_state("streaming")
    await scene.until_recorded()
    assert (await streamer.status())["snapshot"]["events"] >= 3000
    assert await streamer.stop() == 0
    await scene.check()


async def test_sigterm_in_a_snapshot_ends_it_early_and_the_next_one_goes_on_with_the_rest(scene: Scene) -> None:
    await scene.insert(20000)
    streamer = await scene.streamer(RAW_MAX_BYTES="20000").start()
    await eventually(lambda: _some(scene), what="the first raw object")
    assert await streamer.stop() == 0, streamer.log_tail
    recorded = await scene.recorded()
    assert 0 < recorded < 20000
    await streamer.start()
    await scene.until_recorded()
    assert (await streamer.status())["snapshot"]["already_exported"] == recorded
    assert await streamer.stop() == 0
    await scene.check()


async def _some(scene: Scene) -> bool:
    return await scene.recorded() > 0


async def test_gap_of_a_dropped_slot_is_closed_from_the_table_and_the_log_says_how_many(scene: Scene) -> None:
    streamer = await scene.streamer().start()
    await streamer.until_state("streaming")
    await scene.insert(300)
    await scene.until_recorded()
    await streamer.kill()
    await scene.insert(123)
    await scene.drop_slot()
    await scene.insert(4)
    await streamer.start()
    await scene.until_recorded()
    await streamer.until_state("streaming")
    (finished,) = [entry for entry in streamer.logged("streamer.snapshot.finished") if entry["events"]]
    assert (finished["events"], finished["reason"]) == (127, "slot_missing")
    assert await streamer.metric("streamer_snapshot_events_total") == 127
    assert await streamer.metric('streamer_snapshots_total{reason="slot_missing"}') == 1
    assert await streamer.stop() == 0
    await scene.check()
    assert (await scene.read()).fences == 2 * PARTITIONS, "before each snapshot a predecessor is shut out everywhere"


async def test_gap_of_a_dropped_slot_does_not_repeat_what_kafka_had_and_no_raw_file(scene: Scene) -> None:
    streamer = await scene.streamer().start()
    await streamer.until_state("streaming")
    await scene.insert(10)
    await scene.until_recorded()
    await streamer.kill()
    for _ in range(2):  # the second one finds what the first one sent, and a ledger that is still behind
        await streamer.start(FAILPOINT="streamer.after_put")
        await scene.insert(2500)
        await streamer.died_at_its_failpoint()
    assert await scene.recorded() == 10
    assert (await scene.read()).kafka_records > 2500
    await scene.drop_slot()
    await scene.insert(50)
    streamer = await scene.streamer(RAW_MAX_BYTES="20000").start()
    await scene.until_recorded()
    assert await streamer.stop() == 0, streamer.log_tail
    await scene.check()


async def test_slot_ahead_of_the_ledger_is_an_error_and_not_a_silent_hole(scene: Scene) -> None:
    streamer = await scene.streamer().start()
    await streamer.until_state("streaming")
    await streamer.kill()
    await scene.insert(5)

    async def advanced() -> bool:
        with suppress(psycopg.errors.ObjectInUse):
            await scene.fetch("SELECT pg_replication_slot_advance(%s, pg_current_wal_lsn())", scene.slot)
            return True
        return False

    await eventually(advanced)
    await streamer.start()
    assert await streamer.wait() == 1
    assert "events between are lost" in streamer.log_tail
    assert await scene.recorded() == 0


async def test_sigterm_takes_the_open_file_into_the_ledger_and_confirms_it_within_seconds(scene: Scene) -> None:
    streamer = await scene.streamer(RAW_FLUSH_SECONDS="60").start()
    await streamer.until_state("streaming")
    await scene.insert(10)
    written_until = await scene.wal_lsn()

    async def published() -> bool:
        return await streamer.metric("streamer_published_events_total") == 10

    await eventually(published)
    assert await scene.recorded() == 0, "the file is open"
    assert await streamer.stop() == 0
    assert await scene.recorded() == 10
    assert await scene.confirmed() >= written_until
    await scene.check()


async def test_standby_takes_over_within_seconds_of_a_kill(scene: Scene) -> None:
    first = await scene.streamer("first").start()
    await first.until_state("streaming")
    second = await scene.streamer("second").start()
    await second.until_state("standby")
    answer = await second.get("/readyz")
    assert answer is not None
    assert answer.status_code == 200
    async with scene.load():
        await scene.until_recorded(50)
        await first.kill()
        killed_at = time.monotonic()
        await second.until_state("streaming", seconds=10)
        assert time.monotonic() - killed_at < 10
    await scene.until_recorded()
    assert await second.stop() == 0
    await scene.check()


async def test_paused_streamer_that_wakes_up_as_a_zombie_doubles_nothing(scene: Scene) -> None:
    impatient = make_conninfo(scene.environment["DATABASE_URL"], options="-c wal_sender_timeout=4s")
    first = await scene.streamer("first", DATABASE_URL=impatient).start()
    await first.until_state("streaming")
    second = await scene.streamer("second").start()
    await second.until_state("standby")
    async with scene.load():
        await scene.until_recorded(50)
        first.signal(signal.SIGSTOP)
        await second.until_state("streaming", seconds=15)
        recorded = await scene.recorded()
        await scene.until_recorded(recorded + 50)
        first.signal(signal.SIGCONT)
        assert await first.wait() == 1, "it notices that it is no longer needed"
        scene.numbers_agree = False  # what it still had to send Kafka has twice
        recorded = await scene.recorded()
        await scene.until_recorded(recorded + 50)
    await scene.until_recorded()
    assert await second.stop() == 0
    await scene.check()


async def test_restarted_server_and_terminated_walsender_lose_and_double_nothing(scene: Scene) -> None:
    streamer = scene.streamer()
    async with streamer.supervised():
        await streamer.until_state("streaming")
        async with scene.load():
            await scene.until_recorded(20)
            await scene.fetch(
                "SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots WHERE slot_name = %s", scene.slot
            )
            await scene.until_recorded(await scene.recorded() + 100)
        await scene.stack.postgres.kill()
        await scene.stack.postgres.start()
        await scene.insert(20)
        await scene.stack.postgres.stop()
        await scene.stack.postgres.start()
        await scene.insert(20)
        await scene.until_recorded()
    await scene.check()


@pytest.mark.chaos
async def test_killed_and_paused_broker_loses_and_doubles_nothing(scene: Scene) -> None:
    streamer = scene.streamer()
    async with streamer.supervised():
        await streamer.until_state("streaming")
        async with scene.load():
            await scene.until_recorded(20)
            await scene.stack.kafka.kill()
            await scene.stack.kafka.start()
            await scene.until_recorded(await scene.recorded() + 50)
            scene.stack.kafka.process.signal(signal.SIGSTOP)
            await scene.insert(3000)
            scene.stack.kafka.process.signal(signal.SIGCONT)
        await scene.until_recorded(seconds=60)
    await scene.check()


WRONG_CHECKSUM = (
    b'HTTP/1.1 200 OK\r\nETag: "0"\r\nx-amz-checksum-sha256: ' + b"A" * 43 + b"=\r\nContent-Length: 0\r\n"
    b"Connection: close\r\n\r\n"
)
"""Of something else than what was sent."""


async def test_errors_and_silence_of_s3_are_waited_out(scene: Scene) -> None:
    async with proxy_to(scene.stack.aws.port) as proxy:
        streamer = scene.streamer(RAW_S3_ENDPOINT_URL=f"http://127.0.0.1:{proxy.port}", RAW_FLUSH_SECONDS="0.5")
        await streamer.start()
        await streamer.until_state("streaming")
        for answer, times in (
            (http_error("503 Slow Down", "SlowDown"), 5),
            (http_error("500 Internal Server Error", "InternalError"), 5),
            (http_error("400 Bad Request", "BadDigest"), 1),
            (WRONG_CHECKSUM, 1),
        ):
            proxy.answer, proxy.answered = answer, 0
            await scene.insert(10)
            await eventually(lambda times=times: _answered(proxy, times), what=f"requests answered with {answer!r}")
            assert await scene.recorded() < len(scene.inserted)
            proxy.answer = None
            await scene.until_recorded()
        proxy.black_hole = True
        await scene.insert(10)
        await eventually(lambda: _confirmed_behind(scene), what="the slot waits")
        proxy.reset()
        proxy.black_hole = False
        await scene.until_recorded()
        assert await streamer.metric("streamer_raw_object_retries_total") > 0
        assert streamer.process is not None
        assert streamer.process.exit_status is None, "an outage of S3 restarts nothing"
        assert await streamer.stop() == 0
    await scene.check()


async def _answered(proxy: Proxy, times: int) -> bool:
    return proxy.answered >= times


async def _confirmed_behind(scene: Scene) -> bool:
    return await scene.confirmed() < await scene.wal_lsn()


async def test_idle_table_on_a_busy_server_lets_the_slot_advance_and_status_tells_lag(scene: Scene) -> None:
    streamer = await scene.streamer().start()
    await streamer.until_state("streaming")
    elsewhere = Scene(scene.stack, scene.postgres, "postgres", scene.folder)  # another database of the server
    async with elsewhere.connect(user="postgres") as connection:
        await connection.execute("SELECT pg_logical_emit_message(false, 'x', repeat('x', 2000000))")
    written_until = await scene.wal_lsn()

    async def advanced() -> bool:
        confirmed = await scene.confirmed()
        (recorded,) = await scene.fetch("SELECT (confirmed_lsn - '0/0')::bigint FROM pipeline.stream_state")
        assert confirmed <= recorded, "the slot leads the ledger"
        return confirmed >= written_until

    await eventually(advanced, seconds=20, what="the slot follows other databases' writes")

    async def shown() -> bool:
        status = await streamer.status()
        assert status["slot_wal_status"] == "reserved"
        return status["slot_lag_bytes"] < 1 << 20 and (status["slot_lag_seconds"] or 99) < 10

    await eventually(shown)
    status = await streamer.status()
    assert status["slot_safe_wal_bytes"] > 1 << 30
    assert await streamer.metric("streamer_slot_safe_wal_bytes") > 1 << 30
    assert await streamer.metric("streamer_slot_held") == 1
    assert await streamer.metric("streamer_slot_in_danger") == 0
    answer = await streamer.get("/readyz")
    assert answer is not None
    assert answer.status_code == 200
    assert await streamer.stop() == 0


@pytest.mark.chaos
async def test_network_that_is_cut_without_a_word_hands_the_slot_to_the_standby(scene: Scene) -> None:
    async with proxy_to(scene.postgres.port) as proxy:
        cut = make_conninfo(scene.environment["DATABASE_URL"], port=proxy.port, options="-c wal_sender_timeout=4s")
        first = await scene.streamer("first", DATABASE_URL=cut).start()
        await first.until_state("streaming")
        second = await scene.streamer("second").start()
        await second.until_state("standby")
        async with scene.load():
            await scene.until_recorded(50)
            proxy.black_hole = True
            await second.until_state("streaming", seconds=15)
            await scene.until_recorded(await scene.recorded() + 50)
        proxy.reset()
        proxy.black_hole = False
        assert await first.wait() == 1
    await scene.until_recorded()
    assert await second.stop() == 0
    await scene.check()


@pytest.mark.timeout(1800)
@pytest.mark.parametrize("rows", [60_000, pytest.param(2_000_000, marks=pytest.mark.chaos)])
async def test_huge_transaction_passes_in_bounded_memory_and_a_kill_in_its_middle_adds_no_duplicate(
    scene: Scene, rows: int
) -> None:
    streamer = scene.streamer(RAW_MAX_BYTES="1000000", RAW_FLUSH_SECONDS="5")
    await streamer.start(FAILPOINT="streamer.after_ledger")
    await streamer.until_state("streaming")
    await scene.insert(rows)
    await streamer.died_at_its_failpoint(seconds=rows / 1000)
    assert 0 < await scene.recorded() < rows
    await streamer.start()
    memory = asyncio.create_task(_most_memory(streamer))
    await scene.until_recorded(seconds=rows / 2000)
    memory.cancel()
    most = await memory
    assert most < 200 << 20, f"{most >> 20} MB"
    found = await scene.check()
    assert len(found.raw) == rows
    async with scene.connect() as connection:  # as a clean-up of everything at once would
        await connection.execute("UPDATE events_log SET processed_at = now()")
        await connection.execute("DELETE FROM events_log")
    await scene.insert(1)
    await scene.until_recorded(seconds=rows / 2000)
    assert not streamer.logged("service.stopped"), "the sender has given up"
    assert await streamer.stop() == 0


async def _most_memory(streamer: Streamer) -> int:
    """The largest resident size, in bytes, until it is cancelled."""
    assert streamer.process is not None
    process, most = psutil.Process(streamer.process.pid), 0
    with suppress(asyncio.CancelledError):
        while True:
            most = max(most, process.memory_info().rss)
            await asyncio.sleep(0.1)
    return most


async def test_event_larger_than_the_topic_takes_passes_through_its_raw_file_also_when_the_slot_was_lost(
    scene: Scene,
) -> None:
    streamer = await scene.streamer().start()
    await streamer.until_state("streaming")
    await scene.insert(5)
    await scene.insert(1, filler=20 << 20)
    await scene.insert(5)
    await scene.until_recorded()
    assert await streamer.metric("streamer_oversize_events_total") == 1
    await streamer.kill()
    await streamer.start(FAILPOINT="streamer.after_put")
    await scene.insert(1, filler=9 << 20)  # Kafka points to it, and its raw file never comes to be
    await streamer.died_at_its_failpoint()
    await scene.drop_slot()
    await streamer.start()
    await scene.insert(5)
    await scene.until_recorded()
    assert await streamer.stop() == 0, streamer.log_tail
    scene.numbers_agree = False
    found = await scene.check()
    assert found.pointers == 2
    await scene.process_all()


async def test_wal_kept_for_a_long_transaction_shows_although_the_lag_is_small(scene: Scene) -> None:
    streamer = await scene.streamer().start()
    await streamer.until_state("streaming")
    async with scene.connect() as connection, connection.transaction():
        await connection.execute("CREATE TABLE open_for_long (n int)")
        async with scene.connect(user="postgres") as other:
            await other.execute("SELECT pg_logical_emit_message(false, 'x', repeat('x', 20000000))")
        await scene.insert(5)
        await scene.until_recorded()

        async def shown() -> bool:
            status = await streamer.status()
            retained, lag = status["slot_retained_wal_bytes"] or 0, status["slot_lag_bytes"]
            return retained > 20_000_000 and lag is not None and lag < 1 << 20

        await eventually(shown, what="WAL that is confirmed and kept")
        assert await streamer.metric("streamer_slot_retained_wal_bytes") > 20_000_000
    assert await streamer.stop() == 0


async def test_rows_that_were_never_published_raise_the_metric(scene: Scene) -> None:
    streamer = await scene.streamer().start()
    await streamer.until_state("streaming")
    await scene.insert(3)
    await scene.until_recorded()
    async with scene.connect() as connection:
        await connection.execute("ALTER PUBLICATION events_pipeline DROP TABLE events_log")
        await connection.execute(
            "INSERT INTO events_log (event_type, created_at) SELECT 't', now() - interval '1 hour'"
            " FROM generate_series(1, 4)"
        )
        await connection.execute("ALTER PUBLICATION events_pipeline ADD TABLE events_log")

    async def caught_up() -> bool:
        return bool(await scene.fetch("SELECT 1 FROM pipeline.stream_state WHERE caught_up_at IS NOT NULL"))

    await eventually(caught_up)
    dsn = scene.environment["DATABASE_URL"]
    async with open_pool(dsn) as pool, source.connect(dsn) as db:
        await count_unexported(db, pool, scene.slot)
        assert metrics.UNEXPORTED_ROWS._value.get() == 4
        await db.execute("SET statement_timeout = '1ms'")
        await db.execute("SET lock_timeout = 0")
        async with scene.connect() as other, other.transaction():
            await other.execute("LOCK TABLE events_log")
            await count_unexported(db, pool, scene.slot)  # gives up, and stops nothing
    assert await streamer.stop() == 0
