"""The scene of the syncer's tests: a ledger and a queue of its own, clients with buckets, processed objects, a reader.

The reader is independent: it lists the client's bucket as its owner, inflates with the standard library, and believes
neither ledger nor manifest.
"""

from __future__ import annotations

import asyncio
import base64
import gzip
import hashlib
import json
import os
import sys
import time
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest
from cryptography.fernet import Fernet

from database.ledger import revisions
from database.ledger.chunks import ProcessedObject
from database.migrate import migrate
from local import provision
from local.aws import AccessKey
from local.stack import Stack
from pipeline.clients import Client, ClientId, PrivacyLevel, PseudonymKey
from pipeline.gzip import member
from pipeline.keys import processed_key
from pipeline.privacy import compile_policy
from pipeline.s3 import ObjectStore, digest, open_bucket
from pipeline.secrets import SecretBox
from pipeline.service import S
from pipeline.stores.postgres import PostgresClientStore
from pipeline.syncqueue import ClientSync
from syncer.delivery import Deliverer
from syncer.pipeline import open_deliverer
from syncer.settings import SyncerSettings

ROOT = Path(__file__).parents[2]
HOUR = datetime(2024, 11, 23, 5, tzinfo=UTC)
TOPIC = "events.raw"
_PSEUDONYM_KEY = bytes(range(32))


@dataclass
class Delivered:
    """What the reader found in a client's bucket."""

    objects: dict[str, bytes]
    lines: list[dict[str, Any]] = field(default_factory=list)

    @property
    def event_ids(self) -> Counter[str]:
        """How often each event arrived."""
        return Counter(line["event_id"] for line in self.lines)

    def events_in(self, key: str) -> Counter[str]:
        """How often each event stands in one file."""
        return Counter(json.loads(line)["event_id"] for line in gzip.decompress(self.objects[key]).splitlines())

    @property
    def latest(self) -> Any:
        """The newest manifest, as latest.json has it."""
        return json.loads(next(body for key, body in self.objects.items() if key.endswith("manifests/latest.json")))

    def chain(self) -> list[Any]:
        """The manifests from the newest to the first, each digest checked on the way, and every file against them."""
        key, chain = next(key for key in self.objects if key.endswith("manifests/latest.json")), []
        digest_expected: str | None = None
        while key:
            body = self.objects[key]
            assert digest_expected in (None, hashlib.sha256(body).hexdigest())
            manifest = json.loads(body)
            assert manifest["events"] == sum(file["events"] for file in manifest["files"])
            chain.append(manifest)
            previous = manifest["previous_manifest"]
            key, digest_expected = (previous["key"], previous["sha256"]) if previous else ("", None)
        files: dict[str, Any] = {}
        for manifest in reversed(chain):
            for file in manifest["files"]:
                assert file["key"] not in files
                files[file["key"]] = file
            for file in manifest["replaced"]:
                old = files.pop(file["old_key"])
                assert (old["sha256"], old["events"]) == (file["old_sha256"], file["old_events"])
                files[file["key"]] = file
        for file_key, file in files.items():
            data = self.objects[file_key]
            assert (file["bytes"], file["sha256"]) == (len(data), hashlib.sha256(data).hexdigest())
            assert file["events"] == gzip.decompress(data).count(b"\n")
        assert sorted(files) == sorted(key for key in self.objects if "/manifests/" not in f"/{key}")
        manifests = [key for key in self.objects if "manifests/" in key and not key.endswith("latest.json")]
        assert len(manifests) == len(chain)
        return chain


async def make_destination(stack: Stack, box: SecretBox, client_id: str) -> dict[str, Any]:
    """A bucket, and a key that may put objects into it and nothing else: a client's fields."""
    bucket = f"to-{client_id}"
    await provision.ensure_bucket(stack.aws, bucket)
    statement = {"Effect": "Allow", "Action": "s3:PutObject", "Resource": f"arn:aws:s3:::{bucket}/*"}
    key = await provision.ensure_user(stack.aws, bucket, None, policy=provision.policy_document([statement]))
    return {
        "sync_enabled": True,
        "client_s3_bucket": bucket,
        "client_s3_region": "us-east-1",
        "client_s3_prefix": "in/",
        "client_s3_endpoint_url": stack.aws.endpoint_url,
        "client_s3_access_key": key.key_id,
        "client_s3_secret_key": box.encrypt(key.secret),
    }


