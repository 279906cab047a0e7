"""Servers that take over, are set back, or are made anew of a dump: no new event passes for old, no old one for new."""

from __future__ import annotations

import random
import shutil
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import psycopg
import pytest

from local import ports
from local.postgres import Postgres, new_password
from local.stack import Stack
from tests.integration.streamer_scene import Scene, eventually, open_scene

SETTINGS = {"fsync": "off", "shared_buffers": "32MB", "max_slot_wal_keep_size": "-1", "wal_keep_size": "256MB"}


@pytest.fixture
async def primary(tmp_path: Path) -> AsyncIterator[Postgres]:
    server = another(tmp_path / "primary", new_password())
    await server.start()
    await move_wal(server)
    yield server
    await server.stop()


async def move_wal(server: Postgres) -> None:
    """New clusters are alike to the byte, and a backup begins a new segment: give LSNs that no other test has."""
    async with await psycopg.AsyncConnection.connect(server.dsn_for("postgres", user="postgres")) as connection:
        size = random.randrange(1 << 24)
        await connection.execute("SELECT pg_logical_emit_message(true, 'x', repeat('x', %s))", (size,))


@pytest.fixture
async def scene(stack: Stack, primary: Postgres, tmp_path: Path) -> AsyncIterator[Scene]:
    """The source on a server of its own; the ledger on the stack's, where nothing of this happens to it."""
    async with open_scene(stack, tmp_path, postgres=primary, ledger=stack.postgres) as scene:
        yield scene


def another(folder: Path, password: str, **settings: str) -> Postgres:
    return Postgres(
        folder, ports.choose(("server",), {})["server"], password=password, settings={**SETTINGS, **settings}
    )


def make_folder(folder: Path, owner: Postgres) -> Path:
    folder.mkdir()
    owner.give(folder)
    return folder


def copy_files(source: Path, target: Path) -> None:
    """With their owners, as a volume's snapshot does."""
    subprocess.run(["cp", "-a", source, target], check=True)


async def copy_of(primary: Postgres, folder: Path, *options: str) -> Postgres:
    """A base backup of `primary`, not started."""
    copy = another(make_folder(folder, primary), primary._password)
    dsn = primary.dsn_for("events", user="postgres")
    await primary.run("pg_basebackup", "-d", dsn, "-D", str(copy.data), "-c", "fast", *options)
    await move_wal(primary)
    return copy


def move(scene: Scene, server: Postgres) -> None:
    """The source is on `server` from now on."""
    scene.postgres = server
    scene.environment["DATABASE_URL"] = server.dsn_for(scene.database)


@asynccontextmanager
async def running(server: Postgres) -> AsyncIterator[None]:
    await server.start()
    try:
        yield
    finally:
        await server.stop()


async def promote(scene: Scene) -> None:
    await scene.fetch("SELECT pg_promote()")


async def stamp_everything(scene: Scene) -> None:
    """As the cleaner does, for all that is recorded."""
    async with scene.connect() as source, scene.connect(ledger=True) as ledger:
        await source.execute("UPDATE events_log SET raw_exported_at = now(), export_status = 'exported'")
        await ledger.execute("UPDATE pipeline.raw_objects SET verified_at = now(), stamped_at = now()")


async def caught_up(scene: Scene, standby: Postgres) -> None:
    """Wait until `standby` has replayed all that the primary has written."""
    target = await scene.wal_lsn()
    there = Scene(scene.stack, standby, scene.database, scene.folder)

    async def replayed() -> bool:
        row = await there.fetch("SELECT coalesce((pg_last_wal_replay_lsn() - '0/0')::bigint, 0)")
        return int(row[0]) >= target

    await eventually(replayed, what="the standby follows")


