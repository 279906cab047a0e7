"""The cleaner against real servers: what it deletes, and everything for which it deletes nothing."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from pydantic import SecretStr

from database.cleaner.source import open_source
from database.ledger import cleanup
from database.ledger import stream as ledger
from local.stack import Stack
from pipeline.errors import TransientError
from pipeline.position import Lsn, Position
from tests.faults import Proxy
from tests.integration.cleaner_scene import STRANGE, Scene, open_scene


@pytest.fixture
async def scene(stack: Stack) -> AsyncIterator[Scene]:
    async with open_scene(stack) as made:
        yield made


async def test_rows_of_a_verified_object_are_stamped_then_deleted_whatever_their_values(scene: Scene) -> None:
    await scene.insert(20)
    stored = await scene.export(per_object=10)
    [first] = await scene.turns()
    assert first.objects == {"verified": len(stored), "stamped": len(stored)}
    assert await scene.value(
        "SELECT count(*) FROM events_log WHERE raw_exported_at IS NOT NULL AND export_status = 'exported'"
        " AND processed_at IS NULL"
    ) == 20 + len(STRANGE)
    [second] = await scene.turns()
    assert second.rows == {"deleted": 20 + len(STRANGE)}
    assert await scene.rows_left() == 0
    assert await scene.value(
        "SELECT bool_and(verified_at <= stamped_at AND stamped_at <= deleted_at AND deleted_rows = events"
        " AND gone_rows = 0) FROM pipeline.raw_objects"
    )
    assert (await scene.turns())[0].objects == {}


@pytest.mark.parametrize(("mark", "marked"), [("auto", True), (True, True), (False, False)])
async def test_whoever_watches_deletions_finds_processed_at_set_unless_that_is_switched_off(
    scene: Scene, mark: bool | str, marked: bool
) -> None:
    await scene.execute(
        "CREATE TABLE seen (marked boolean);"
        "CREATE FUNCTION watch() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
        " INSERT INTO seen VALUES (OLD.processed_at IS NOT NULL); RETURN OLD; END $$;"
        "CREATE TRIGGER t BEFORE DELETE ON events_log FOR EACH ROW EXECUTE FUNCTION watch()"
    )
    await scene.insert(3)
    await scene.export()
    await scene.turns(2, cleanup_mark_processed=mark)
    assert await scene.execute("SELECT DISTINCT marked FROM seen") == [(marked,)]
    assert await scene.rows_left() == 0


WATCHERS = {
    "nobody": ("SELECT 1", False),
    "a trigger on inserts": (
        "CREATE TRIGGER t BEFORE INSERT ON events_log FOR EACH ROW EXECUTE FUNCTION watch()", False,
    ),
    "a trigger that is disabled": (
        "CREATE TRIGGER t BEFORE DELETE ON events_log FOR EACH ROW EXECUTE FUNCTION watch();"
        "ALTER TABLE events_log DISABLE TRIGGER t", False,
    ),
    "a trigger on updates": (
        "CREATE TRIGGER t BEFORE UPDATE ON events_log FOR EACH ROW EXECUTE FUNCTION watch()", True,
    ),
    "a publication of deletions": ("CREATE PUBLICATION other FOR TABLE events_log WITH (publish = 'delete')", True),
    "a rule": ("CREATE RULE r AS ON DELETE TO events_log DO ALSO NOTIFY gone", True),
}  # fmt: skip


async def test_processed_at_costs_nothing_where_nobody_can_see_it(scene: Scene) -> None:
    await scene.execute("CREATE FUNCTION watch() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NEW; END $$")
    async with open_source(scene.dsn) as rows:
        for name, (statement, watched) in WATCHERS.items():
            async with rows.connection.transaction(force_rollback=True):
                await rows.connection.execute(statement.encode())
                assert (await rows.look()).is_watched is watched, name


async def test_rows_that_are_in_no_object_are_neither_stamped_nor_deleted(scene: Scene) -> None:
    await scene.insert(10)
    await scene.export()
    await scene.insert(10)
    await scene.turns(2)
    assert await scene.rows_left() == 10 + len(STRANGE)
    assert await scene.value("SELECT bool_and(raw_exported_at IS NULL) FROM events_log")


@pytest.mark.parametrize("when", ["before_stamp", "before_delete"])
@pytest.mark.parametrize(
    ("fault", "problem"),
    [
        ("missing", "missing"),
        ("truncated", "truncated"),
        ("one_bit", "changed"),
        ("swapped", "changed"),
        ("count", "counts"),
        ("raw_counts", "counts"),
        ("bucket", "other_bucket"),
        ("epoch", "other_epoch"),
    ],
)
async def test_a_faulty_object_deletes_nothing_and_others_go_on(
    scene: Scene, fault: str, problem: str, when: str
) -> None:
    await scene.insert(30 - len(STRANGE))
    bad, other, good = await scene.export(per_object=10)
    if when == "before_delete":
        await scene.turns()
    match fault:
        case "missing":
            await scene.remove(bad.key)
        case "truncated":
            await scene.overwrite(bad.key, bad.body[:-20])
        case "one_bit":
            await scene.overwrite(bad.key, bad.body[:200] + bytes([bad.body[200] ^ 1]) + bad.body[201:])
        case "swapped":
            await scene.overwrite(bad.key, other.body)
        case "count":
            await scene.execute("UPDATE pipeline.raw_objects SET events = events + 1 WHERE id = %s", bad.id)
        case "raw_counts":
            await scene.execute("UPDATE pipeline.raw_counts SET events = events + 1 WHERE raw_object_id = %s", bad.id)
        case "bucket":
            await scene.execute("UPDATE pipeline.raw_objects SET bucket = 'another' WHERE id = %s", bad.id)
        case "epoch":
            async with await psycopg.AsyncConnection.connect(scene.dsn, autocommit=True) as connection:
                epoch = await ledger.epoch_of(connection, "7000000000000000001", 1, Lsn(0))
            await scene.execute(
                "UPDATE pipeline.raw_objects SET first_position = %s, last_position = %s, previous_position = NULL"
                " WHERE id = %s", str(Position(epoch, 1, 0)), str(Position(epoch, 1, 9)), bad.id,
            )  # fmt: skip
    reports = await scene.turns(3)
    if fault == "swapped" and len(other.body) < len(bad.body):
        problem = "truncated"  # the other object may compress a byte better
    assert {item["key"]: item["problem"] for item in reports[-1].refused} == {bad.key: problem}
    left = {row[0] for row in await scene.execute("SELECT id FROM events_log")}
    assert left == set(bad.ids)
    assert await scene.value("SELECT array_agg(id) FROM pipeline.raw_objects WHERE deleted_at IS NOT NULL") == [
        other.id,
        good.id,
    ]
    assert await scene.value("SELECT cleanup_problem FROM pipeline.raw_objects WHERE id = %s", bad.id) == problem


async def test_a_restored_object_is_taken_up_again(scene: Scene) -> None:
    await scene.insert(5)
    [stored] = await scene.export()
    await scene.remove(stored.key)
    await scene.turns(2)
    assert await scene.rows_left() == len(stored.ids)
    await scene.overwrite(stored.key, stored.body)
    await scene.turns(2)
    assert await scene.rows_left() == 0
    assert await scene.value("SELECT cleanup_problem FROM pipeline.raw_objects") is None


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE events_log SET raw_event_data = jsonb_set(raw_event_data, '{n}', '2.0') WHERE id = 2",
        "UPDATE events_log SET raw_event_data = '{\"n\": 2.00}' WHERE id = 2",
        "UPDATE events_log SET path = NULL WHERE id = 2",
        "UPDATE events_log SET url = url || ' ' WHERE id = 2",
        "UPDATE events_log SET timestamp = timestamp + interval '1 microsecond' WHERE id = 2",
        "UPDATE events_log SET ip_address = '10.0.0.2' WHERE id = 2",
        "UPDATE events_log SET url = path, path = url WHERE id = 2",
        "ALTER TABLE events_log ADD note text; UPDATE events_log SET note = '100%% new' WHERE id = 2",
    ],
)
async def test_a_row_changed_after_its_export_stays_and_is_an_alert(scene: Scene, change: str) -> None:
    await scene.insert(5)
    [stored] = await scene.export()
    await scene.turns()
    for statement in change.replace("%%", "%").split(";"):
        await scene.execute(statement.replace("%", "%%"))
    [report] = await scene.turns()
    assert report.rows == {"deleted": len(stored.ids) - 1, "changed": 1}
    assert [row[0] for row in await scene.execute("SELECT id FROM events_log")] == [2]
    assert await scene.value("SELECT cleanup_problem FROM pipeline.raw_objects") == "rows_changed"


async def test_an_id_used_again_after_a_recovery_stays(scene: Scene) -> None:
    await scene.insert(5)
    [stored] = await scene.export()
    await scene.turns()
    await scene.execute("DELETE FROM events_log WHERE id = 3")
    await scene.execute("INSERT INTO events_log (id, event_type) VALUES (3, 'pageview')")
    [report] = await scene.turns()
    assert report.rows == {"deleted": len(stored.ids) - 1, "gone": 1}
    assert await scene.execute("SELECT id, raw_exported_at FROM events_log") == [(3, None)]
    assert await scene.value("SELECT gone_rows FROM pipeline.raw_objects") == 1


async def test_columns_that_come_and_go_after_the_export_do_not_stop_the_deletion(scene: Scene) -> None:
    await scene.insert(5)
    await scene.export()
    await scene.execute(
        "ALTER TABLE events_log ADD source text DEFAULT '50%% of {it}', ADD more int, DROP COLUMN batch_id"
    )
    await scene.insert(5)
    await scene.export()
    await scene.turns(2)
    assert await scene.rows_left() == 0


async def test_nothing_is_deleted_before_the_delay_is_over_by_the_ledgers_clock(scene: Scene) -> None:
    await scene.insert(5)
    [stored] = await scene.export()
    await scene.turns(3, cleanup_delay_seconds=3600)
    assert await scene.rows_left() == len(stored.ids)
    await scene.execute("UPDATE pipeline.raw_objects SET stamped_at = now() - interval '3590 seconds'")
    await scene.turns(1, cleanup_delay_seconds=3600)
    assert await scene.rows_left() == len(stored.ids)
    await scene.execute("UPDATE pipeline.raw_objects SET stamped_at = now() - interval '3601 seconds'")
    await scene.turns(1, cleanup_delay_seconds=3600)
    assert await scene.rows_left() == 0


async def test_a_clock_that_jumps_forward_ends_no_delay(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    await scene.insert(5)
    [stored] = await scene.export()
    real = cleanup.clock
    async with scene.cleaner(cleanup_delay_seconds=60) as (cleaner, rows, _):
        await cleaner.turn(rows)

        async def ahead(connection: psycopg.AsyncConnection) -> object:
            from datetime import timedelta

            return await real(connection) + timedelta(days=1)

        monkeypatch.setattr(cleanup, "clock", ahead)
        await cleaner.turn(rows)
    assert await scene.rows_left() == len(stored.ids)


async def test_while_the_ledger_is_away_nothing_more_is_deleted_and_afterwards_it_goes_on(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """GIVEN a ledger that goes away behind the first of four batches, THEN the other three wait for it."""
    await scene.insert(20 - len(STRANGE))
    await scene.export()
    await scene.turns()
    parts = conninfo_to_dict(scene.dsn)
    proxy = Proxy(int(str(parts["port"])))
    await proxy.start()
    add_deleted = cleanup.add_deleted

    async def then_cut(connection: psycopg.AsyncConnection, object_id: int, rows: int) -> None:
        await add_deleted(connection, object_id, rows)
        await proxy.stop()

    monkeypatch.setattr(cleanup, "add_deleted", then_cut)
    away = SecretStr(make_conninfo(scene.dsn, host="127.0.0.1", port=proxy.port))
    with pytest.raises(TransientError):
        async with scene.cleaner(ledger_database_url=away, cleanup_batch_rows=5) as (cleaner, rows, _):
            await cleaner.turn(rows)
    assert await scene.rows_left() == 15
    monkeypatch.undo()
    await scene.turns()
    assert await scene.rows_left() == 0


async def test_a_clock_that_jumps_back_deletes_nothing_early_and_later_it_goes_on(scene: Scene) -> None:
    """GIVEN a stamp that lies in the future since the ledger's clock was set back, THEN its delay counts from there."""
    await scene.insert(5)
    [stored] = await scene.export()
    await scene.turns()
    await scene.execute("UPDATE pipeline.raw_objects SET stamped_at = now() + interval '2 hours'")
    await scene.turns(2)
    assert await scene.rows_left() == len(stored.ids)
    await scene.execute("UPDATE pipeline.raw_objects SET stamped_at = now() - interval '1 second'")
    await scene.turns()
    assert await scene.rows_left() == 0


