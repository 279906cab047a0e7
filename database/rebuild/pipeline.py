"""The rebuild from top to bottom: one transaction on the ledger, which a dry run takes back."""

from __future__ import annotations

import argparse
import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager

import psycopg
from psycopg import AsyncConnection

from database import preflight
from database import source as source_db
from database.balance import Window, imbalances
from database.ledger import CONNECTION_OPTIONS, SESSION_NAME, audit, chunks
from database.ledger.layouts import insert_layout, known_layouts
from database.ledger.records import LAYOUTS, History, decode_layout
from database.migrate import migrate
from database.preflight import REBUILD_LOCK
from database.rebuild import cells, deliveries, kafka, processed, raw
from database.rebuild.report import Report
from database.settings import RebuildSettings
from database.translate import translated
from pipeline import logs
from pipeline.errors import ConfigError, PermanentError, PoisonError
from pipeline.gzip import GzipError
from pipeline.kafka import told_sequences
from pipeline.layout import Layout, Layouts
from pipeline.position import ZERO, Position
from pipeline.s3 import ObjectStore, open_bucket

log = logs.get(__name__)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of the command."""
    parser.add_argument("--dry-run", action="store_true", help="say what would be restored, write nothing")
    parser.add_argument("--json", action="store_true", help="one JSON document instead of lines")


async def run(options: argparse.Namespace) -> int:
    """Exit status: 0 when the ledger is whole again, 1 when there is something to look at, 2 when it can't be done."""
    settings = RebuildSettings.load()
    logs.configure("database", settings.log_level)
    report = await rebuild(settings, dry_run=options.dry_run)
    print(json.dumps(report.to_json(), indent=2) if options.json else "\n".join(report.lines()))  # noqa: T201
    return 1 if report.doubts else 0


async def rebuild(settings: RebuildSettings, *, dry_run: bool = False) -> Report:
    """Add to the ledger what S3 holds and the ledger lacks. Raises ConfigError while a service runs."""
    report = Report(dry_run=dry_run)
    if not dry_run:
        await preflight.require_reachable(settings.source_dsn, settings.ledger_dsn)
        await migrate(settings.source_dsn, settings.ledger_dsn, publication=settings.publication)
    await preflight.require(settings.source_dsn, settings.ledger_dsn, publication=settings.publication)
    async with AsyncExitStack() as stack:
        raw_bucket = await stack.enter_async_context(open_bucket(settings.raw_bucket, max_connections=64))
        processed_bucket = await stack.enter_async_context(open_bucket(settings.processed_bucket, max_connections=64))
        await preflight.require_bucket(raw_bucket, "RAW_S3_BUCKET")
        await preflight.require_bucket(processed_bucket, "PROCESSED_S3_BUCKET")
        source = await stack.enter_async_context(source_db.connect(settings.source_dsn))
        ledger = await stack.enter_async_context(_ledger(settings.ledger_dsn))
        with translated("LEDGER_DATABASE_URL"):
            await _require_nobody(ledger, source, settings.replication_slot)
            async with ledger.transaction(force_rollback=dry_run):
                # We wait for S3 inside of it; and a service that slipped in waits for us, then finds its place taken.
                await ledger.execute("SET LOCAL idle_in_transaction_session_timeout = 0")
                await ledger.execute(
                    "LOCK TABLE pipeline.stream_state, pipeline.consumer_positions, pipeline.sync_runs"
                    " IN SHARE ROW EXCLUSIVE MODE"
                )
                found = await deliveries.read(ledger, processed_bucket, report)
                records = await cells.read(processed_bucket, report)
                used = found.members.union(*(record.superseded for record in records))
                restored = await raw.restore(ledger, source, raw_bucket, report)
                await _restore_epochs(ledger, restored.histories, report)
                await _restore_tails(ledger, raw_bucket, settings, restored, report)
                await processed.restore(ledger, processed_bucket, used, report)
                await _compare_group(ledger, settings, report)
                memberships = await deliveries.restore(ledger, found, report)
                later = await deliveries.enter_members(ledger, memberships)
                await cells.restore(ledger, records, found.members, report)
                for item in await deliveries.enter_members(ledger, later):
                    report.doubt(f"{item.key} was planned for a delivery, but no chunk's record names it")
                await deliveries.replacements(ledger, found, report)
                await _set_state(ledger, settings)
                await _require_nobody(ledger, source, settings.replication_slot)
                await audit.append(
                    ledger, actor="operator", action="ledger.rebuilt", client_id=None, details=report.to_json()
                )
        if not dry_run:
            left = await imbalances(ledger, Window(), slot=settings.replication_slot, topic=settings.kafka_raw_topic)
            for imbalance in left:
                report.doubt(str(imbalance))
    log.info("database.ledger.rebuilt", **report.to_json())
    return report


