"""events_log becomes partitioned by day while rows come in and the streamer reads: nothing moves, nothing is missed."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from database.cleaner import sweep
from database.partition import drop_empty, make_ahead, partition
from local import ports
from local.postgres import Postgres, new_password
from local.stack import Stack
from pipeline.errors import ConfigError
from tests.integration import cleaner_scene, streamer_scene
from tests.integration.cleaner_scene import STRANGE


@pytest.fixture
async def scene(stack: Stack) -> AsyncIterator[cleaner_scene.Scene]:
    async with cleaner_scene.open_scene(stack) as made:
        yield made


async def _partition(dsn: str) -> bool:
    async with await psycopg.AsyncConnection.connect(dsn, autocommit=True) as connection:
        return await partition(connection, days_ahead=3)


async def test_while_rows_come_in_and_the_streamer_reads_each_row_is_streamed_once(
    stack: Stack, tmp_path: Path
) -> None:
    async with streamer_scene.open_scene(stack, tmp_path) as scene:
        await scene.insert(500)
        streamer = await scene.streamer().start()
        await streamer.until_state("streaming")
        async with scene.load():
            await scene.insert(50)
            assert await _partition(scene.environment["DATABASE_URL"])
            await scene.insert(50)
        await scene.insert(500)
        await scene.until_recorded()
        assert await streamer.stop() == 0, streamer.log_tail
        await streamer.start()
        await streamer.until_state("streaming")
        await scene.insert(20)
        await scene.until_recorded()
        assert await streamer.stop() == 0, streamer.log_tail
        await scene.check()


async def test_rows_stay_where_they_are_and_ids_and_grants_go_on(scene: cleaner_scene.Scene) -> None:
    await scene.insert(10)
    await scene.execute("GRANT SELECT ON events_log TO PUBLIC")
    where = await scene.execute("SELECT id, ctid::text FROM events_log ORDER BY id")
    assert await _partition(scene.dsn)
    assert not await _partition(scene.dsn), "a second time there is nothing to do"
    assert await scene.execute("SELECT id, ctid::text FROM events_log ORDER BY id") == where
    await scene.insert(10)
    assert await scene.value("SELECT array_agg(id ORDER BY id) = array_agg(n ORDER BY n) FROM (SELECT id,"
                             " row_number() OVER (ORDER BY id) AS n FROM events_log) r")  # fmt: skip
    assert await scene.value("SELECT has_table_privilege('public', 'events_log', 'SELECT')")
    assert await scene.execute("SELECT pubname, tablename FROM pg_publication_tables") == [
        ("events_pipeline", "events_log")
    ]
    await scene.execute("INSERT INTO events_log (event_type, created_at) VALUES ('pageview', '2099-01-01')")


async def test_the_cleaner_empties_a_partitioned_table_and_changed_rows_stay(scene: cleaner_scene.Scene) -> None:
    await scene.insert(20)
    await scene.export()
    await _partition(scene.dsn)
    await scene.insert(20)
    await scene.execute(
        "INSERT INTO events_log (event_type, created_at) VALUES ('pageview', now() + interval '2 days')"
    )
    await scene.export()
    await scene.turns()
    await scene.execute("UPDATE events_log SET created_at = created_at + interval '1 day' WHERE id = 3")
    reports = await scene.turns(2)
    assert reports[0].rows == {"deleted": 40 + 2 * len(STRANGE), "changed": 1}
    assert await scene.execute("SELECT id FROM events_log") == [(3,)]


async def test_partitions_are_made_ahead_once(scene: cleaner_scene.Scene) -> None:
    await _partition(scene.dsn)
    async with await psycopg.AsyncConnection.connect(scene.dsn, autocommit=True) as connection:
        await connection.execute("SET timezone = 'UTC'")
        # A page's clock may be wrong by days: such a row lies in the default partition, and its day is passed over.
        await scene.execute("INSERT INTO events_log (event_type, created_at) VALUES ('p', now() + interval '6 days')")
        made = await make_ahead(connection, days_ahead=9)
        assert len(made) in (4, 5, 6)
        assert len(set(made)) == len(made)
        assert await make_ahead(connection, days_ahead=9) == []


async def test_a_day_that_is_over_is_dropped_once_its_rows_are_deleted(scene: cleaner_scene.Scene) -> None:
    await scene.insert(10)
    await scene.export()
    await _partition(scene.dsn)
    later = datetime.now(UTC) + timedelta(days=4)
    async with await psycopg.AsyncConnection.connect(scene.dsn, autocommit=True) as connection:
        await connection.execute("SET timezone = 'UTC'")
        assert not any("before" in name for name in await drop_empty(connection, now=later)), "it has rows"
        await scene.turns(2)
        assert any("before" in name for name in await drop_empty(connection, now=later))
        assert await drop_empty(connection, now=datetime.now(UTC)) == []
    await scene.insert(10)
    assert await scene.rows_left() == 10 + len(STRANGE)


async def over(scene: cleaner_scene.Scene) -> str:
    """A table partitioned by day, with a day that is over; the name of its partition."""
    await _partition(scene.dsn)
    begin = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0) - timedelta(days=2)
    await scene.execute("DROP TABLE events_log_before_" + str(await scene.value(
        "SELECT substring(c.relname from '\\d+$') FROM pg_inherits JOIN pg_class c ON c.oid = inhrelid"
        " WHERE relname LIKE 'events_log_before_%%' AND inhparent = 'events_log'::regclass"
    )))  # fmt: skip
    await scene.execute(
        f"CREATE TABLE gone_by PARTITION OF events_log (PRIMARY KEY (id)) FOR VALUES FROM ('{begin}')"
        f" TO ('{begin + timedelta(days=1)}')"
    )
    await scene.insert(20)
    await scene.execute(f"UPDATE events_log SET created_at = '{begin + timedelta(hours=5)}'")
    await scene.export(per_object=10)
    await scene.execute(
        "UPDATE pipeline.raw_objects SET min_commit_time = min_commit_time - interval '2 days',"
        " max_commit_time = max_commit_time - interval '2 days'"
    )
    return "gone_by"


async def exists(scene: cleaner_scene.Scene, name: str) -> bool:
    return await scene.value("SELECT to_regclass(%s) IS NOT NULL", name) is True


async def test_a_verified_day_is_dropped_whole_without_a_stamp_and_its_objects_are_done(
    scene: cleaner_scene.Scene,
) -> None:
    name = await over(scene)
    rows = await scene.rows_left()
    reports = await scene.turns(1, cleanup_by_partition=True, cleanup_delay_seconds=3600)
    assert reports[0].objects == {"verified": 3}
    assert await exists(scene, name), "younger than the delay"
    reports = await scene.turns(1, cleanup_by_partition=True, cleanup_dry_run=True)
    assert reports[0].rows["would_be_dropped"] == rows
    assert await scene.value("SELECT count(raw_exported_at) FROM events_log") == 0
    assert await exists(scene, name)
    reports = await scene.turns(3, cleanup_by_partition=True)
    assert reports[0].rows == {"dropped": rows}
    assert not await exists(scene, name)
    assert await scene.rows_left() == 0
    assert await scene.value("SELECT bool_and(gone_rows = events) FROM pipeline.raw_objects") is True


@pytest.mark.parametrize(
    "fault", ["a row changed", "a row in no object", "an object lost", "written to meanwhile", "replicated into"]
)
async def test_a_day_with_anything_unverified_is_not_dropped_and_the_rest_goes_row_by_row(
    scene: cleaner_scene.Scene, fault: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = await over(scene)
    await scene.turns(1, cleanup_by_partition=True)
    if not await exists(scene, name):
        pytest.fail("dropped in the turn that verified: objects must be verified before")
    left = 1
    match fault:
        case "a row changed":
            await scene.execute("UPDATE events_log SET url = 'https://changed.example/' WHERE id = 3")
        case "a row in no object":
            await scene.execute("INSERT INTO events_log (event_type, created_at) SELECT 'late', min(created_at)"
                                " FROM events_log")  # fmt: skip
        case "an object lost":
            await scene.remove(str(await scene.value("SELECT key FROM pipeline.raw_objects ORDER BY id LIMIT 1")))
            left = 10
        case _:
            compare = sweep.Sweep._compare

            async def after(*arguments: Any) -> int:
                changed = await compare(*arguments)
                if arguments[1].first_position.endswith("20"):
                    dsn = make_conninfo(scene.stack.postgres.admin_dsn, dbname=conninfo_to_dict(scene.dsn)["dbname"])
                    async with await psycopg.AsyncConnection.connect(dsn) as somebody:
                        if fault == "replicated into":  # as a subscription's worker does
                            await somebody.execute("SET session_replication_role = replica")
                        await somebody.execute("UPDATE events_log SET url = 'https://changed.example/' WHERE id = 3")
                return changed

            monkeypatch.setattr(sweep.Sweep, "_compare", after)
    reports = await scene.turns(3, cleanup_by_partition=True)
    assert await exists(scene, name)
    assert not any(report.rows.get("dropped") for report in reports)
    monkeypatch.undo()
    await scene.turns(3, cleanup_by_partition=True)
    assert await exists(scene, name)
    assert await scene.rows_left() == left


async def test_what_hangs_on_the_table_is_named_and_nothing_is_changed(scene: cleaner_scene.Scene) -> None:
    await scene.execute("CREATE VIEW recent AS SELECT * FROM events_log")
    with pytest.raises(ConfigError, match="view recent"):
        await _partition(scene.dsn)
    assert await scene.value("SELECT relkind::text FROM pg_class WHERE oid = 'events_log'::regclass") == "r"


async def test_postgresql_15_is_partitioned_too(stack: Stack, pg15_bin: Path, tmp_path: Path) -> None:
    tmp_path.chmod(0o755)  # noqa: ASYNC240 - the server runs as another user
    for folder in (tmp_path.parent, tmp_path.parent.parent):
        folder.chmod(0o755)
    port = ports.choose(("postgres",), {})["postgres"]
    server = Postgres(tmp_path / "pg", port, password=new_password(), bin_folder=pg15_bin, settings={"fsync": "off"})
    await server.start()
    try:
        async with cleaner_scene.open_scene(stack, server) as scene:
            await scene.insert(20)
            await scene.export()
            assert await _partition(scene.dsn)
            await scene.insert(20)
            await scene.export()
            await scene.turns(2)
            assert await scene.rows_left() == 0
    finally:
        await server.stop()