async def test_nothing_becomes_stamped_while_a_snapshot_is_under_way(scene: Scene) -> None:
    await scene.insert(5)
    [stored] = await scene.export()
    await scene.execute("UPDATE pipeline.stream_state SET state = 'snapshot'")
    await scene.turns(2)
    assert await scene.value("SELECT stamped_at IS NULL AND verified_at IS NOT NULL FROM pipeline.raw_objects")
    async with scene.cleaner() as (_, _, pool), pool.connection() as connection:
        found = await cleanup.reread(connection, stored.id)
        assert found is not None
        assert not await cleanup.set_stamped(connection, found, 5)


async def test_nothing_is_deleted_on_a_server_that_the_streamer_does_not_work_on(scene: Scene) -> None:
    await scene.insert(5)
    [stored] = await scene.export()
    await scene.turns()
    await scene.execute("UPDATE pipeline.epochs SET system_identifier = '7000000000000000001'")
    reports = await scene.turns(2)
    assert all(report.blocked for report in reports)
    assert await scene.rows_left() == len(stored.ids)


async def test_a_dry_run_says_what_it_would_delete_and_writes_nothing(scene: Scene) -> None:
    await scene.insert(9)
    first, second = await scene.export(per_object=10)
    await scene.remove(second.key)
    await scene.execute("UPDATE events_log SET path = 'x' WHERE id = 4")
    before = await scene.execute("SELECT * FROM pipeline.raw_objects ORDER BY id")
    [report] = await scene.turns(cleanup_dry_run=True)
    assert report.rows == {"would_be_deleted": 9, "gone": 0, "changed": 1}
    assert {item["key"]: item["problem"] for item in report.refused} == {
        first.key: "rows_changed",
        second.key: "missing",
    }
    assert await scene.execute("SELECT * FROM pipeline.raw_objects ORDER BY id") == before
    assert await scene.value("SELECT count(*) FROM events_log WHERE raw_exported_at IS NULL") == 9 + len(STRANGE)


