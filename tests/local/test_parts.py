"""Single parts and the helpers below them, each on its own."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from pathlib import Path

import psutil
import psycopg
import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

from local import jars, ports
from local.aws_server import is_stranger
from local.kafka import Kafka, Noida, choose_broker
from local.leftovers import FolderInUseError, FolderLock, Pids, empty
from local.postgres import Postgres, new_password
from local.process import Command, PartError, Process
from local.state import State, env_text, read_env


def a_port() -> int:
    """Any that is free."""
    return ports.choose(("any",), {})["any"]


def sleeper(folder: Path, code: str = "import time; time.sleep(600)") -> Command:
    """A process that waits until somebody ends it."""
    return Command(argv=(sys.executable, "-c", code), log=folder / "log", folder=folder)


async def test_process_stops_by_its_signal_and_is_killed_when_it_ignores_that(tmp_path: Path) -> None:
    polite = await Process.start(sleeper(tmp_path))
    await polite.stop()
    assert polite.exit_status == -signal.SIGTERM

    code = (
        "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('deaf', flush=True); time.sleep(600)"
    )
    deaf = await Process.start(sleeper(tmp_path, code))
    while "deaf" not in deaf.log_tail():  # a log can only be asked; the test's timeout bounds it
        await asyncio.sleep(0.02)
    await deaf.stop(timeout_seconds=0.1)
    assert deaf.exit_status == -signal.SIGKILL


async def test_missing_program_is_named(tmp_path: Path) -> None:
    with pytest.raises(PartError, match="/nowhere/program is not there"):
        await Process.start(Command(argv=("/nowhere/program",), log=tmp_path / "log", folder=tmp_path))


async def test_leftover_of_an_earlier_run_is_ended(tmp_path: Path) -> None:
    code = (
        "import signal, sys, time; signal.signal(signal.SIGTERM, lambda *_: "
        "sys.exit(print('in good order', flush=True))); print('ready', flush=True);"
        " time.sleep(600)"
    )
    left = await Process.start(sleeper(tmp_path, code))
    while "ready" not in left.log_tail():  # a log can only be asked; the test's timeout bounds it
        await asyncio.sleep(0.02)
    Pids(tmp_path).add("Sleeper", left)

    assert await Pids(tmp_path).reap() == ["Sleeper"]

    # Its status may have gone to either of the two that waited for it: this process's child is the leftover here.
    await asyncio.wait_for(left.wait(), 5)
    assert "in good order" in left.log_tail()
    assert not (tmp_path / "pids").exists()


async def test_process_that_got_the_same_id_later_is_spared(tmp_path: Path) -> None:
    stranger = await Process.start(sleeper(tmp_path))
    created = psutil.Process(stranger.pid).create_time()
    (tmp_path / "pids").write_text(json.dumps({"Sleeper": [stranger.pid, created - 60, 15]}))

    assert await Pids(tmp_path).reap() == []

    assert stranger.exit_status is None
    await stranger.kill()


def test_folder_belongs_to_one_stack_at_a_time(tmp_path: Path) -> None:
    first = FolderLock(tmp_path)
    with pytest.raises(FolderInUseError):
        FolderLock(tmp_path)
    first.release()
    FolderLock(tmp_path).release()


def test_port_is_kept_while_it_is_free_and_changed_when_not() -> None:
    import socket

    port = a_port()
    assert ports.choose(("a",), {"a": port}) == {"a": port}
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", port))
        taken.listen()
        assert ports.choose(("a",), {"a": port})["a"] != port


def test_state_and_environment_survive_their_files(tmp_path: Path) -> None:
    state = State()
    state.save(tmp_path)
    assert State.load(tmp_path) == state
    values = {"DATABASE_URL": "postgresql://u:p@127.0.0.1:1/d?options=-c%20x=1", "CREDENTIALS_KEYS": "a=,b="}
    (tmp_path / "env").write_text(env_text(values))
    assert read_env(tmp_path / "env") == values


async def test_postgres_15_starts_with_other_settings_and_recovers_from_a_kill(tmp_path: Path, pg15_bin: Path) -> None:
    server = Postgres(
        tmp_path, a_port(), password=new_password(), bin_folder=pg15_bin, settings={"wal_level": "replica"}
    )
    await server.start()
    try:
        assert server.version.startswith("15.")
        async with await psycopg.AsyncConnection.connect(server.dsn) as connection:
            cursor = await connection.execute("SHOW wal_level")
            assert await cursor.fetchone() == ("replica",)
            await connection.execute("CREATE TABLE kept (n int)")
        await server.kill()
        server.settings["wal_level"] = "logical"
        await server.start()
        async with await psycopg.AsyncConnection.connect(server.dsn) as connection:
            cursor = await connection.execute("SELECT current_setting('wal_level'), count(*) FROM kept")
            assert await cursor.fetchone() == ("logical", 0)
    finally:
        await server.stop()
    assert server.process.exit_status == 0


async def test_server_that_can_not_start_shows_its_log(tmp_path: Path) -> None:
    server = Postgres(tmp_path, a_port(), password=new_password(), settings={"wal_level": "nonsense"})
    with pytest.raises(PartError, match="invalid value for parameter"):
        await server.start()
    assert ports.is_free(server.port)


async def test_without_java_the_small_broker_runs_and_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("JAVA_HOME", raising=False)
    broker = await choose_broker(tmp_path, a_port(), a_port(), say=print)
    assert isinstance(broker, Noida)
    assert "Java 17 or newer is not there" in broker.remark
    await broker.start()
    try:
        await broker.create_topic("test", partitions=3, retention_hours=1)
        await broker.create_topic("test", partitions=3, retention_hours=1)
        producer = AIOKafkaProducer(bootstrap_servers=broker.bootstrap_servers, enable_idempotence=True)
        await producer.start()
        await producer.send_and_wait("test", b"1", partition=2)
        await producer.stop()
        consumer = AIOKafkaConsumer(bootstrap_servers=broker.bootstrap_servers)
        await consumer.start()
        consumer.assign([TopicPartition("test", 2)])
        await consumer.seek_to_beginning()
        record = await asyncio.wait_for(consumer.getone(), 10)
        await consumer.stop()
        assert record.value == b"1"
    finally:
        await broker.stop()


def make_program(path: Path, script: str) -> None:
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


async def test_without_maven_only_a_cached_broker_is_the_real_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jars, "find_maven", lambda: None)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    make_program(tmp_path / "java", "echo 'openjdk version \"17.0.1\"' >&2")
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.delenv("JAVA_HOME", raising=False)
    assert isinstance(await choose_broker(tmp_path, 1, 2, say=print), Noida)
    jars.cache_folder().mkdir(parents=True)
    assert isinstance(await choose_broker(tmp_path, 1, 2, say=print), Kafka)


async def test_when_maven_fails_the_small_broker_says_why_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    make_program(tmp_path / "java", "echo 'openjdk version \"17.0.1\"' >&2")
    make_program(
        tmp_path / "mvn", "echo '[ERROR] Could not transfer from https://registry.test/a/b.jar -> [Help 1]'; exit 1"
    )
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.delenv("JAVA_HOME", raising=False)
    broker = await choose_broker(tmp_path, 1, 2, say=print)
    assert isinstance(broker, Noida)
    assert broker.remark.startswith("Maven fails (Could not transfer from b.jar), so the broker is noida-db")


def test_a_folder_is_emptied_only_when_nobody_uses_it(tmp_path: Path) -> None:
    (tmp_path / "kafka" / "data").mkdir(parents=True)
    (tmp_path / "env").touch()
    lock = FolderLock(tmp_path)
    with pytest.raises(FolderInUseError, match="another stack"):
        empty(tmp_path)
    assert (tmp_path / "env").exists()
    lock.release()
    empty(tmp_path)
    assert [entry.name for entry in tmp_path.iterdir()] == ["lock"]


async def test_changed_jar_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    jars.cache_folder().mkdir(parents=True)
    for name in jars.manifest():
        (jars.cache_folder() / name).write_bytes(b"not the jar")
    with pytest.raises(PartError, match=r"not as pinned in local/kafka.sha256: .*kafka-clients"):
        await jars.fetch(print)


@pytest.mark.parametrize(
    ("path", "query", "authorization", "is_refused"),
    [
        ("/", b"", b"AWS4-HMAC-SHA256 Credential=AKIA2345/20260101/us-east-1/s3/aws4_request, SignedHeaders=a", False),
        ("/", b"", b"AWS4-HMAC-SHA256 Credential=test/20260101/us-east-1/s3/aws4_request, SignedHeaders=a", True),
        ("/", b"", b"AWS4-HMAC-SHA256 Credential=123456789012/20260101/us-east-1/s3/aws4_request", True),
        ("/b/k", b"X-Amz-Credential=AKIA2345%2F20260101%2Fus-east-1&X-Amz-Signature=0", b"", False),
        ("/b/k", b"X-Amz-Credential=test%2F20260101%2Fus-east-1&X-Amz-Signature=0", b"", True),
        ("/b/k", b"AWSAccessKeyId=test&Signature=0", b"", True),
        ("/", b"", b"AWS AKIA2345:c2ln", False),
        ("/", b"", b"", True),
        ("/_ministack/health", b"", b"", False),
        ("/_ministack/reset", b"", b"", True),
    ],
)
def test_emulator_lets_no_stranger_in(path: str, query: bytes, authorization: bytes, is_refused: bool) -> None:
    assert is_stranger(path, query, authorization) is is_refused
