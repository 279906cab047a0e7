"""`python -m syncer` as a black box: queue in, buckets out, HTTP, signals, and what it says of a wrong set-up."""

from __future__ import annotations

import asyncio
import json
import re
import signal
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest

from local.ports import choose
from local.stack import Stack
from pipeline.destination import ClientBucketError
from pipeline.errors import ConfigError, PermanentError
from pipeline.syncqueue import ClientSync, Hours
from syncer import commands
from syncer import dead_letters as dead_letter_commands
from syncer.__main__ import main
from syncer.commands import ConnectionSettings, connection_test, deliver_once
from syncer.dead_letters import DeadLetterSettings
from syncer.pipeline import serve
from syncer.settings import SyncerSettings
from tests.integration.syncer_scene import HOUR, Scene, eventually, open_scene


@pytest.fixture(scope="module")
async def scene(stack: Stack) -> AsyncIterator[Scene]:
    async with open_scene(stack) as scene:
        yield scene


@asynccontextmanager
async def running(
    scene: Scene, **environment: str
) -> AsyncIterator[tuple[asyncio.subprocess.Process, httpx.AsyncClient]]:
    """The service, ready, and a client of its HTTP port; it is killed if the block leaves it running."""
    port = choose(("syncer",), {})["syncer"]
    process = await scene.start(HEALTH_PORT=str(port), SYNC_VISIBILITY_SECONDS="5", **environment)
    logs = asyncio.create_task(process.communicate())
    try:
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=10) as http:

            async def ready() -> bool:
                assert process.returncode is None, (await logs)[1].decode()
                with suppress(httpx.TransportError):
                    return (await http.get("/readyz")).status_code == 200
                return False

            await eventually(ready)
            yield process, http
    finally:
        with suppress(ProcessLookupError):
            process.kill()
        await logs


async def status_of(http: httpx.AsyncClient, client_id: str) -> dict[str, Any]:
    clients = (await http.get("/sync/status")).raise_for_status().json()["clients"]
    return next(client for client in clients if client["client_id"] == client_id)  # type: ignore[no-any-return]


def finished(http: httpx.AsyncClient, client_id: str, status: str = "finished") -> Callable[[], Awaitable[Any]]:
    async def check() -> Any:
        found = await status_of(http, client_id)
        return found if (found["last_run"] or {}).get("status") == status else None

    return check


