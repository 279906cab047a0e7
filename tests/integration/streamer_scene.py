"""The scene of the streamer's tests: a database, a topic and a slot of its own, streamer processes, a reader.

The reader is independent: it takes raw files in the order of the ledger, the whole topic from Kafka, and judges
records as the processor does. It believes neither the streamer's metrics nor its logs.
"""

from __future__ import annotations

import asyncio
import hashlib
import itertools
import json
import signal
import time
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import psycopg
from aiokafka import AIOKafkaConsumer, TopicPartition
from psycopg import sql

from database.ledger.chunks import ConsumerPosition
from database.ledger.layouts import layouts_of
from database.migrate import migrate
from local import ports
from local.postgres import Postgres
from local.process import Process
from local.services import Service
from local.stack import Stack
from pipeline import rawfile
from pipeline.kafka import is_fence, is_pointer, read_headers
from pipeline.layout import Layout, Layouts
from pipeline.position import ZERO, Position
from processor.sequence import Verdict, judge

PARTITIONS = 3

INSERT = (
    "INSERT INTO events_log (event_id, event_type, session_id, site_id, client_id, timestamp, url, raw_event_data)"
    " SELECT gen_random_uuid(), 'pageview', 's' || n %% 7, 'site', 'client-' || n %% 5, now(), 'https://a.example/',"
    " jsonb_build_object('n', n, 'filler', repeat('x', %s)) FROM generate_series(1, %s) n RETURNING event_id"
)


async def eventually(check: Callable[[], Awaitable[Any]], *, seconds: float = 30, what: str = "") -> Any:
    """The first true answer of `check`; fails after the deadline."""
    deadline = time.monotonic() + seconds
    while not (answer := await check()):
        assert time.monotonic() < deadline, f"not within {seconds} s: {what or check}"
        await asyncio.sleep(0.05)
    return answer


@dataclass
class Found:
    """What the reader found."""

    raw: list[tuple[Position, dict[str, Any]]] = field(default_factory=list)
    """Raw files in the ledger's order."""
    kafka: list[dict[str, Any]] = field(default_factory=list)
    """What the processor would take."""
    kafka_records: int = 0
    """With repeats."""
    pointers: int = 0
    """Records that point into a raw file."""
    fences: int = 0
    """Records without an event."""
    holes: int = 0

    @property
    def raw_ids(self) -> Counter[str]:
        """How often each event is in raw files."""
        return Counter(record["event_id"] for _, record in self.raw)

    @property
    def kafka_ids(self) -> Counter[str]:
        """How often the processor would take each event."""
        return Counter(record["event_id"] for record in self.kafka)


