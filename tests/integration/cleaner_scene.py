"""The scene of the cleaner's tests: a source and a bucket of its own, rows exported as the streamer does it.

No Kafka and no slot: raw objects are made from the table with the streamer's own encoder, so tests are quick and may
break whatever they like.
"""

from __future__ import annotations

import asyncio
import hashlib
import random
import time
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg import sql
from pydantic import SecretStr

from database.cleaner.record import members
from database.cleaner.settings import CleanerSettings
from database.cleaner.source import SourceRows, open_source
from database.cleaner.work import Cleaner, Report
from database.ledger import Pool, open_pool
from database.ledger import stream as ledger
from database.migrate import migrate
from local import provision
from local.postgres import Postgres
from local.stack import Stack
from pipeline import rawfile
from pipeline.events import Event
from pipeline.keys import hour_of, raw_key, source_client_id, time_of
from pipeline.position import Lsn, Position
from pipeline.s3 import BucketAccess, ObjectStore, open_bucket
from streamer.pgoutput import Column
from streamer.rows import RowEncoder

SLOT = "cleaner_tests"
START = Lsn(0x1000)

# What PostgreSQL can hold and other encoders change.
STRANGE = (
    ('{"n": 1.10, "big": 123456789012345678901234567890.5, "e": 1e400}', "10.1.2.3", "2026-11-23 07:00:00.5+02"),
    (
        '{"t": "quote \\" back \\\\ slash \\u0007 é 漢 😀 \\u2028", "raw_event_data": {"id": 9}}',
        "2001:db8::1",
        "infinity",
    ),
    ('[1, {"deep": [[[[{}]]]]}, null, true]', "10.0.0.0/8", "0044-03-15 12:00:00+00 BC"),
    ('"a text, with {brackets] and \\"id\\":5,"', "::1", "-infinity"),
    ("null", None, None),
    ("12.500", "255.255.255.255", "9999-12-31 23:59:59.999999+00"),
)


@dataclass(frozen=True)
class Stored:
    """A raw object of the scene."""

    id: int
    key: str
    body: bytes
    ids: tuple[int, ...]


