"""`python -m bench streamer`: one backlog drained three ways, and the latency from commit to Kafka. Prints JSON.

The backlog: events of 1.3 kB in transactions of 100 rows. Drained by `pg_recvlogical` into nowhere (the limit of one
slot), by the streamer's own code with a null sink, and by `python -m streamer` into Kafka (acks=all) and raw files.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import resource
import shutil
import statistics
import sys
import tempfile
import time
from functools import cache
from pathlib import Path
from typing import Any

import httpx
import psutil
import psycopg

from database import source
from local.services import Service
from local.stack import Stack
from pipeline.position import Lsn
from streamer.memory import keep_freed, spare_collections
from streamer.pump import let_gather
from streamer.replication import ReplicationConnection
from streamer.transactions import EpochMap, Transactions

ROWS_PER_TRANSACTION = 100

POLL_SECONDS = 0.2
"""How often the streamer's metrics are read: more often would be a load of its own."""

_INSERT = """
INSERT INTO events_log (event_type, session_id, visitor_id, site_id, "timestamp", url, path, user_agent, ip_address,
                        client_id, raw_event_data)
SELECT 'pageview', 'session-' || n %% 997, 'visitor-' || n %% 4999, 'site-' || n %% 20, now(),
       'https://www.site.example/products/' || n, '/products/' || n,
       'Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 Chrome/126.0.0.0 Safari/537.36',
       ('10.0.' || n %% 250 || '.' || n %% 199)::inet, 'client-' || n %% 20,
       jsonb_build_object('eventType', 'pageview', 'sessionId', 's-' || n %% 997, 'n', n, 'text', repeat('x', 280),
           'eventData', (SELECT jsonb_object_agg('key' || i, md5(n::text || i)) FROM generate_series(1, 10) i))
  FROM generate_series(%s::bigint, %s::bigint) n
"""


async def insert(dsn: str, events: int) -> float:
    """Fill the backlog; returns the mean length of raw_event_data in bytes."""
    async with await psycopg.AsyncConnection.connect(dsn, autocommit=True) as connection:
        async with connection.pipeline() as pipeline:
            for first in range(0, events, ROWS_PER_TRANSACTION):
                await connection.execute(_INSERT, (first, first + ROWS_PER_TRANSACTION - 1))
                await pipeline.sync()  # else all of them are one transaction
        cursor = await connection.execute("SELECT avg(length(e::text)) FROM (SELECT * FROM events_log LIMIT 1000) e")
        row: Any = await cursor.fetchone()
    return float(row[0])


def cpu_seconds(pid: int) -> float:
    """User and system time of a process so far."""
    times = psutil.Process(pid).cpu_times()
    return times.user + times.system


def servers_cpu_seconds(stack: Stack) -> dict[str, float]:
    """The same of the servers on this machine, with all their processes."""
    found = {}
    for name, part in (("postgresql", stack.postgres), ("kafka", stack.kafka), ("s3", stack.aws)):
        top = psutil.Process(part.process.pid)
        found[name] = sum(cpu_seconds(process.pid) for process in (top, *top.children(recursive=True)))
    return found


def result(events: int, seconds: float, cpu: float, memory: int | None = None) -> dict[str, Any]:
    """One way of draining: rate, CPU per event, peak memory where it is known."""
    found: dict[str, Any] = {
        "events_per_second": round(events / seconds),
        "cpu_microseconds_per_event": round(cpu / events * 1e6, 2),
        "seconds": round(seconds, 2),
    }
    if memory is not None:
        found["peak_memory_mb"] = round(memory / 1e6, 1)
    return found