@pytest.mark.timeout(120)
async def test_promoted_replica_without_slot_takes_over_and_the_old_primary_is_refused(
    scene: Scene, primary: Postgres, tmp_path: Path
) -> None:
    standby = await copy_of(primary, tmp_path / "standby", "-R")
    streamer = await scene.streamer().start()
    await streamer.until_state("streaming")
    async with running(standby):
        await scene.insert(50)
        await scene.until_recorded()
        await streamer.kill()
        await scene.insert(7)  # replicated, never exported
        await caught_up(scene, standby)
    await streamer.start()
    await scene.insert(30)  # exported, never replicated
    await scene.until_recorded()
    await streamer.kill()
    await streamer.start(FAILPOINT="streamer.after_put")
    await scene.insert(40)  # never replicated, and only Kafka has them
    await streamer.died_at_its_failpoint()
    await primary.stop()
    async with running(standby):
        move(scene, standby)
        await promote(scene)
        await scene.insert(200)
        streamer = await scene.streamer("second").start()
        await streamer.until_state("streaming")
        await scene.insert(20)
        await scene.until_recorded()
        (needed,) = streamer.logged("streamer.snapshot.needed")
        assert needed["reason"] == "slot_missing"
        assert await streamer.stop() == 0
        found = await scene.check()
        assert {position.epoch for position, _ in found.raw} == {1, 2}
    await primary.start()
    move(scene, primary)
    streamer = await scene.streamer("refused").start()
    assert await streamer.wait() == 1
    assert "this server's history is epoch 1" in streamer.log_tail


@pytest.mark.chaos
@pytest.mark.timeout(120)
async def test_failover_slot_lets_the_stream_go_on_where_the_histories_part(
    scene: Scene, primary: Postgres, tmp_path: Path
) -> None:
    await scene.fetch("SELECT pg_create_physical_replication_slot('standby', true)")
    standby = await copy_of(primary, tmp_path / "standby", "-R", "-S", "standby")
    standby.settings |= {"hot_standby_feedback": "on", "sync_replication_slots": "on"}
    streamer = await scene.streamer().start()
    await streamer.until_state("streaming")
    there = Scene(scene.stack, standby, scene.database, scene.folder)
    async with running(standby):
        await scene.insert(50)
        await scene.until_recorded()

        async def synchronised() -> bool:
            await scene.insert(1)
            row = await there.fetch(
                "SELECT synced AND NOT temporary AND invalidation_reason IS NULL FROM pg_replication_slots"
                " WHERE slot_name = %s",
                scene.slot,
            )
            return bool(row and row[0])

        await eventually(synchronised, seconds=60, what="the slot is copied")
        await scene.insert(9)
        await caught_up(scene, standby)
        await streamer.kill()
        await scene.insert(11)
        await caught_up(scene, standby)
        await primary.kill()
        move(scene, standby)
        await promote(scene)
        await scene.insert(100)
        streamer = await scene.streamer("second").start()
        await streamer.until_state("streaming")
        await scene.insert(20)
        await scene.until_recorded()
        assert not streamer.logged("streamer.snapshot.needed"), "the slot has survived"
        await streamer.kill()
        await streamer.start()
        await scene.insert(20)
        await scene.until_recorded()
        assert await streamer.stop() == 0
        found = await scene.check()
        assert {position.epoch for position, _ in found.raw} == {1, 2}