class Streamer:
    """One replica as a process of its own."""

    def __init__(self, scene: Scene, name: str, environment: dict[str, str]) -> None:
        port = ports.choose((name,), {})[name]
        self.service = Service("streamer", environment, port, scene.folder / f"{name}.log")
        self.service.log.parent.mkdir(parents=True, exist_ok=True)
        self.process: Process | None = None
        self._http = httpx.AsyncClient(base_url=self.service.url, timeout=5)

    async def start(self, **environment: str) -> Streamer:
        """Start it, with `environment` on top; does not wait."""
        self.process = await self.service.start(**environment)
        return self

    def signal(self, number: signal.Signals) -> None:
        """Send a signal."""
        assert self.process is not None
        self.process.signal(number)

    async def wait(self, seconds: float = 30) -> int:
        """Until it ends by itself; the exit status."""
        assert self.process is not None
        async with asyncio.timeout(seconds):
            return await self.process.wait()

    async def died_at_its_failpoint(self, seconds: float = 30) -> None:
        """Until SIGKILL has come from inside."""
        assert await self.wait(seconds) == -signal.SIGKILL, self.log_tail

    @asynccontextmanager
    async def supervised(self) -> AsyncIterator[None]:
        """Started, and started again whenever it ends; drained at the end of the block."""
        await self.start()

        async def keep() -> None:
            while True:
                assert self.process is not None
                await self.process.wait()
                await self.start()

        keeper = asyncio.create_task(keep())
        try:
            yield
        finally:
            keeper.cancel()
            with suppress(asyncio.CancelledError):
                await keeper
        await eventually(self._listens, what="a signal before that ends any program")
        assert await self.stop() == 0, self.log_tail

    async def _listens(self) -> bool:
        assert self.process is not None
        if self.process.exit_status is not None:
            await self.start()
        return bool(await self.status())

    async def kill(self) -> None:
        """SIGKILL now; nothing happens when it has ended."""
        if self.process is not None and self.process.exit_status is None:
            await self.process.kill()

    async def stop(self) -> int:
        """SIGTERM; the exit status after the drain."""
        self.signal(signal.SIGTERM)
        return await self.wait(30)

    async def get(self, path: str) -> httpx.Response | None:
        """An answer of its HTTP port; None when nobody listens."""
        with suppress(httpx.TransportError):
            return await self._http.get(path)
        return None

    async def status(self) -> dict[str, Any]:
        """/status, {} when nobody listens."""
        answer = await self.get("/status")
        return {} if answer is None else answer.json()

    async def metric(self, name: str) -> float:
        """The value of a metric without labels."""
        answer = await self.get("/metrics")
        assert answer is not None
        for line in answer.text.splitlines():
            if line.startswith(f"{name} "):
                return float(line.split()[1])
        raise AssertionError(f"no metric {name}")

    async def until_state(self, state: str, seconds: float = 30) -> None:
        """Wait for `state` in /status."""

        async def reached() -> bool:
            assert self.process is not None
            assert self.process.exit_status is None, self.log_tail
            return (await self.status()).get("state") == state

        await eventually(reached, seconds=seconds, what=f"state {state}")

    @property
    def log_text(self) -> str:
        """All that it ever printed."""
        return self.service.log.read_text(errors="replace") if self.service.log.exists() else ""

    @property
    def log_tail(self) -> str:
        """The end of it, for messages."""
        return "\n".join(self.log_text.splitlines()[-12:])

    def logged(self, event: str) -> list[dict[str, Any]]:
        """The log entries called `event`."""
        entries = (json.loads(line) for line in self.log_text.splitlines() if line.startswith("{"))
        return [entry for entry in entries if entry.get("event") == event]

    async def close(self) -> None:
        """Kill it if it runs."""
        await self.kill()
        await self._http.aclose()


