"""Every type that PostgreSQL has, by snapshot and by stream, on the newest and on the oldest server; DDL on the way."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from local import ports
from local.postgres import Postgres, new_password
from local.stack import Stack
from tests.integration.streamer_scene import Scene, eventually, open_scene

ROOT = Path(__file__).parents[2]
BIG = "123456789012345678901234567890.000000000000000000000000000001"

# column definition, SQL value, what it is as JSON text
COLUMNS = {
    "c_bigint": ("bigint", "-9223372036854775808", "-9223372036854775808"),
    "c_numeric": ("numeric", BIG, BIG),
    "c_nan": ("numeric", "'NaN'", '"NaN"'),
    "c_real": ("real", "1.1", "1.1"),
    "c_double": ("double precision", "1e300", "1e+300"),
    "c_infinity": ("double precision", "'-Infinity'", '"-Infinity"'),
    "c_timestamptz": ("timestamptz", "'2026-03-01 12:00:00.000001+05:30'", '"2026-03-01T06:30:00.000001Z"'),
    "c_timestamp": ("timestamp", "'2026-03-01 12:00:00'", '"2026-03-01T12:00:00.000000"'),
    "c_forever": ("timestamptz", "'infinity'", '"infinity"'),
    "c_date": ("date", "'2026-03-01'", '"2026-03-01"'),
    "c_time": ("time", "'12:00:00.5'", '"12:00:00.5"'),
    "c_interval": ("interval", "'1 day 02:03:04.5'", '"P1DT2H3M4.5S"'),
    "c_inet": ("inet", "'10.1.2.3/8'", '"10.1.2.3"'),
    "c_cidr": ("cidr", "'10.0.0.0/8'", '"10.0.0.0/8"'),
    "c_macaddr": ("macaddr", "'08:00:2b:01:02:03'", '"08:00:2b:01:02:03"'),
    "c_uuid": ("uuid", "'6D0C1A9E-0000-0000-0000-000000000000'", '"6d0c1a9e-0000-0000-0000-000000000000"'),
    "c_bytea": ("bytea", "'\\xDEADBEEF'", '"\\\\xdeadbeef"'),
    "c_boolean": ("boolean", "false", "false"),
    "c_bits": ("bit(3)", "B'101'", '"101"'),
    "c_money": ("money", "1.5", '"$1.50"'),
    "c_char": ("char(3)", "'a'", '"a  "'),
    "c_empty": ("text", "''", '""'),
    "c_unicode": ("text", "E'\\u00e9\\U0001F600\\u2028\\t\\\\ \"'", json.dumps('é😀\u2028\t\\ "', ensure_ascii=False)),
    "c_range": ("int4range", "'[1,5)'", '"[1,5)"'),
    "c_json": ("json", "'{\"a\":\n 1e400}'", '{"a":  1e400}'),
    "c_jsonb": ("jsonb", f'\'{{"n": {BIG}, "m": 1.10}}\'', f'{{"m": 1.10, "n": {BIG}}}'),
    "c_ints": ("int[]", "'{{1,2},{3,NULL}}'", "[[1,2],[3,null]]"),
    "c_texts": ("text[]", "ARRAY['a b', 'NULL', NULL, '\"', '\\', '']", '["a b","NULL",null,"\\"","\\\\",""]'),
    "c_jsonbs": ("jsonb[]", 'ARRAY[\'{"client_id": "evil"}\'::jsonb]', '[{"client_id": "evil"}]'),
    "c_enum": ("mood", "'so so'", '"so so"'),
    "c_enums": ("mood[]", "'{\"so so\",glad}'", '["so so","glad"]'),
    "c_domain": ("positive", "7", "7"),
    "c_domains": ("positive[]", "'{7,8}'", "[7,8]"),
    "c_composite": ("pair", "ROW(1, 'a \"b\"')", '"(1,\\"a \\"\\"b\\"\\"\\")"'),
}
PREPARE = (
    "CREATE TYPE mood AS ENUM ('so so', 'glad'); CREATE DOMAIN positive AS bigint CHECK (VALUE > 0);"
    " CREATE TYPE pair AS (a int, b text)"
)


@asynccontextmanager
async def server(folder: Path, bin_folder: Path | None = None) -> AsyncIterator[Postgres]:
    port = ports.choose(("server",), {})["server"]
    running = Postgres(
        folder,
        port,
        password=new_password(),
        bin_folder=bin_folder,
        settings={"fsync": "off", "shared_buffers": "32MB"},
    )
    await running.start()
    try:
        yield running
    finally:
        await running.stop()


@pytest.fixture(params=["newest", "oldest"])
async def scene(request: pytest.FixtureRequest, stack: Stack, tmp_path: Path) -> AsyncIterator[Scene]:
    if request.param == "newest":
        async with open_scene(stack, tmp_path) as scene:
            yield scene
    else:
        folder = request.getfixturevalue("pg15_bin")
        async with server(tmp_path / "pg15", folder) as running, open_scene(stack, tmp_path, postgres=running) as scene:
            yield scene


async def insert_all_types(scene: Scene) -> None:
    names, values = ", ".join(COLUMNS), ", ".join(value for _, value, _ in COLUMNS.values())
    await insert(scene, names, values)


async def insert(scene: Scene, names: str, values: str) -> str:
    row = await scene.fetch(
        f"INSERT INTO events_log (event_type, client_id, {names}) VALUES ('t', 'acme', {values}) RETURNING event_id"
    )
    scene.inserted.add(str(row[0]))
    return str(row[0])


@pytest.mark.timeout(120)
async def test_every_type_arrives_as_sensible_json_by_snapshot_and_by_stream(scene: Scene) -> None:
    async with scene.connect(user="postgres") as connection:
        for statement in PREPARE.split(";"):
            await connection.execute(statement.encode())
        for name, (definition, _, _) in COLUMNS.items():
            await connection.execute(f"ALTER TABLE events_log ADD COLUMN {name} {definition}".encode())
    await insert_all_types(scene)
    streamer = await scene.streamer().start()
    await streamer.until_state("streaming")
    await insert_all_types(scene)
    megabyte = await insert(scene, "url", "repeat('ü', 500000)")
    await scene.until_recorded()

    await the_cleaner_recognises_its_rows(scene)

    async with scene.connect(user="postgres") as connection:  # types and columns that come and go on the way
        await connection.execute("CREATE DOMAIN score AS numeric")
        await connection.execute("ALTER TABLE events_log ADD COLUMN late score[], ADD COLUMN gone text")
        first = await insert(scene, "late, gone", "'{1.10}', 'x'")
        await connection.execute("ALTER TABLE events_log DROP COLUMN gone")
        await connection.execute("ALTER TABLE events_log RENAME COLUMN late TO renamed")
        second = await insert(scene, "renamed", "'{2.20}'")
    await scene.until_recorded()
    assert await streamer.stop() == 0

    lines = {json.loads(line)["event_id"]: line for line in (await scene.raw_lines())}
    assert lines.keys() == scene.inserted
    whole = [line for line in lines.values() if f'"c_bigint":{COLUMNS["c_bigint"][2]}' in line]
    assert len(whole) == 2
    for line in whole:
        for name, (_, _, expected) in COLUMNS.items():
            assert f'"{name}":{expected}' in line, name
        assert line.index('"client_id":') == line.index('"client_id":"acme"')
    assert len(record(lines[megabyte])["url"]) == 500000
    assert (record(lines[first])["gone"], "renamed" in record(lines[first])) == ("x", False)
    assert '"late":[1.10]' in lines[first]
    assert '"renamed":[2.20]' in lines[second]
    assert "gone" not in record(lines[second])


async def the_cleaner_recognises_its_rows(scene: Scene) -> None:
    """It deletes a row only if the record in S3 says the same, column by column."""
    environment = {**os.environ, **scene.environment, "CLEANUP_DELAY_SECONDS": "0"}
    environment["HEALTH_PORT"] = str(ports.choose(("cleaner",), {})["cleaner"])
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "database", "cleaner", env=environment, cwd=ROOT, stderr=asyncio.subprocess.DEVNULL
    )

    async def empty() -> bool:
        return bool((await scene.fetch("SELECT count(*) = 0 FROM events_log"))[0])

    try:
        await eventually(empty, what="the cleaner deletes what is exported")
    finally:
        process.terminate()
        await process.wait()


def record(line: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(line)
    return found


@pytest.mark.parametrize("scene", ["newest"], indirect=True)
async def test_table_partitioned_by_time_streams_and_snapshots_under_its_roots_name(scene: Scene) -> None:
    async with scene.connect() as connection:
        await connection.execute("SET search_path = public")  # the user's own schema, pipeline, would come first
        await connection.execute("ALTER TABLE events_log RENAME TO events_log_old")
        await connection.execute("DROP PUBLICATION events_pipeline")
        await connection.execute(
            "CREATE TABLE events_log (LIKE events_log_old INCLUDING DEFAULTS INCLUDING IDENTITY)"
            " PARTITION BY RANGE (created_at)"
        )
        for number, (begin, end) in enumerate((("-infinity", "2026-01-01"), ("2026-01-01", "infinity"))):
            await connection.execute(
                f"CREATE TABLE events_log_{number} PARTITION OF events_log"
                f" FOR VALUES FROM ('{begin}') TO ('{end}')".encode()
            )
        await connection.execute(
            "CREATE PUBLICATION events_pipeline FOR TABLE events_log"
            " WITH (publish = 'insert', publish_via_partition_root = true)"
        )
    await scene.insert(20)
    await insert(scene, "created_at", "'2020-01-01'")
    streamer = await scene.streamer().start()
    await streamer.until_state("streaming")
    await scene.insert(20)
    await insert(scene, "created_at", "'2020-01-01'")
    async with scene.connect() as connection:  # a new partition, with the columns in another order
        await connection.execute("SET search_path = public")
        await connection.execute("ALTER TABLE events_log DETACH PARTITION events_log_0")
        await connection.execute(
            "CREATE TABLE other AS SELECT created_at, event_type, id, event_id, session_id, visitor_id, site_id,"
            ' "timestamp", url, path, user_agent, ip_address, raw_event_data, client_id, batch_id, export_status,'
            " raw_exported_at, processed_at FROM events_log LIMIT 0"
        )
        for name in ("id", "event_id", "event_type", "created_at", "export_status"):
            await connection.execute(f"ALTER TABLE other ALTER {name} SET NOT NULL".encode())
        await connection.execute(
            "ALTER TABLE events_log ATTACH PARTITION other FOR VALUES FROM ('2019-01-01') TO ('2026-01-01')"
        )
    await insert(scene, "created_at", "'2019-06-01'")
    await scene.until_recorded()
    assert await streamer.stop() == 0
    await scene.check()