async def pg_recvlogical(program: Path, dsn: str, slot: str, events: int, end: Lsn) -> dict[str, Any]:
    """The server's own client into /dev/null, until it has seen the end of the backlog."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    start = time.monotonic()
    process = await asyncio.create_subprocess_exec(
        program, "-d", dsn, "--slot", slot, "--start", "-f", os.devnull, "--endpos", str(end),
        "-o", "proto_version=1", "-o", "publication_names=events_pipeline", "--no-loop",
    )  # fmt: skip
    status = await process.wait()
    assert status == 0, status
    seconds = time.monotonic() - start
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return result(events, seconds, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)


async def null_sink(dsn: str, events: int) -> dict[str, Any]:
    """The streamer's reading, decoding and encoding, in this process; lines are dropped."""
    connection = await ReplicationConnection.connect(dsn)
    await connection.start("bench_null", "events_pipeline", Lsn(0))
    transactions = Transactions(EpochMap([(Lsn(0), 1)]))
    keep_freed()  # as the streamer does
    spare_collections()
    start, cpu = time.monotonic(), time.process_time()
    seen = size = bursts = 0
    while seen < events:
        burst = await connection.read(1.0)
        batch = transactions.events(burst.payloads)
        seen += len(batch)
        bursts += 1
        await let_gather(burst)
        size += sum(len(event.line) for event in batch)
    seconds, cpu = time.monotonic() - start, time.process_time() - cpu
    await connection.close()
    return result(events, seconds, cpu) | {
        "bytes_per_event": round(size / seen),
        "events_per_burst": round(seen / bursts),
    }


async def full(stack: Stack, service: Service, dsn: str, events: int) -> dict[str, Any]:
    """`python -m streamer` until the ledger has everything; timed from the first to the last acknowledged event."""
    process = await service.start()
    while not (already := await _metric(service, "streamer_published_events_total")):
        await asyncio.sleep(POLL_SECONDS)
    start, cpu_before, servers_before = time.monotonic(), cpu_seconds(process.pid), servers_cpu_seconds(stack)
    while await _metric(service, "streamer_published_events_total") < events:
        await asyncio.sleep(POLL_SECONDS)
    seconds, cpu = time.monotonic() - start, cpu_seconds(process.pid) - cpu_before
    servers = servers_cpu_seconds(stack)
    async with await psycopg.AsyncConnection.connect(dsn, autocommit=True) as connection:
        recorded = 0
        while recorded < events:
            cursor = await connection.execute("SELECT coalesce(sum(events), 0)::bigint FROM pipeline.raw_objects")
            row: Any = await cursor.fetchone()
            recorded = row[0]
            await asyncio.sleep(POLL_SECONDS)
    drained = int(events - already)
    return result(drained, seconds, cpu, peak_bytes(process.pid)) | {
        "cpu_of_servers_microseconds_per_event": {
            name: round((used - servers_before[name]) / drained * 1e6, 2) for name, used in servers.items()
        }
    }