async def test_several_cleaners_at_once_delete_each_row_once_and_refuse_nothing(scene: Scene) -> None:
    await scene.insert(600)
    await scene.export(per_object=50)

    async def work() -> int:
        async with scene.cleaner(cleanup_batch_rows=20) as (cleaner, rows, _):
            reports = [await cleaner.turn(rows) for _ in range(3)]
        assert not any(report.refused for report in reports)
        return sum(report.rows["deleted"] for report in reports)

    deleted = await asyncio.gather(*(work() for _ in range(3)))
    deleted.append((await scene.turns(2))[-1].rows["deleted"])
    assert await scene.rows_left() == 0
    assert sum(deleted) <= 600 + len(STRANGE)
    assert await scene.value("SELECT sum(deleted_rows) FROM pipeline.raw_objects") == 600 + len(STRANGE)


async def test_a_row_that_others_hold_locked_delays_the_batch_and_nothing_else(scene: Scene) -> None:
    await scene.insert(5)
    await scene.export()
    await scene.turns()
    async with await psycopg.AsyncConnection.connect(scene.dsn) as other:
        await other.execute("SELECT FROM events_log WHERE id = 1 FOR UPDATE")
        with pytest.raises(TransientError):
            await scene.turns()
        assert await scene.rows_left() == 5 + len(STRANGE)
    await scene.turns()
    assert await scene.rows_left() == 0


async def test_every_deleted_row_is_byte_for_byte_in_a_verified_object_though_objects_are_corrupted_at_random(
    scene: Scene,
) -> None:
    rng, stored, broken = random.Random(6), [], set()
    await scene.watch_deletions()
    for _ in range(3):
        await scene.insert(1000)
        stored += await scene.export(per_object=100)

    async def corrupt() -> None:
        for _ in range(12):
            broken.add(await scene.corrupt(rng, stored))

    corruption = asyncio.create_task(corrupt())
    await scene.turns(3)
    await corruption
    await scene.turns(2)
    assert await scene.assert_every_deleted_row_is_stored(stored, broken) > 1000