class Scene:
    """A source of its own, and all that happens to it."""

    def __init__(self, stack: Stack, postgres: Postgres, database: str, folder: Path) -> None:
        self.stack = stack
        self.postgres = postgres
        self.database = database
        self.folder = folder
        self.slot = database
        self.topic = database
        self.inserted: set[str] = set()
        self.numbers_agree = True
        """Kafka has neither repeats nor pointers into nothing: raw objects, sequences and offsets count alike."""
        self.uncertain: set[str] = set()
        """Of transactions whose COMMIT was not answered."""
        self.environment = {
            **stack.environment,
            "DATABASE_URL": postgres.dsn_for(database),
            "REPLICATION_SLOT": self.slot,
            "KAFKA_RAW_TOPIC": self.topic,
            "KAFKA_PARTITIONS": str(PARTITIONS),
            "RAW_FLUSH_SECONDS": "1",
        }
        self.layouts = Layouts([Layout(partitions=PARTITIONS)])
        """As of the last reading."""
        self._ends: dict[tuple[int, int], int] = {}
        """By partition and offset: the sequence that must stand before it, by the ledger."""
        self._streamers: list[Streamer] = []

    def streamer(self, name: str = "streamer", **environment: str) -> Streamer:
        """A replica, not started yet."""
        streamer = Streamer(self, f"{name}-{len(self._streamers)}", {**self.environment, **environment})
        self._streamers.append(streamer)
        return streamer

    async def close(self) -> None:
        """Kill what runs."""
        for streamer in self._streamers:
            await streamer.close()

    @asynccontextmanager
    async def connect(self, *, user: str = "pipeline", ledger: bool = False) -> AsyncIterator[psycopg.AsyncConnection]:
        """An autocommit connection to the source, or to the ledger."""
        dsn = self.postgres.dsn_for(self.database, user=user)
        if ledger:
            dsn = self.environment.get("LEDGER_DATABASE_URL", dsn)
        async with await psycopg.AsyncConnection.connect(dsn, autocommit=True) as connection:
            yield connection

    async def insert(self, count: int, *, filler: int = 100, query: str = INSERT) -> set[str]:
        """Rows in one transaction; their event ids, which are expected to arrive.

        Raises OperationalError when the server goes away; whether it has committed is then found out by `check`.
        """
        async with self.connect() as connection:
            async with connection.transaction():
                cursor = await connection.execute(query, (filler, count))
                ids = {str(row[0]) for row in await cursor.fetchall()}
                self.uncertain |= ids
            self.uncertain -= ids
        self.inserted |= ids
        return ids

    async def settle(self) -> None:
        """Find out which transactions without an answer have committed."""
        if self.uncertain:
            async with self.connect() as connection:
                cursor = await connection.execute(
                    "SELECT event_id::text FROM events_log WHERE event_id = ANY(%s::uuid[])", (list(self.uncertain),)
                )
                self.inserted |= {row[0] for row in await cursor.fetchall()}
                self.uncertain = set()

    async def insert_each(self, count: int) -> None:
        """Rows in a transaction each."""
        async with self.connect() as connection:
            for _ in range(count):
                cursor = await connection.execute(INSERT, (100, 1))
                self.inserted |= {str(row[0]) for row in await cursor.fetchall()}

    @asynccontextmanager
    async def load(self) -> AsyncIterator[None]:
        """Small transactions, one after the other, while the block runs; a server that is away is waited for."""
        stop = asyncio.Event()

        async def insert() -> None:
            number = 0
            while not stop.is_set():
                number += 1
                with suppress(psycopg.OperationalError):
                    await self.insert(1 + number % 7)
                await asyncio.sleep(0.005)

        task = asyncio.create_task(insert())
        try:
            yield
        finally:
            stop.set()
            await task

    async def fetch(self, query: str, *values: Any, ledger: bool = False) -> tuple[Any, ...]:
        """The first row of a query."""
        async with self.connect(ledger=ledger, user="postgres") as connection:
            row = await (await connection.execute(query.encode(), values)).fetchone()
        return tuple(row) if row is not None else ()

    async def recorded(self) -> int:
        """Events in raw objects, by the ledger."""
        row = await self.fetch("SELECT coalesce(sum(events), 0)::bigint FROM pipeline.raw_objects", ledger=True)
        return int(row[0])

    async def until_recorded(self, events: int | None = None, *, seconds: float = 30) -> None:
        """Wait until so many events (default: all that were inserted) are in raw objects."""
        await self.settle()
        wanted = len(self.inserted) if events is None else events

        async def reached() -> bool:
            for streamer in self._streamers:
                status = streamer.process and streamer.process.exit_status
                assert status in (None, 0, -signal.SIGKILL, 1), streamer.log_tail
            return await self.recorded() >= wanted

        try:
            await eventually(reached, seconds=seconds)
        except AssertionError:
            tails = "\n".join(streamer.log_tail for streamer in self._streamers)
            raise AssertionError(f"{await self.recorded()} of {wanted} recorded in {seconds} s\n{tails}") from None

    async def confirmed(self) -> int:
        """The slot's confirmed LSN as the server has it, in bytes; -1 without a slot."""
        row = await self.fetch(
            "SELECT (confirmed_flush_lsn - '0/0')::bigint FROM pg_replication_slots WHERE slot_name = %s", self.slot
        )
        return int(row[0]) if row and row[0] is not None else -1

    async def wal_lsn(self) -> int:
        """The server's end of WAL, in bytes."""
        return int((await self.fetch("SELECT (pg_current_wal_lsn() - '0/0')::bigint"))[0])

    async def drop_slot(self) -> None:
        """As an operator would, by mistake."""

        async def dropped() -> bool:
            try:
                await self.fetch("SELECT pg_drop_replication_slot(%s)", self.slot)
            except psycopg.errors.ObjectInUse:
                return False
            return True

        await eventually(dropped, seconds=20, what="drop the slot")

    async def raw_lines(self) -> list[str]:
        """The lines of all raw files, as they stand there."""
        return [line for _, line in await self._read_raw()]

    async def read(self) -> Found:
        """Raw files and Kafka, from beginning to end."""
        found = Found(raw=[(position, json.loads(line)) for position, line in await self._read_raw()])
        await self._read_kafka(found)
        return found

    async def _read_raw(self) -> list[tuple[Position, str]]:
        async with self.connect(ledger=True) as connection:
            cursor = await connection.execute(
                "SELECT bucket, key, sha256, events, previous_position, first_position, last_position,"
                " kafka_end_sequences, kafka_end_offsets"
                " FROM pipeline.raw_objects ORDER BY last_position"
            )
            objects = await cursor.fetchall()
            self.layouts = await layouts_of(connection, self.topic, PARTITIONS)
        previous = None
        lines: list[tuple[Position, str]] = []
        async with self.stack.aws.client("s3") as s3:
            counts: Counter[int] = Counter()
            for bucket, key, sha256, events, before, first, last, sequences, offsets in objects:
                assert before == previous, "the chain of raw objects is broken"
                previous = last
                body = await (await s3.get_object(Bucket=bucket, Key=key))["Body"].read()
                assert hashlib.sha256(body).hexdigest() == sha256
                content = list(rawfile.decode(body))
                assert len(content) == events
                assert (str(content[0][0]), str(content[-1][0])) == (first, last)
                lines += [(position, line.decode()) for position, _, line in content]
                counts.update(self.layouts.partition_of_line(position, line) for position, _, line in content)
                ends = {int(p): sequence + 1 for p, sequence in sequences.items()}
                if self.numbers_agree:
                    assert ends == {p: counts[p] for p in ends}, "the ledger's sequences are not its events"
                    self._ends |= {(int(p), offset): sequences[p] for p, offset in offsets.items() if sequences[p] >= 0}
        return lines

    async def _read_kafka(self, found: Found) -> None:
        raw = dict(found.raw)
        consumer = AIOKafkaConsumer(
            bootstrap_servers=self.environment["KAFKA_BOOTSTRAP_SERVERS"],
            enable_auto_commit=False,
            max_poll_records=5000,
        )
        await consumer.start()
        try:
            parts = [TopicPartition(self.topic, p) for p in range(self.layouts.partitions)]
            consumer.assign(parts)
            ends = await consumer.end_offsets(parts)
            begins = await consumer.beginning_offsets(parts)
            for part in parts:
                consumer.seek(part, begins[part])
            stands = {p: ConsumerPosition(next_offset=0, last_sequence=-1, last_position=ZERO) for p in parts}
            left = {part for part in parts if ends[part] > begins[part]}
            async with asyncio.timeout(60 + sum(ends.values()) / 5000):
                while left:
                    for part, records in (await consumer.getmany(*left, timeout_ms=500)).items():
                        for record in records:
                            position, sequence, _ = read_headers(record)
                            verdict = judge(stands[part], sequence, position)
                            if record.value is not None:
                                expected = self.layouts.partition_of_line(position, record.value)
                                assert part.partition == expected, "another partition than its layout says"
                            if is_fence(record):
                                assert verdict is Verdict.REPEAT, "a fence says something new"
                                found.fences += 1
                                continue
                            found.kafka_records += 1
                            end = self._ends.pop((part.partition, record.offset + 1), sequence)
                            assert end == sequence, "the ledger's offsets are not Kafka's"
                            if verdict is Verdict.REPEAT:
                                continue
                            found.holes += verdict is Verdict.HOLE
                            stands[part] = ConsumerPosition(
                                next_offset=record.offset + 1, last_sequence=sequence, last_position=position
                            )
                            if not is_pointer(record):
                                found.kafka.append(json.loads(record.value))
                            elif position in raw:
                                found.kafka.append(raw[position])
                                found.pointers += 1
                        if records and records[-1].offset >= ends[part] - 1:
                            left.discard(part)
            assert not self._ends, "the ledger's offsets are not Kafka's"
        finally:
            await consumer.stop()

    async def process_all(self) -> None:
        """Run a processor until it has taken every event, each once."""
        port = ports.choose(("processor",), {})["processor"]
        log = self.folder / "processor.log"
        environment = {**self.environment, "KAFKA_GROUP": self.slot, "PROCESSED_FLUSH_SECONDS": "1"}
        process = await Service("processor", environment, port, log).start()
        try:

            async def processed() -> bool:
                assert process.exit_status is None, log.read_text()[-3000:]
                row = await self.fetch(
                    "SELECT coalesce(sum(events), 0)::int FROM pipeline.chunk_counts WHERE disposition <> 'repeat'"
                )
                assert row[0] <= len(self.inserted), "an event was taken twice"
                return bool(row[0] == len(self.inserted))

            await eventually(processed, seconds=60, what="the processor has every event once")
        finally:
            await process.kill()

    async def check(self, *, expected: set[str] | None = None) -> Found:
        """Every event exactly once in raw files and, after the sequence check, in Kafka; positions ascend."""
        await self.settle()
        expected = self.inserted if expected is None else expected
        found = await self.read()
        positions = [position for position, _ in found.raw]
        assert all(a < b for a, b in itertools.pairwise(positions)), "positions don't ascend"
        for name, ids in (("raw files", found.raw_ids), ("Kafka", found.kafka_ids)):
            doubled = sum(1 for n in ids.values() if n > 1)
            lost, strange = len(expected - ids.keys()), len(ids.keys() - expected)
            assert (lost, doubled, strange) == (0, 0, 0), f"{name}: {lost=} {doubled=} {strange=} of {len(expected)}"
        assert found.holes == 0, "a hole in a sequence"
        return found