async def read_bucket(stack: Stack, bucket: str) -> Delivered:
    """Everything in a client's bucket, as its owner sees it."""
    objects: dict[str, bytes] = {}
    async with stack.aws.client("s3") as s3:
        pages = s3.get_paginator("list_objects_v2").paginate(Bucket=bucket)
        keys = [item["Key"] async for page in pages for item in page.get("Contents", ())]
        for key in keys:
            async with (await s3.get_object(Bucket=bucket, Key=key))["Body"] as body:
                objects[key] = await body.read()
    found = Delivered(objects)
    for key, data in objects.items():
        if key.endswith(".ndjson.gz"):
            found.lines += [json.loads(line) for line in gzip.decompress(data).splitlines()]
    return found


class Scene:
    """See the module's text. Made by `open_scene`."""

    def __init__(self, stack: Stack, dsn: str, environment: dict[str, str], processed: ObjectStore) -> None:
        self.stack = stack
        self.dsn = dsn
        self.environment = environment
        self.processed = processed
        self.box = SecretBox([environment["CREDENTIALS_KEYS"]])
        self.store = PostgresClientStore(dsn)
        self._offset = 0
        self._raw: dict[uuid.UUID, tuple[int, list[bytes]]] = {}
        self._events = 0

    def settings(self, **changes: Any) -> SyncerSettings:
        """The syncer's settings; `changes` by field name."""
        return self.settings_of(SyncerSettings, **changes)

    def settings_of(self, kind: type[S], **changes: Any) -> S:
        """The settings of a command."""
        return kind(**{**{name.lower(): value for name, value in self.environment.items()}, **changes})

    @asynccontextmanager
    async def deliverer(self, **changes: Any) -> AsyncIterator[Deliverer]:
        """A deliverer in this process."""
        async with open_deliverer(self.settings(**changes)) as (deliverer, _):
            yield deliverer

    async def add_client(self, level: PrivacyLevel = PrivacyLevel.STANDARD, **changes: Any) -> Client:
        """A client whose key may put objects into its bucket, and nothing else."""
        client_id = f"c-{uuid.uuid4().hex[:10]}"
        secret = self.box.encrypt(base64.b64encode(_PSEUDONYM_KEY).decode())
        client = Client(
            client_id=ClientId(client_id),
            privacy_level=level,
            consent_required=False,
            pseudonym_keys=(PseudonymKey(version=1, secret=secret),),
            **await make_destination(self.stack, self.box, client_id),
        )
        return await self.store.put(replace(client, **changes), actor="test")

    async def change(self, client: Client, **changes: Any) -> Client:
        """Store the client with other settings."""
        return await self.store.put(replace(client, **changes), actor="test")

    async def add_objects(
        self, client: Client, *, hour: datetime = HOUR, count: int = 1, events: int = 3, padding: int = 0
    ) -> list[str]:
        """Processed objects under the client's policy as it is given here; returns the ids of their events."""
        made: list[str] = []
        for _ in range(count):
            raw = [self._record(client, padding) for _ in range(events)]
            made += [json.loads(line)["event_id"] for line in raw]
            chunk = uuid.uuid4()
            self._offset += events
            self._raw[chunk] = (self._offset, raw)
            item = await self._put_object(client, hour, chunk, str(chunk))
            async with await psycopg.AsyncConnection.connect(self.dsn) as connection:
                position = f"00000001-0000000000000001-{self._offset:020d}"
                await connection.execute(
                    "INSERT INTO pipeline.chunks (id, topic, partition, generation, first_offset, next_offset,"
                    " first_position, last_position) VALUES (%s, %s, 0, 1, %s, %s, %s, %s)",
                    (chunk, TOPIC, self._offset, self._offset + events, position, position),
                )
                await connection.execute(
                    "INSERT INTO pipeline.chunk_counts VALUES (%s, %s, %s, %s, 'out', %s)",
                    (chunk, hour, client.client_id, client.client_id, events),
                )
                names = ", ".join(ProcessedObject.__dataclass_fields__)
                values = [getattr(item, name) for name in ProcessedObject.__dataclass_fields__]
                await connection.execute(
                    f"INSERT INTO pipeline.processed_objects (chunk_id, {names})"
                    f" VALUES (%s{', %s' * len(values)})".encode(),
                    (chunk, *values),
                )
        return made

    async def _put_object(self, client: Client, hour: datetime, chunk: uuid.UUID, name: str) -> ProcessedObject:
        """The chunk's events under the client's policy as it is given here, in the bucket."""
        offset, raw = self._raw[chunk]
        policy = compile_policy(client, pseudonym_keys={1: _PSEUDONYM_KEY})
        lines = [line for line in (policy.apply(line).line for line in raw) if line is not None]
        body = member(b"".join(line + b"\n" for line in lines))
        key = processed_key("client", client.client_id, hour, TOPIC, 0, offset, name)
        await self.processed.put_new(key, body, sha256=digest(body), metadata={})
        return ProcessedObject(
            kind="client",
            client_id=client.client_id,
            hour=hour,
            bucket=self.processed.bucket,
            key=key,
            events=len(lines),
            bytes=len(body),
            sha256=hashlib.sha256(body).hexdigest(),
            privacy_level=client.privacy_level.value,
            policy_version=policy.version,
            min_commit_time=hour + timedelta(minutes=1),
            max_commit_time=hour + timedelta(minutes=2, microseconds=5),
        )

    async def replay(self, client: Client, *, hour: datetime = HOUR, keep: int | None = None) -> list[str]:
        """Supersede the client's objects of that hour by such under its policy as it is given here.

        `keep`: of each object only its first so many events go out now, the others were dropped. Returns the ids of
        the events that are left.
        """
        left: list[str] = []
        async with await psycopg.AsyncConnection.connect(self.dsn, autocommit=True) as connection:
            cursor = await connection.execute(
                "SELECT id, chunk_id, events FROM pipeline.processed_objects"
                " WHERE client_id = %s AND hour = %s AND superseded_by IS NULL ORDER BY id",
                (client.client_id, hour),
            )
            found = await cursor.fetchall()
            number = await revisions.reserve(connection)
            removed: dict[Any, int] = {}
            added: dict[Any, int] = {}
            objects = []
            for _, chunk, events in found:
                offset, raw = self._raw[chunk]
                kept = raw[:keep]
                self._raw[chunk] = (offset, kept)
                left += [json.loads(line)["event_id"] for line in kept]
                removed[chunk, (hour, client.client_id, client.client_id, "out")] = events
                if kept:
                    added[chunk, (hour, client.client_id, client.client_id, "out")] = len(kept)
                    item = await self._put_object(client, hour, chunk, f"{chunk}-{number}")
                    objects.append(revisions.NewObject(chunk_id=chunk, object=item))
                if len(kept) < events:
                    dropped = (hour, client.client_id, client.client_id, "dropped_consent")
                    added[chunk, dropped] = events - len(kept)
            revision = revisions.Revision(
                id=number,
                cause="replay",
                client_id=client.client_id,
                hour=hour,
                superseded=[id_ for id_, _, _ in found],
                removed=removed,
                added=added,
                objects=objects,
            )
            await revisions.supersede(connection, revision)
        return left

    def _record(self, client: Client, padding: int) -> bytes:
        self._events += 1
        record = {
            "id": self._events,
            "event_id": str(uuid.uuid4()),
            "event_type": "pageview",
            "session_id": "s-1",
            "visitor_id": "v-1",
            "site_id": "site-1",
            "timestamp": "2024-11-23T05:01:00.000000Z",
            "url": "https://shop.example/a?utm_source=x",
            "path": "/a",
            "user_agent": "Mozilla/5.0",
            "ip_address": "203.0.113.9",
            "raw_event_data": {
                "eventType": "pageview",
                "eventData": {"note": os.urandom(padding).hex()},
                "consent": {"analytics": True, "marketing": True},
            },
            "created_at": "2024-11-23T05:01:00.000000Z",
            "client_id": client.client_id,
            "batch_id": None,
        }
        return json.dumps(record).encode()

    async def read(self, client: Client) -> Delivered:
        """Everything in the client's bucket."""
        return await read_bucket(self.stack, client.client_s3_bucket)

    async def run_row(self, client: Client) -> dict[str, Any]:
        """The client's newest run in the ledger."""
        async with await psycopg.AsyncConnection.connect(self.dsn, row_factory=psycopg.rows.dict_row) as connection:
            cursor = await connection.execute(
                "SELECT * FROM pipeline.sync_runs WHERE client_id = %s ORDER BY id DESC LIMIT 1", (client.client_id,)
            )
            row = await cursor.fetchone()
            assert row is not None
            return row

    async def report_of(self, client: Client) -> dict[str, Any]:
        """What the client store says of its deliveries."""
        ((report,),) = await self.execute("SELECT sync FROM pipeline.clients WHERE client_id = %s", client.client_id)
        return report  # type: ignore[no-any-return]

    async def execute(self, query: str, *parameters: Any) -> list[tuple[Any, ...]]:
        """One statement on the ledger."""
        async with await psycopg.AsyncConnection.connect(self.dsn) as connection:
            cursor = await connection.execute(query.encode(), parameters)
            return await cursor.fetchall() if cursor.description else []

    async def let_leases_end(self) -> None:
        """As if time had passed."""
        await self.execute("UPDATE pipeline.sync_runs SET lease_until = now() WHERE owner IS NOT NULL")

    async def send(self, *messages: Any) -> None:
        """Put messages on the queue, as JSON unless they are text."""
        async with self.stack.aws.client("sqs") as sqs:
            for message in messages:
                body = message if isinstance(message, str) else json.dumps(message)
                await sqs.send_message(QueueUrl=self.environment["SYNC_QUEUE_URL"], MessageBody=body)

    async def start(self, *arguments: str, **environment: str) -> asyncio.subprocess.Process:
        """`python -m syncer` as a process of its own."""
        return await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "syncer", *arguments),
            cwd=ROOT,
            env={**os.environ, **self.environment, **environment},
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )

    async def finish(self, *arguments: str, **environment: str) -> tuple[int, str, str]:
        """Run a command to its end: status, output, log."""
        process = await self.start(*arguments, **environment)
        output, log = await process.communicate()
        assert process.returncode is not None
        return process.returncode, output.decode(), log.decode()