class Scene:
    """See the module's text. Made by `open_scene`."""

    def __init__(self, stack: Stack, dsn: str, bucket: ObjectStore, access: BucketAccess) -> None:
        self.stack, self.dsn, self.bucket, self.access = stack, dsn, bucket, access
        self._previous: Position | None = None
        self._lsn = int(START)
        self._exported_until = 0
        self.epoch = 1

    def settings(self, **changes: Any) -> CleanerSettings:
        """Without a delay, unless `changes` say otherwise."""
        values: dict[str, Any] = {
            "database_url": SecretStr(self.dsn),
            "raw_s3_bucket": self.access.bucket,
            "raw_s3_endpoint_url": self.access.endpoint_url,
            "raw_s3_access_key": self.access.access_key,
            "raw_s3_secret_key": self.access.secret_key,
            "replication_slot": SLOT,
            "cleanup_delay_seconds": 0,
            "cleanup_retry_seconds": 0.001,
        }
        return CleanerSettings(**{**values, **changes})

    @property
    def environment(self) -> dict[str, str]:
        """For a cleaner in a process of its own."""
        assert self.access.endpoint_url
        assert self.access.access_key
        assert self.access.secret_key
        return {
            **self.stack.environment,
            "DATABASE_URL": self.dsn,
            "RAW_S3_BUCKET": self.access.bucket,
            "RAW_S3_ENDPOINT_URL": self.access.endpoint_url,
            "RAW_S3_ACCESS_KEY": self.access.access_key.get_secret_value(),
            "RAW_S3_SECRET_KEY": self.access.secret_key.get_secret_value(),
            "RAW_S3_KMS_KEY": "",
            "REPLICATION_SLOT": SLOT,
            "CLEANUP_DELAY_SECONDS": "0",
        }

    async def execute(self, query: str, *values: Any) -> list[tuple[Any, ...]]:
        """One statement on the source, which is the ledger's database too."""
        async with await psycopg.AsyncConnection.connect(self.dsn, autocommit=True) as connection:
            cursor = await connection.execute(query.encode(), values or None)
            return await cursor.fetchall() if cursor.description else []

    async def value(self, query: str, *values: Any) -> Any:
        """The first column of the first row."""
        return (await self.execute(query, *values))[0][0]

    async def insert(self, rows: int) -> None:
        """Rows of three clients, then one of each strange kind."""
        await self.execute(
            "INSERT INTO events_log (event_type, session_id, site_id, timestamp, url, path, user_agent,"
            " ip_address, raw_event_data, client_id)"
            " SELECT 'pageview', md5(n::text), 'site', now(), 'https://a.example/' || n, '/',"
            " repeat('agent ', 10), '10.0.0.1', jsonb_build_object('n', n, 'text', repeat(md5(n::text), 8)),"
            " 'client-' || mod(n, 3) FROM generate_series(1, %s) n",
            rows,
        )
        for document, address, time_ in STRANGE:
            await self.execute(
                "INSERT INTO events_log (event_type, timestamp, ip_address, raw_event_data, client_id)"
                " VALUES (E'ta\\tb \"quoted\" \\\\ é', %s, %s, %s, NULL)",
                time_, address, document,
            )  # fmt: skip

    async def export(self, per_object: int = 1000) -> list[Stored]:
        """All rows that weren't exported yet, as raw objects of the ledger."""
        events: list[tuple[int, Event]] = []
        now = time.time_ns() // 1000
        async with await psycopg.AsyncConnection.connect(
            self.dsn, options="-c timezone=UTC -c datestyle=ISO -c intervalstyle=iso_8601 -c bytea_output=hex"
        ) as connection:
            cursor = await connection.execute(
                "SELECT attname, atttypid::bigint FROM pg_attribute WHERE attrelid = 'events_log'::regclass"
                " AND attnum > 0 AND NOT attisdropped AND attgenerated = '' ORDER BY attnum"
            )
            columns = [Column(name=name, type_oid=type_oid) for name, type_oid in await cursor.fetchall()]
            encoder = RowEncoder(columns)
            names = sql.SQL(", ").join(sql.Identifier(column.name) for column in columns)
            query = sql.SQL("COPY (SELECT {} FROM events_log WHERE id > {} ORDER BY id) TO STDOUT").format(
                names, sql.Literal(self._exported_until)
            )
            async with connection.cursor() as reading, reading.copy(query) as copy:
                async for row in copy.rows():
                    values = [None if value is None else value.encode() for value in row]
                    position = Position(self.epoch, self._lsn, len(events))
                    events.append((int(values[0] or 0), Event(position, now, *encoder.encode_values(values))))
        self._lsn += 0x100
        if events:
            self._exported_until = events[-1][0]
        return [await self._store(events[at : at + per_object]) for at in range(0, len(events), per_object)]

    async def _store(self, events: Sequence[tuple[int, Event]]) -> Stored:
        only = [event for _, event in events]
        body = b"".join(
            rawfile.encode_block(only[at : at + rawfile.BLOCK_EVENTS])
            for at in range(0, len(only), rawfile.BLOCK_EVENTS)
        )
        first, last, now = only[0].position, only[-1].position, only[0].commit_time
        key = raw_key(first, last, now)
        await self.bucket.put_new(key, body, sha256=hashlib.sha256(body).digest(), metadata={})
        counts = Counter(
            (hour_of(now), source_client_id(None if event.client_id is None else event.client_id.decode()))
            for event in only
        )
        async with (
            await psycopg.AsyncConnection.connect(self.dsn, autocommit=True) as connection,
            connection.transaction(),
        ):
            cursor = await connection.execute(
                "INSERT INTO pipeline.raw_objects (bucket, key, previous_position, first_position, last_position,"
                " kafka_end_offsets, kafka_end_sequences, events, bytes, sha256, min_commit_time, max_commit_time)"
                " VALUES (%s, %s, %s, %s, %s, '{}', '{}', %s, %s, %s, %s, %s) RETURNING id",
                (
                    self.bucket.bucket,
                    key,
                    str(self._previous) if self._previous else None,
                    str(first),
                    str(last),
                    len(only),
                    len(body),
                    hashlib.sha256(body).hexdigest(),
                    time_of(now),
                    time_of(now),
                ),
            )
            row = await cursor.fetchone()
            assert row is not None
            await connection.cursor().executemany(
                "INSERT INTO pipeline.raw_counts (raw_object_id, hour, source_client_id, events)"
                " VALUES (%s, %s, %s, %s)",
                [(row[0], hour, client, count) for (hour, client), count in counts.items()],
            )
        self._previous = last
        return Stored(row[0], key, body, tuple(id_ for id_, _ in events))

    async def overwrite(self, key: str, body: bytes) -> None:
        """Somebody writes other bytes under a raw object's key."""
        await self.bucket.put(key, body, sha256=hashlib.sha256(body).digest(), metadata={})

    async def remove(self, key: str) -> None:
        """Somebody deletes a raw object."""
        async with self.stack.aws.client("s3") as s3:
            await s3.delete_object(Bucket=self.access.bucket, Key=key)

    @asynccontextmanager
    async def cleaner(self, **changes: Any) -> AsyncIterator[tuple[Cleaner, SourceRows, Pool]]:
        """A cleaner in this process that never rests."""
        settings = self.settings(**changes)
        async with (
            open_pool(settings.ledger_dsn) as pool,
            open_bucket(settings.raw_bucket) as bucket,
            open_source(settings.source_dsn) as rows,
        ):
            yield Cleaner(settings, pool=pool, bucket=bucket, stop=asyncio.Event(), sleep=_no_sleep), rows, pool

    async def turns(self, count: int = 1, **changes: Any) -> list[Report]:
        """So many turns of a new cleaner. The first stamps, the second deletes, when there is no delay."""
        async with self.cleaner(**changes) as (cleaner, rows, _):
            return [await cleaner.turn(rows, dry_run=changes.get("cleanup_dry_run", False)) for _ in range(count)]

    async def watch_deletions(self) -> None:
        """From now on the database remembers what is deleted from events_log."""
        await self.execute(
            "CREATE TABLE deleted (id bigint, event_id uuid, raw text);"
            "CREATE FUNCTION remember() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
            " INSERT INTO deleted VALUES (OLD.id, OLD.event_id, OLD.raw_event_data::text); RETURN OLD; END $$;"
            "CREATE TRIGGER watch BEFORE DELETE ON events_log FOR EACH ROW EXECUTE FUNCTION remember()"
        )

    async def corrupt(self, rng: random.Random, stored: Sequence[Stored]) -> str:
        """Remove one of the objects, cut it short, flip a bit of it, or put another one's bytes there; its key."""
        victim = rng.choice(stored)
        body = victim.body
        match rng.randrange(4):
            case 0:
                await self.remove(victim.key)
            case 1:
                await self.overwrite(victim.key, body[: rng.randrange(len(body))])
            case 2:
                at = rng.randrange(len(body))
                flipped = bytes([body[at] ^ (1 << rng.randrange(8))])
                await self.overwrite(victim.key, body[:at] + flipped + body[at + 1 :])
            case _:
                await self.overwrite(victim.key, rng.choice([item for item in stored if item is not victim]).body)
        return victim.key

    async def assert_every_deleted_row_is_stored(self, stored: Sequence[Stored], broken: set[str]) -> int:
        """Each deleted row is byte for byte in an object that was verified; returns how many there are.

        And nothing else is missing: an object that nobody broke has lost all its rows.
        """
        verified = {
            row[0]
            for row in await self.execute("SELECT sha256 FROM pipeline.raw_objects WHERE verified_at < 'infinity'")
        }
        exported: dict[tuple[int, str], bytes] = {}
        for item in stored:
            if hashlib.sha256(item.body).hexdigest() in verified:
                for _, _, line in rawfile.decode(item.body):
                    columns = members(line)
                    exported[int(columns["id"]), columns["event_id"].strip('"')] = columns["raw_event_data"].encode()
        rows = await self.execute("SELECT id, event_id::text, raw FROM deleted")
        exceptions = [row[0] for row in rows if exported.get((row[0], row[1])) != (row[2] or "null").encode()]
        assert exceptions == []
        assert len({row[0] for row in rows}) == len(rows)
        left = {row[0] for row in await self.execute("SELECT key FROM pipeline.raw_objects WHERE deleted_at IS NULL")}
        assert left <= broken
        assert await self.rows_left() == sum(len(item.ids) for item in stored) - len(rows)
        return len(rows)

    async def rows_left(self) -> int:
        """Rows in events_log."""
        return int(await self.value("SELECT count(*) FROM events_log"))