@asynccontextmanager
async def _ledger(dsn: str) -> AsyncIterator[AsyncConnection]:
    """A connection that holds the lock by which services are kept from starting."""
    try:
        connection = await AsyncConnection.connect(dsn, autocommit=True, **CONNECTION_OPTIONS)
    except psycopg.OperationalError as error:
        raise ConfigError(f"LEDGER_DATABASE_URL: can't connect: {error}") from None
    async with connection:
        cursor = await connection.execute("SELECT pg_try_advisory_lock(%s)", (REBUILD_LOCK,))
        row = await cursor.fetchone()
        if row is None or not row[0]:
            raise ConfigError("another rebuild-ledger is at work")
        yield connection


async def _require_nobody(ledger: AsyncConnection, source: AsyncConnection, slot: str) -> None:
    """A service that works on while its ledger is rebuilt would act on what it has read before."""
    cursor = await ledger.execute(
        "SELECT application_name, pid, coalesce(client_addr::text, 'local') FROM pg_stat_activity"
        " WHERE datname = current_database() AND application_name LIKE %s ORDER BY 1, 2",
        (f"{SESSION_NAME} %",),
    )
    names = [f"{name} (session {pid} from {address})" for name, pid, address in await cursor.fetchall()]
    found = await source_db.find_slot(source, slot)
    if found is not None and found.active and not names:
        names.append(f"the streamer (slot {slot} is active)")
    if names:
        raise ConfigError(f"services are running: {', '.join(names)}", hint="stop all of them first")


async def _restore_epochs(ledger: AsyncConnection, histories: Mapping[int, History], report: Report) -> None:
    """Epochs under the numbers that stand in positions, and a counter behind every number that was ever used."""
    cursor = await ledger.execute("SELECT epoch, system_identifier, timeline, begins_at_lsn::text FROM pipeline.epochs")
    known = {row[0]: tuple(row[1:]) for row in await cursor.fetchall()}
    for epoch, history in sorted(histories.items()):
        value = (history.system_identifier, history.timeline, str(history.begins_at))
        if known.get(epoch, value) != value:
            raise PermanentError(
                f"epoch {epoch} is {known[epoch]} in the ledger and {value} in raw objects: they don't belong together",
                hint="check LEDGER_DATABASE_URL and RAW_S3_BUCKET; an empty ledger can always be rebuilt",
            )
        if epoch not in known:
            await ledger.execute(
                "INSERT INTO pipeline.epochs (epoch, system_identifier, timeline, begins_at_lsn)"
                " OVERRIDING SYSTEM VALUE VALUES (%s, %s, %s, %s)",
                (epoch, *value),
            )
            report.restored["epochs"] += 1
    cursor = await ledger.execute("SELECT DISTINCT left(last_position::text, 8) FROM pipeline.raw_objects")
    used = {int(row[0], 16) for row in await cursor.fetchall()}
    for epoch in sorted(used - histories.keys() - known.keys()):
        report.doubt(f"raw objects have events of epoch {epoch}, but none says which history that is")
    last = max({*used, *known, *histories}, default=0)
    if last and not report.dry_run:  # a counter is not taken back
        await ledger.execute("SELECT setval(pg_get_serial_sequence('pipeline.epochs', 'epoch'), %s)", (last,))