def tick() -> dict[str, str]:
    return {"sync_frequency": "hourly", "time": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")}


async def test_tick_delivers_to_due_clients_and_a_broken_one_delays_nobody(scene: Scene) -> None:
    good = await scene.add_client()
    broken = await scene.add_client(client_s3_secret_key=scene.box.encrypt("wrong"))
    paused = await scene.add_client(sync_enabled=False)
    events = await scene.add_objects(good, count=5)
    for client in (broken, paused):
        await scene.add_objects(client)
    async with running(scene) as (process, http):
        now = tick()
        await scene.send(now, now, "not json", now)
        await eventually(finished(http, good.client_id))
        failed = await eventually(finished(http, broken.client_id, "failed"))
        assert failed["last_run"]["error_class"] == "SignatureDoesNotMatch"
        assert "secret key does not belong" in failed["last_run"]["error"]
        assert failed["pending"]["events"] == 3
        skipped = await status_of(http, paused.client_id)
        assert (skipped["skipped"], skipped["last_run"]) == ("sync is not enabled", None)
        found = await scene.read(good)
        assert found.event_ids == Counter(events)
        assert len(found.chain()) == 1
        # one message is no message: the redrive policy takes it to the dead letters
        await eventually(lambda: dead_letters(scene))
        metrics = (await http.get("/metrics")).text
        assert 'syncer_messages_total{outcome="malformed"} 5.0' in metrics
        process.send_signal(signal.SIGTERM)
        assert await asyncio.wait_for(process.wait(), 20) == 0


@pytest.fixture
def own_keys(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """The environment's keys, with which a command inside this process asks the queue."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, scene.environment[name])


@pytest.mark.usefixtures("own_keys")
async def test_dead_letters_are_listed_with_a_reason_and_sent_back(
    scene: Scene, capsys: pytest.CaptureFixture[str]
) -> None:
    client = await scene.add_client(client_s3_bucket="no-such-bucket-there-is")
    await scene.add_objects(client)
    order = {"client_id": client.client_id, "run_key": "20241123T0600-hourly"}
    async with scene.deliverer() as deliverer:
        with pytest.raises(ClientBucketError):
            await deliverer.deliver(ClientSync(**order))
    url = scene.environment["SYNC_QUEUE_URL"] + "-dead"
    async with scene.stack.aws.client("sqs") as sqs:
        await sqs.purge_queue(QueueUrl=url)
        for body in (json.dumps(order), json.dumps(tick()), '{"client_id": "203.0.113.9"}'):
            await sqs.send_message(QueueUrl=url, MessageBody=body)
    status, output, log = await scene.finish("dead-letters", "list")
    assert status == 0, log
    listed = {item["what"]: item for item in map(json.loads, output.splitlines())}
    assert listed["order"]["client_id"] == client.client_id
    assert "the bucket does not exist" in listed["order"]["reason"]
    assert listed["tick"]["frequency"] == "hourly"
    assert listed["no message of ours"]["reason"] == "client_id isn't an id"
    assert "203.0.113.9" not in output + log
    settings = scene.settings_of(DeadLetterSettings)

    async def redrive(*ids: str) -> tuple[bool, dict[str, int]]:
        capsys.readouterr()
        well = await dead_letter_commands.redrive(settings, ids or None)
        return well, json.loads(capsys.readouterr().out)

    one = listed["tick"]["message_id"]
    assert await redrive(one) == (True, {"sent_back": 1, "left": 2})
    assert (await redrive(one))[0] is False  # it is no longer there
    assert await redrive() == (True, {"sent_back": 1, "left": 1})
    async with scene.stack.aws.client("sqs") as sqs:
        back = await sqs.receive_message(QueueUrl=scene.environment["SYNC_QUEUE_URL"], MaxNumberOfMessages=10)
        await sqs.purge_queue(QueueUrl=scene.environment["SYNC_QUEUE_URL"])
        await sqs.purge_queue(QueueUrl=url)
    assert json.dumps(order) in [message["Body"] for message in back["Messages"]]


async def test_commands_say_what_is_wrong_in_words(scene: Scene, capsys: pytest.CaptureFixture[str]) -> None:
    client = await scene.add_client()
    broken = await scene.change(client, client_s3_secret_key=scene.box.encrypt("very-secret"))
    status, output, log = await scene.finish("test-connection", "--client", broken.client_id)
    assert status == 1
    assert "FAILED  write" in output
    assert "the secret key does not belong to the access key" in output
    assert "very-secret" not in output + log
    await scene.change(client)
    settings = scene.settings_of(ConnectionSettings)
    assert await connection_test(settings, client.client_id)
    assert capsys.readouterr().out.count("ok    ") == 3
    with pytest.raises(PermanentError, match="no such client"):
        await connection_test(settings, "nobody")
    with pytest.raises(PermanentError, match="no such client"):
        await deliver_once(scene.settings(), asyncio.Event(), "nobody", Hours())


async def test_a_run_by_hand_is_dated_by_the_ledgers_clock(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    client = await scene.add_client()

    async def clock(_connection: object) -> datetime:
        return datetime(2024, 11, 23, 6, 1, 2, tzinfo=UTC)

    monkeypatch.setattr(commands, "clock", clock)
    await deliver_once(scene.settings(), asyncio.Event(), client.client_id, Hours())
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["runs"] == ["20241123T060102-manual"]


def test_hours_in_the_future_are_refused_before_anything_is_done(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["run", "--client", "c", "--since", "2999-01-01T00"])
    assert ended.value.code == 2
    assert "since lies in the future" in capsys.readouterr().err


async def dead_letters(scene: Scene) -> list[str]:
    url = scene.environment["SYNC_QUEUE_URL"] + "-dead"
    async with scene.stack.aws.client("sqs") as sqs:
        answer = await sqs.receive_message(QueueUrl=url, WaitTimeSeconds=1)
    return [message["Body"] for message in answer.get("Messages", ())]


async def test_post_sync_run_needs_the_key_and_a_client_that_may_be_served(scene: Scene) -> None:
    client = await scene.add_client()
    paused = await scene.add_client(is_active=False)
    events = await scene.add_objects(client)
    await scene.add_objects(client, hour=HOUR + timedelta(hours=1))
    async with running(scene) as (_, http):
        assert (await http.post("/sync/run", json={"client_id": client.client_id})).status_code == 401
        http.headers["Authorization"] = f"Bearer {scene.environment['ADMIN_API_KEY']}"
        assert (await http.post("/sync/run", json={"client_id": "nobody"})).status_code == 404
        assert (await http.post("/sync/run", json={"client_id": paused.client_id})).status_code == 409
        for hours in (
            {"since": "yesterday"},
            {"since": "2024-11-23T05:30"},
            {"until": "2999-01-01T00"},
            {"since": "2024-11-23T06", "until": "2024-11-23T05"},
        ):
            refused = await http.post("/sync/run", json={"client_id": client.client_id, **hours})
            assert refused.status_code == 422, hours
            assert "expected" in refused.text or "lies" in refused.text
        hours = {"since": "2024-11-23T05", "until": "2024-11-23T05:00:00Z"}
        accepted = await http.post("/sync/run", json={"client_id": client.client_id, **hours})
        assert accepted.status_code == 202
        found = await eventually(finished(http, client.client_id))
        assert found["last_run"]["run_key"] == accepted.json()["run_key"]
        assert found["last_run"]["run_key"].endswith("-manual")
        assert found["last_run"]["events"] == len(events)
        assert found["pending"]["events"] == 3  # of an hour that was not asked for


@asynccontextmanager
async def black_hole() -> AsyncIterator[str]:
    """A server that takes connections and never says a word."""
    writers: list[asyncio.StreamWriter] = []

    async def swallow(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.append(writer)

    server = await asyncio.start_server(swallow, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()
        for writer in writers:
            writer.close()


async def test_silent_endpoint_delays_nobody_and_sigterm_hands_its_run_back(scene: Scene) -> None:
    async with black_hole() as endpoint:
        silent = [await scene.add_client(client_s3_endpoint_url=endpoint) for _ in range(3)]
        good = await scene.add_client()
        for client in (*silent, good):
            await scene.add_objects(client)
        async with running(scene, SYNC_DRAIN_SECONDS="1") as (process, http):
            await scene.send(*({"client_id": c.client_id, "run_key": "20241123T0600-hourly"} for c in silent))

            async def under_way() -> bool:
                return bool((await http.get("/status")).json()["under_way"] == len(silent))

            await eventually(under_way)
            await scene.send({"client_id": good.client_id, "run_key": "20241123T0600-hourly"})
            await eventually(finished(http, good.client_id))
            process.send_signal(signal.SIGTERM)
            assert await asyncio.wait_for(process.wait(), 20) == 0
        for client in silent:
            row = await scene.run_row(client)
            assert (row["status"], row["owner"]) == ("running", None)
            await scene.change(client, client_s3_endpoint_url=good.client_s3_endpoint_url)
        async with running(scene) as (_, http):  # the messages came back, and no lease is in the way
            for client in silent:
                await eventually(finished(http, client.client_id))
                assert len((await scene.read(client)).chain()) == 1


@pytest.mark.parametrize(
    ("environment", "line"),
    [
        ({"SYNC_QUEUE_URL": ""}, "SYNC_QUEUE_URL is missing"),
        ({"AWS_ACCESS_KEY_ID": "AKIAAAAAAAAAAAAAAAAA"}, "SYNC_QUEUE_URL is wrong: the queue is not usable"),
    ],
)
async def test_wrong_set_up_is_one_clear_line_and_status_2(
    scene: Scene, environment: dict[str, str], line: str
) -> None:
    status, _, log = await scene.finish(**environment)
    assert status == 2, log
    (said,) = (text for text in log.splitlines() if not text.startswith("{"))  # the others are logs
    assert said.startswith("syncer: ")
    assert line in said


@pytest.mark.usefixtures("own_keys")
async def test_wrong_set_up_names_the_variable(scene: Scene) -> None:
    empty = scene.stack.postgres.dsn_for("postgres", user="postgres")
    for changes, line in (
        ({"SYNC_QUEUE_URL": "sync"}, "SYNC_QUEUE_URL is wrong: Value error, not the URL of a queue"),
        ({"SYNC_QUEUE_URL": scene.environment["SYNC_QUEUE_URL"] + "-missing"}, "SYNC_QUEUE_URL is wrong: the queue"),
        ({"PROCESSED_S3_BUCKET": "there-is-no-such-bucket"}, "PROCESSED_S3_BUCKET: "),
        ({"CREDENTIALS_KEYS": ""}, "CREDENTIALS_KEYS is missing"),
        ({"DATABASE_URL": empty}, "run python -m database migrate"),
    ):
        with pytest.raises(ConfigError, match=re.escape(line)):
            await serve(read(scene, changes), asyncio.Event())


def read(scene: Scene, changes: dict[str, str]) -> SyncerSettings:
    """The settings as the service reads them from an environment."""
    with pytest.MonkeyPatch.context() as patched:
        for name, value in (scene.environment | changes).items():
            patched.setenv(name, value)
        return SyncerSettings.load()