async def _no_sleep(_seconds: float) -> None:
    return None


@asynccontextmanager
async def open_scene(stack: Stack, postgres: Postgres | None = None) -> AsyncIterator[Scene]:
    """A scene on the session's stack, or on another server. Its database is dropped at the end."""
    server = postgres or stack.postgres
    name = f"cleaner_{uuid.uuid4().hex[:10]}"
    bucket = f"raw-{uuid.uuid4().hex[:10]}"
    async with await psycopg.AsyncConnection.connect(
        server.dsn_for("postgres", user="postgres"), autocommit=True
    ) as admin:
        await admin.execute(sql.SQL("CREATE DATABASE {} OWNER pipeline").format(sql.Identifier(name)))
        dsn = server.dsn_for(name)
        await provision.ensure_bucket(stack.aws, bucket)
        access = BucketAccess(
            bucket=bucket,
            region="us-east-1",
            endpoint_url=stack.aws.endpoint_url,
            access_key=SecretStr(stack.aws.root.key_id),
            secret_key=SecretStr(stack.aws.root.secret),
        )
        try:
            await migrate(dsn, dsn)
            async with open_bucket(access) as store:
                scene = Scene(stack, dsn, store, access)
                await _introduce(scene)
                yield scene
        finally:
            await admin.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


async def _introduce(scene: Scene) -> None:
    """What a streamer leaves in the ledger when it has started."""
    async with await psycopg.AsyncConnection.connect(scene.dsn, autocommit=True) as connection:
        cursor = await connection.execute("SELECT system_identifier::text FROM pg_control_system()")
        row = await cursor.fetchone()
        assert row is not None
        scene.epoch = await ledger.epoch_of(connection, row[0], 1, Lsn(0))
        await connection.execute(
            "INSERT INTO pipeline.stream_state (slot, epoch, state, confirmed_lsn) VALUES (%s, %s, 'streaming', '0/0')",
            (SLOT, scene.epoch),
        )
