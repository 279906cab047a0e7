"""A wrong set-up of the streamer is one clear line that names what is wrong and how to mend it, and exit status 2."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import psycopg
import pytest
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from psycopg import sql
from psycopg.conninfo import make_conninfo

from local import ports
from local.postgres import Postgres, new_password
from local.stack import Stack
from tests.integration.streamer_scene import Scene, open_scene


@pytest.fixture(scope="module")
async def scene(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Scene]:
    async with open_scene(stack, tmp_path_factory.mktemp("settings")) as scene:
        yield scene


async def said(scene: Scene, **environment: str) -> str:
    """The one line that a start in this environment prints beside its logs, before it ends with status 2."""
    streamer = await scene.streamer(**environment).start()
    assert await streamer.wait() == 2, streamer.log_tail
    (line,) = (text for text in streamer.log_text.splitlines() if not text.startswith("{"))
    assert line.startswith("streamer: ")
    return line


@pytest.mark.parametrize(
    ("environment", "parts"),
    [
        ({"DATABASE_URL": ""}, ["DATABASE_URL is missing"]),
        ({"DATABASE_URL": "nonsense"}, ["DATABASE_URL is wrong", "postgresql://"]),
        ({"DATABASE_URL": "postgresql://a:x@127.0.0.1:1/b"}, ["DATABASE_URL: can't connect", "check address"]),
        ({"RAW_S3_BUCKET": "there-is-no-such-bucket"}, ["RAW_S3_BUCKET", "check the bucket's name"]),
        ({"KAFKA_RAW_TOPIC": "there.is.no.such.topic"}, ["KAFKA_RAW_TOPIC is wrong", "create it"]),
        ({"PUBLICATION": "missing"}, ["PUBLICATION", "run python -m database migrate"]),
    ],
)
async def test_wrong_variable_is_one_line_that_names_it_and_the_mend(
    scene: Scene, environment: dict[str, str], parts: list[str]
) -> None:
    line = await said(scene, **environment)
    for part in parts:
        assert part in line


async def test_topic_that_is_compacted_is_refused(scene: Scene) -> None:
    topic = f"{scene.topic}.compacted"
    admin = AIOKafkaAdminClient(bootstrap_servers=scene.environment["KAFKA_BOOTSTRAP_SERVERS"])
    await admin.start()
    try:
        await admin.create_topics(
            [NewTopic(topic, num_partitions=4, replication_factor=1, topic_configs={"cleanup.policy": "compact"})]
        )
        line = await said(scene, KAFKA_RAW_TOPIC=topic)
        assert "cleanup.policy=compact" in line
        assert "cleanup.policy=delete" in line
    finally:
        await admin.delete_topics([topic])
        await admin.close()


async def test_user_without_the_replication_attribute_is_told_so(scene: Scene) -> None:
    role = f"plain_{scene.database}"
    async with await psycopg.AsyncConnection.connect(
        scene.postgres.dsn_for(scene.database, user="postgres"), autocommit=True
    ) as connection:
        name = sql.Identifier(role)
        await connection.execute(sql.SQL("CREATE ROLE {} LOGIN PASSWORD 'x' IN ROLE pipeline").format(name))
        try:
            dsn = make_conninfo(scene.environment["DATABASE_URL"], user=role, password="x")
            line = await said(scene, DATABASE_URL=dsn, LEDGER_DATABASE_URL=scene.environment["DATABASE_URL"])
            assert "DATABASE_URL: the user may not replicate" in line
            assert "REPLICATION" in line
        finally:
            await connection.execute(sql.SQL("DROP ROLE {}").format(name))


async def test_slot_name_of_another_database_is_refused_and_that_slot_left_alone(scene: Scene) -> None:
    name = f"other_{scene.database}"
    async with await psycopg.AsyncConnection.connect(
        scene.postgres.dsn_for("postgres", user="postgres"), autocommit=True
    ) as connection:
        await connection.execute("SELECT pg_create_logical_replication_slot(%s, 'pgoutput')", (name,))
        try:
            line = await said(scene, REPLICATION_SLOT=name)
            assert "REPLICATION_SLOT is wrong" in line
        finally:
            await connection.execute("SELECT pg_drop_replication_slot(%s)", (name,))


async def test_server_without_logical_wal_and_server_in_recovery_are_told_so(
    stack: Stack, scene: Scene, tmp_path: Path
) -> None:
    port = ports.choose(("server",), {})["server"]
    settings = {"fsync": "off", "shared_buffers": "32MB", "wal_level": "replica"}
    server = Postgres(tmp_path / "server", port, password=new_password(), settings=settings)
    await server.start()
    try:
        async with open_scene(stack, tmp_path, postgres=server, ledger=stack.postgres) as other:
            line = await said(other)
            assert "wal_level: is replica, logical is needed" in line
            assert "ALTER SYSTEM SET wal_level" in line
            await server.stop()
            (server.data / "standby.signal").touch()
            server.settings["hot_standby"] = "on"
            await server.start()
            line = await said(other)
            assert "DATABASE_URL" in line
            assert "standby" in line
            await server.kill()
    finally:
        await server.stop()
