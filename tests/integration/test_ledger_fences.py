"""Every step compares what came before: whoever was overtaken changes nothing. The ledger's statements, one by one."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime
from uuid import uuid4

import psycopg
import pytest

from database.ledger import deliveries, generations
from database.ledger import stream as ledger
from database.ledger.deliveries import RunBusyError
from database.ledger.stream import KafkaTail, RawObject
from local.stack import Stack
from pipeline.errors import FencedError
from pipeline.position import Lsn, Position
from tests.integration.syncer_scene import open_scene

NOW = datetime(2026, 11, 23, 5, tzinfo=UTC)


@pytest.fixture
async def connection(stack: Stack) -> AsyncIterator[psycopg.AsyncConnection]:
    async with (
        open_scene(stack) as scene,
        await psycopg.AsyncConnection.connect(scene.dsn, autocommit=True) as connection,
    ):
        yield connection


def raw(number: int, previous: Position | None) -> RawObject:
    return RawObject(
        bucket="raw", key=f"k{number}", previous_position=previous, first_position=Position(1, 10 * number, 0),
        last_position=Position(1, 10 * number, 5), kafka_tails={0: KafkaTail(next_offset=6, last_sequence=5)},
        events=6, bytes=1, sha256="", min_commit_time=NOW, max_commit_time=NOW, counts={(NOW, "a"): 6},
    )  # fmt: skip


async def test_only_the_next_of_the_chain_is_recorded_and_only_in_the_epoch_of_now(
    connection: psycopg.AsyncConnection,
) -> None:
    epochs = [await ledger.epoch_of(connection, "1", timeline, Lsn(0)) for timeline in (1, 2)]
    await ledger.begin_snapshot(connection, "slot", epochs[0])
    with pytest.raises(FencedError):  # nothing may be confirmed before the snapshot is complete
        await ledger.confirm(connection, "slot", epochs[0], Lsn(5), None)
    await ledger.finish_snapshot(connection, "slot", epochs[0], Lsn(5))
    first = raw(1, None)
    await ledger.commit_raw_object(connection, "slot", epochs[0], first)
    for strange in (raw(2, None), raw(2, Position(1, 10, 4))):
        with pytest.raises(FencedError):
            await ledger.commit_raw_object(connection, "slot", epochs[0], strange)
    await ledger.enter_epoch(connection, "slot", epochs[1], Lsn(7))
    with pytest.raises(FencedError):
        await ledger.commit_raw_object(connection, "slot", epochs[0], raw(2, first.last_position))
    with pytest.raises(FencedError):
        await ledger.confirm(connection, "slot", epochs[0], Lsn(9), None)
    await ledger.commit_raw_object(connection, "slot", epochs[1], raw(2, first.last_position))
    cursor = await connection.execute("SELECT key FROM pipeline.raw_objects ORDER BY id")
    assert await cursor.fetchall() == [("k1",), ("k2",)]


async def test_a_streamer_whose_turn_is_over_keeps_no_producer_and_holds_nothing(
    connection: psycopg.AsyncConnection,
) -> None:
    former = await generations.take_over(connection, "slot")
    await generations.keep_producer(connection, "slot", former.number, 77, 0)
    present = await generations.take_over(connection, "slot")
    assert (present.producer_id, present.producer_epoch) == (77, 1)
    with pytest.raises(FencedError):
        await generations.keep_producer(connection, "slot", former.number, 78, 0)
    with pytest.raises(FencedError):
        await generations.hold(connection, "slot", former.number)
    await generations.hold(connection, "slot", present.number)


async def test_a_run_has_one_owner_until_its_lease_is_over(connection: psycopg.AsyncConnection) -> None:
    async with connection.transaction():
        run = await deliveries.begin(
            connection, client_id="c", run_key="20261123T0500-hourly", frequency="hourly", bucket="b", prefix="",
            owner=uuid4(), lease_seconds=60,
        )  # fmt: skip
    assert run is not None
    with pytest.raises(RunBusyError):
        await deliveries.claim(connection, "c", uuid4(), 60)
    await deliveries.renew(connection, run, 60)
    await connection.execute("UPDATE pipeline.sync_runs SET lease_until = now()")
    taken = await deliveries.claim(connection, "c", uuid4(), 60)
    assert taken == replace(run, owner=taken.owner if taken else run.owner)
    assert taken is not None
    for step in (deliveries.renew(connection, run, 60), deliveries.announce_manifest(connection, run, "{}", "")):
        with pytest.raises(FencedError):
            await step
    with pytest.raises(FencedError):
        await deliveries.finish(connection, run)
    await deliveries.fail(connection, run, "Zombie", "must not be heard")
    await deliveries.release(connection, run)
    await deliveries.announce_manifest(connection, taken, "{}", "digest")
    await deliveries.finish(connection, taken)
    cursor = await connection.execute("SELECT status, error FROM pipeline.sync_runs")
    assert await cursor.fetchall() == [("finished", None)]