def peak_bytes(pid: int) -> int:
    """The most memory that a process has ever held."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM"):
            return int(line.split()[1]) * 1024
    return 0


@cache
def _http() -> httpx.AsyncClient:
    return httpx.AsyncClient()


async def _metric(service: Service, name: str) -> float:
    try:
        text = (await _http().get(f"{service.url}/metrics", timeout=5)).text
    except httpx.HTTPError:
        return 0.0
    return next((float(line.split()[1]) for line in text.splitlines() if line.startswith(f"{name} ")), 0.0)


async def latency(dsn: str, bootstrap: str, topic: str, rate: int, seconds: float) -> dict[str, Any]:
    """From before COMMIT is sent until a consumer holds the record, milliseconds; single-row transactions."""
    from aiokafka import AIOKafkaConsumer, TopicPartition

    consumer = AIOKafkaConsumer(bootstrap_servers=bootstrap, fetch_max_wait_ms=20)
    await consumer.start()
    partitions = [TopicPartition(topic, p) for p in consumer.partitions_for_topic(topic) or range(12)]
    consumer.assign(partitions)
    await consumer.seek_to_end(*partitions)
    for tp in partitions:
        await consumer.position(tp)
    seen: list[float] = []
    wanted = int(rate * seconds)

    async def consume() -> None:
        while len(seen) < wanted:
            for records in (await consumer.getmany(timeout_ms=50)).values():
                now = time.time()
                for record in records:
                    committed = int.from_bytes(dict(record.headers)["commit_time"], "big") / 1e6
                    seen.append((now - committed) * 1000)

    async def produce() -> None:
        connections = [await psycopg.AsyncConnection.connect(dsn, autocommit=True) for _ in range(2)]
        rows = max(1, rate // 500)
        start = time.monotonic()
        for number in range(wanted // rows):
            await asyncio.sleep(max(0.0, start + number * rows / rate - time.monotonic()))
            await connections[number % 2].execute(_INSERT, (number * rows, number * rows + rows - 1))
        for connection in connections:
            await connection.close()

    reading = asyncio.create_task(consume())
    await produce()
    async with asyncio.timeout(60):
        await reading
    await consumer.stop()
    found = sorted(seen)
    return {
        "events": len(found),
        "p50_ms": round(statistics.median(found), 1),
        "p99_ms": round(found[int(len(found) * 0.99)], 1),
    }


async def main(options: argparse.Namespace) -> dict[str, Any]:
    """All parts, in one run."""
    folder = Path(tempfile.mkdtemp(prefix="bench-"))
    stack = Stack(folder, say=lambda line: print(line, file=sys.stderr))
    await stack.start()
    try:
        return await _measure(stack, folder, options)
    finally:
        await stack.stop()
        shutil.rmtree(folder, ignore_errors=True)


async def _measure(stack: Stack, folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    dsn = stack.postgres.dsn
    environment = {**stack.environment, "RAW_FLUSH_SECONDS": "60"}
    service = Service("streamer", environment, _free_port(), folder / "streamer.log")
    await service.start()  # makes its slot
    async with source.connect(dsn) as connection:
        while await source.find_slot(connection, "events_pipeline") is None or not await _metric(
            service, "streamer_slot_held"
        ):
            await asyncio.sleep(0.1)
        await service.stop()
        slots = [f"bench_recvlogical_{number}" for number in range(options.rounds)]  # it confirms: one for each round
        for slot in (*slots, "bench_null"):
            await connection.execute("SELECT pg_create_logical_replication_slot(%s, 'pgoutput')", (slot,))
        size = await insert(dsn, options.events)
        cursor = await connection.execute("SELECT pg_current_wal_lsn()::text")
        row: Any = await cursor.fetchone()
        await connection.execute("SELECT pg_logical_emit_message(true, 'bench', 'end')")
        end = Lsn.parse(row[0])
        results: dict[str, Any] = {"events": options.events, "row_bytes": round(size), "rounds": []}
        for slot in slots:
            peer = await pg_recvlogical(stack.postgres.bin_folder / "pg_recvlogical", dsn, slot, options.events, end)
            null = await null_sink(dsn, options.events)
            results["rounds"].append({"pg_recvlogical": peer, "null_sink": null})
        kafka = await full(stack, service, dsn, options.events)
        results["kafka_and_raw_files"] = kafka
        if options.latency:
            results["latency"] = {
                str(rate): await latency(
                    dsn, stack.environment["KAFKA_BOOTSTRAP_SERVERS"], stack.environment["KAFKA_RAW_TOPIC"], rate, 10
                )
                for rate in (1000, 5000)
            }
        results["memory_mb_after_all"] = round(peak_bytes(service.pid) / 1e6, 1)
        await service.stop()
    best_peer = statistics.median(r["pg_recvlogical"]["events_per_second"] for r in results["rounds"])
    best_null = statistics.median(r["null_sink"]["events_per_second"] for r in results["rounds"])
    results["ratios"] = {
        "null_sink_to_pg_recvlogical": round(best_null / best_peer, 2),
        "kafka_and_raw_files_to_pg_recvlogical": round(kafka["events_per_second"] / best_peer, 2),
    }
    return results


def _free_port() -> int:
    from local import ports

    return ports.choose(("bench",), {})["bench"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of this part."""
    parser.add_argument("--events", type=int, default=500_000)
    parser.add_argument("--rounds", type=int, default=3, help="pg_recvlogical and null sink in turn")
    parser.add_argument("--no-latency", dest="latency", action="store_false")