async def _restore_tails(
    ledger: AsyncConnection, bucket: ObjectStore, settings: RebuildSettings, restored: raw.RawRestored, report: Report
) -> None:
    """How far Kafka was with the last raw object, and over how many partitions events are spread."""
    topic = settings.kafka_raw_topic
    partitions = len(restored.prior_tails) or settings.kafka_partitions
    layouts = await _restore_layouts(ledger, bucket, topic, partitions, report)
    if restored.last is None:
        return
    in_kafka = await kafka.last_records(settings, layouts.partitions, Position.parse(restored.last.last))
    try:
        tails = await asyncio.to_thread(raw.tails_after, restored.body or b"", in_kafka, restored.prior_tails, layouts)
    except (GzipError, PoisonError):
        tails = raw.tails_after(b"", in_kafka, restored.prior_tails, layouts)
    await raw.set_tails(ledger, restored.last, tails)


async def _compare_group(ledger: AsyncConnection, settings: RebuildSettings, report: Report) -> None:
    """The consumer group may have been told of chunks whose records are gone; processors refuse to do them again."""
    stands = await chunks.stands(ledger, settings.kafka_raw_topic)
    told = await told_sequences(settings, range(max([settings.kafka_partitions, *(number + 1 for number in stands)])))
    for partition, sequence in sorted(told.items()):
        stand = stands.get(partition, chunks.NOWHERE)
        if sequence > stand.last_sequence:
            report.doubt(
                f"{settings.kafka_raw_topic}-{partition} was processed to sequence {sequence}, records of chunks end at"
                f" {stand.last_sequence}: processors refuse to go on until their records are back, or, when what they"
                " held may be delivered again, until KAFKA_GROUP has another name"
            )


async def _restore_layouts(
    ledger: AsyncConnection, bucket: ObjectStore, topic: str, partitions: int, report: Report
) -> Layouts:
    """`partitions` is that of the first layout, where nothing better is known; later ones have left their records."""
    layouts = {layout.from_position: layout for layout in await known_layouts(ledger, topic)}
    known = set(layouts)
    async for item in bucket.list(f"{LAYOUTS}{topic}/"):
        try:
            _, layout = decode_layout(await bucket.get(item.key))
            layouts.setdefault(layout.from_position, layout)
        except (PoisonError, PermanentError):
            report.doubt(f"{item.key} can't be read: events may be looked for in another partition than they are in")
    if ZERO not in layouts:
        layouts[ZERO] = Layout(partitions=min([partitions, *(one.partitions for one in layouts.values())]))
    for position in sorted(set(layouts) - known):
        await insert_layout(ledger, topic, layouts[position])
        report.restored["layouts"] += 1
    return Layouts(layouts.values())


async def _set_state(ledger: AsyncConnection, settings: RebuildSettings) -> None:
    """The streamer begins with a snapshot: whether its slot gave up WAL before everything in it was exported, nobody
    knows any more. Rows that any raw object holds are left out of it, so nothing comes twice."""
    await ledger.execute(
        "INSERT INTO pipeline.stream_state (slot, epoch, state, confirmed_lsn, last_position)"
        " SELECT %(slot)s, e.epoch, 'snapshot', '0/0', (SELECT max(last_position::text) FROM pipeline.raw_objects)"
        " FROM (SELECT max(epoch) AS epoch FROM pipeline.epochs) e WHERE e.epoch IS NOT NULL"
        " ON CONFLICT (slot) DO UPDATE SET epoch = greatest(stream_state.epoch, excluded.epoch), state = 'snapshot',"
        " last_position = excluded.last_position, caught_up_at = NULL, updated_at = now()",
        {"slot": settings.replication_slot},
    )
    # Kafka refuses a producer's older self: it gives a new one.
    await ledger.execute("UPDATE pipeline.stream_generations SET producer_id = NULL, producer_epoch = 0")