async def eventually(condition: Callable[[], Awaitable[Any]], seconds: float = 30) -> Any:
    """The first true answer of `condition`; fails after `seconds`."""
    deadline = time.monotonic() + seconds
    while not (answer := await condition()):
        assert time.monotonic() < deadline, "it did not happen in time"
        await asyncio.sleep(0.1)
    return answer


@asynccontextmanager
async def open_scene(stack: Stack) -> AsyncIterator[Scene]:
    """A scene of its own in the session's stack."""
    name = f"syncer_{uuid.uuid4().hex[:8]}"
    async with AsyncExitStack() as cleanup:
        admin = await psycopg.AsyncConnection.connect(stack.postgres.admin_dsn, autocommit=True)
        cleanup.push_async_callback(admin.close)
        await admin.execute(f"CREATE DATABASE {name} OWNER pipeline".encode())
        dsn = stack.postgres.dsn_for(name)
        await migrate(dsn, dsn)
        async with stack.aws.client("sqs") as sqs:
            dead = (await sqs.create_queue(QueueName=f"{name}-dead"))["QueueUrl"]
            arn = (await sqs.get_queue_attributes(QueueUrl=dead, AttributeNames=["QueueArn"]))["Attributes"]["QueueArn"]
            redrive = json.dumps({"deadLetterTargetArn": arn, "maxReceiveCount": "5"})
            queue = (await sqs.create_queue(QueueName=name, Attributes={"RedrivePolicy": redrive}))["QueueUrl"]
        root: AccessKey = stack.aws.root
        environment = {
            **stack.environment,
            "DATABASE_URL": dsn,
            "SYNC_QUEUE_URL": queue,
            "CLIENT_STORE": "postgres",
            "CREDENTIALS_KEYS": Fernet.generate_key().decode(),
            "AWS_ACCESS_KEY_ID": root.key_id,
            "AWS_SECRET_ACCESS_KEY": root.secret,
            "HEALTH_PORT": "0",
            "LOG_LEVEL": "DEBUG",
        }
        ambient = cleanup.enter_context(pytest.MonkeyPatch.context())
        for variable in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            ambient.setenv(variable, environment[variable])
        settings = SyncerSettings(**{name.lower(): value for name, value in environment.items()})  # type: ignore[arg-type]
        processed = await cleanup.enter_async_context(open_bucket(settings.processed_bucket))
        scene = Scene(stack, dsn, environment, processed)
        cleanup.push_async_callback(scene.store.close)
        yield scene


def order(client: Client, minute: int = 0, reason: str = "hourly") -> ClientSync:
    """The order of a delivery in that minute after six."""
    return ClientSync(client_id=client.client_id, run_key=f"20241123T06{minute:02d}-{reason}")