@pytest.mark.timeout(120)
async def test_point_in_time_recovery_repeats_lsns_and_ids_but_loses_and_doubles_nothing(
    scene: Scene, primary: Postgres, tmp_path: Path
) -> None:
    streamer = await scene.streamer().start()
    await streamer.until_state("streaming")
    await scene.insert(10)
    await scene.until_recorded()
    await stamp_everything(scene)
    restored = await copy_of(primary, tmp_path / "restored", "-X", "fetch")
    await scene.insert(20)
    await scene.until_recorded()
    await streamer.kill()
    await scene.insert(5)  # not exported yet
    await scene.fetch("SELECT pg_create_restore_point('here')")
    await streamer.start()
    await scene.insert(30)  # behind the point of recovery, exported
    await scene.until_recorded()
    await streamer.kill()
    await stamp_everything(scene)  # stamps that the restored table will not have
    await primary.stop()

    (restored.data / "recovery.signal").touch()
    restored.give(restored.data / "recovery.signal")
    restored.settings |= {
        "restore_command": f'cp "{primary.data}/pg_wal/%f" "%p"',
        "recovery_target_name": "here",
        "recovery_target_action": "promote",
    }
    async with running(restored):
        move(scene, restored)

        async def writable() -> bool:
            return not (await scene.fetch("SELECT pg_is_in_recovery()"))[0]

        await eventually(writable, what="the recovery ends")
        assert (await scene.fetch("SELECT count(*), max(id) FROM events_log")) == (35, 35)
        await scene.insert(200)  # ids and LSNs that were used before
        streamer = await scene.streamer("second").start()
        await streamer.until_state("streaming")
        await scene.insert(20)
        await scene.until_recorded()
        assert await streamer.stop() == 0
        found = await scene.check()
        assert {position.epoch for position, _ in found.raw} == {1, 2}
        await scene.drop_slot()  # what was left out once is left out for ever
        await streamer.start()
        await scene.insert(3)
        await scene.until_recorded()
        assert await streamer.stop() == 0
        await scene.check()


@pytest.mark.timeout(120)
async def test_dump_restored_into_a_new_cluster_repeats_nothing_of_the_shared_past(
    scene: Scene, primary: Postgres, tmp_path: Path
) -> None:
    streamer = await scene.streamer().start()
    await streamer.until_state("streaming")
    await scene.insert(10)
    await scene.until_recorded()
    await stamp_everything(scene)
    await scene.insert(20)
    await scene.until_recorded()
    await streamer.kill()
    await scene.insert(5)
    dump = primary.folder / "dump.sql"
    await primary.run("pg_dump", "-d", scene.postgres.dsn_for(scene.database, user="postgres"), "-f", str(dump))
    await streamer.start()
    await scene.until_recorded()
    await streamer.kill()
    await stamp_everything(scene)
    await primary.stop()

    fresh = another(tmp_path / "fresh", primary._password)
    async with running(fresh):
        shutil.copy(dump, fresh.folder / "dump.sql")
        admin = fresh.dsn_for("postgres", user="postgres")
        await fresh.run("psql", "-q", "-d", admin, "-c", f"CREATE DATABASE {scene.database} OWNER pipeline")
        target = fresh.dsn_for(scene.database, user="postgres")
        await fresh.run("psql", "-q", "-v", "ON_ERROR_STOP=1", "-d", target, "-f", str(fresh.folder / "dump.sql"))
        move(scene, fresh)
        await scene.insert(50)
        streamer = await scene.streamer("second").start()
        await streamer.until_state("streaming")
        await scene.insert(20)
        await scene.until_recorded()
        assert await streamer.stop() == 0
        await scene.check()


@pytest.mark.chaos
@pytest.mark.timeout(120)
async def test_server_set_back_on_its_own_timeline_is_refused_since_its_new_events_would_pass_for_repeats(
    scene: Scene, primary: Postgres, tmp_path: Path
) -> None:
    streamer = await scene.streamer().start()
    await streamer.until_state("streaming")
    await scene.insert(10)
    await scene.until_recorded()
    assert await streamer.stop() == 0
    await primary.stop()
    saved = tmp_path / "saved"
    copy_files(primary.data, primary.folder / "saved")
    await primary.start()
    await streamer.start()
    await scene.insert(500)
    await scene.until_recorded()
    await streamer.kill()
    await primary.stop()
    primary.data.rename(saved)
    (primary.folder / "saved").rename(primary.data)
    await primary.start()
    await streamer.start()
    assert await streamer.wait() == 1
    assert "it was set back" in streamer.log_tail