@asynccontextmanager
async def open_scene(
    stack: Stack, folder: Path, *, postgres: Postgres | None = None, ledger: Postgres | None = None
) -> AsyncIterator[Scene]:
    """A fresh database, migrated, and a fresh topic; all is dropped afterwards. `ledger`: another server for it."""
    postgres = postgres or stack.postgres
    name = f"s_{uuid.uuid4().hex[:12]}"
    async with AsyncExitStack() as exits:
        servers = [postgres] if ledger is None else [postgres, ledger]
        for server in servers:
            await _create_database(server, name)
            exits.push_async_callback(_drop_database, server, name)
        await migrate(postgres.dsn_for(name), servers[-1].dsn_for(name))
        await stack.kafka.create_topic(name, partitions=PARTITIONS, retention_hours=1)
        scene = Scene(stack, postgres, name, folder / name)
        if ledger is not None:
            scene.environment["LEDGER_DATABASE_URL"] = ledger.dsn_for(name)
        exits.push_async_callback(scene.close)
        yield scene


async def _create_database(server: Postgres, name: str) -> None:
    async with await _admin(server) as connection:
        await connection.execute(sql.SQL("CREATE DATABASE {} OWNER pipeline").format(sql.Identifier(name)))


async def _drop_database(server: Postgres, name: str) -> None:
    if server.process.exit_status is not None:
        return
    async with await _admin(server) as connection:

        async def dropped() -> bool:
            await connection.execute(
                "SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots WHERE database = %s AND active",
                (name,),
            )
            try:
                await connection.execute(
                    "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE database = %s", (name,)
                )
            except psycopg.errors.ObjectInUse:
                return False
            return True

        await eventually(dropped, what="drop the slots")
        await connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


async def _admin(server: Postgres) -> psycopg.AsyncConnection:
    return await psycopg.AsyncConnection.connect(server.dsn_for("postgres", user="postgres"), autocommit=True)


def event_ids(records: Sequence[dict[str, Any]]) -> set[str]:
    """Of records as they were read."""
    return {record["event_id"] for record in records}
