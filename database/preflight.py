"""What the servers lack, and how to mend it: one line for each thing, before the first event moves."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Any, Literal

import psycopg

from database.ledger import CONNECTION_OPTIONS
from pipeline.errors import ConfigError, PipelineError
from pipeline.s3 import ObjectStore

REQUIRED_COLUMNS = {
    "id", "event_id", "event_type", "session_id", "visitor_id", "site_id", "timestamp", "url", "path", "user_agent",
    "ip_address", "raw_event_data", "created_at", "client_id", "batch_id", "export_status", "raw_exported_at",
    "processed_at",
}  # fmt: skip


REBUILD_LOCK = 0x7265_6275_696C_64
"""The advisory lock that `rebuild-ledger` holds: no service starts meanwhile."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that is missing (error) or unwise (warning)."""

    severity: Literal["error", "warning"]
    subject: str
    """The variable or the server's setting that it is about."""
    problem: str
    mend: str

    def __str__(self) -> str:
        return f"{self.subject}: {self.problem} ({self.mend})"


async def require(source_dsn: str | None, ledger_dsn: str, *, publication: str = "", replication: bool = False) -> None:
    """Raise ConfigError with all errors in one line unless the databases are fit for a service.

    `source_dsn` is None for services that never touch the source.
    """
    findings = await check_ledger(ledger_dsn)
    if source_dsn is not None and not any(finding.subject == "DATABASE_URL" for finding in findings):
        findings += await check_source(source_dsn, publication, replication=replication)
    errors = [str(finding) for finding in findings if finding.severity == "error"]
    if errors:
        raise ConfigError("; ".join(errors))


async def require_reachable(*dsns: str) -> None:
    """Raise ConfigError unless each server accepts a connection."""
    for dsn in dsns:
        try:
            await (await _connect(dsn)).close()
        except psycopg.OperationalError as error:
            raise ConfigError(str(_unreachable(error))) from None


async def require_bucket(bucket: ObjectStore, variable: str) -> None:
    """Raise ConfigError unless the bucket answers to these credentials."""
    try:
        await bucket.check()
    except PipelineError as error:
        raise ConfigError(
            f"{variable}: {error}", hint="check the bucket's name, region, endpoint and the key's policy"
        ) from error


async def check_ledger(dsn: str) -> list[Finding]:
    """What the ledger's database lacks."""
    try:
        async with await _connect(dsn) as connection:
            cursor = await connection.execute("SELECT to_regclass('pipeline.consumer_positions') IS NOT NULL")
            if not (await _row(cursor))[0]:
                return [_error("LEDGER_DATABASE_URL", "the ledger is not there", "run python -m database migrate")]
            cursor = await connection.execute(
                "SELECT has_table_privilege('pipeline.consumer_positions', 'INSERT, SELECT, UPDATE')"
            )
            if not (await _row(cursor))[0]:
                mend = "GRANT SELECT, INSERT, UPDATE ON ALL TABLES IN SCHEMA pipeline TO the user"
                return [_error("LEDGER_DATABASE_URL", "the user may not write the ledger", mend)]
            cursor = await connection.execute(
                "SELECT EXISTS (SELECT FROM pg_locks WHERE locktype = 'advisory' AND objsubid = 1 AND granted"
                " AND (classid::bigint << 32 | objid::bigint) = %s"
                " AND database = (SELECT oid FROM pg_database WHERE datname = current_database()))",
                (REBUILD_LOCK,),
            )
            if (await _row(cursor))[0]:
                return [_error("LEDGER_DATABASE_URL", "rebuild-ledger is at work", "wait until it has ended")]
    except psycopg.errors.InsufficientPrivilege:
        return [_error("LEDGER_DATABASE_URL", "no privilege on schema pipeline", "GRANT USAGE ON SCHEMA pipeline")]
    except psycopg.OperationalError as error:
        return [_unreachable(error)]
    return []


async def check_source(dsn: str, publication: str, *, replication: bool) -> list[Finding]:
    """What the source database lacks; `replication` adds what only the streamer needs."""
    try:
        async with await _connect(dsn) as connection:
            if (await _row(await connection.execute("SELECT pg_is_in_recovery()")))[0]:
                return [_error("DATABASE_URL", "the server is a standby", "name the primary, or promote this one")]
            findings = await _check_table(connection)
            if replication:
                findings += await _check_server(connection)
                findings += await _check_publication(connection, publication)
            return findings
    except psycopg.OperationalError as error:
        return [_unreachable(error)]


async def _check_server(connection: psycopg.AsyncConnection) -> list[Finding]:
    findings = []
    settings = {
        name: await _setting(connection, name)
        for name in ("server_version_num", "wal_level", "max_wal_senders", "max_replication_slots")
    }
    if int(settings["server_version_num"]) < 150000:
        findings.append(_error("server_version", "PostgreSQL is older than 15", "upgrade the server"))
    if settings["wal_level"] != "logical":
        mend = "ALTER SYSTEM SET wal_level = 'logical' and restart the server"
        findings.append(_error("wal_level", f"is {settings['wal_level']}, logical is needed", mend))
    for name, view in (("max_wal_senders", "pg_stat_replication"), ("max_replication_slots", "pg_replication_slots")):
        used = (await _row(await connection.execute(f"SELECT count(*) FROM {view}")))[0]  # noqa: S608 - constants
        if int(settings[name]) < 2 or used > int(settings[name]):
            findings.append(_error(name, f"is {settings[name]}, {used} in use", f"raise {name} and restart the server"))
    row = await _row(
        await connection.execute("SELECT rolreplication OR rolsuper FROM pg_roles WHERE rolname = current_user")
    )
    if not row[0]:
        findings.append(_error("DATABASE_URL", "the user may not replicate", "ALTER ROLE the user REPLICATION"))
    if await _setting(connection, "max_slot_wal_keep_size") == "-1":
        mend = "set it to what the disk can bear; the streamer closes the gap of a lost slot from the table"
        findings.append(_warning("max_slot_wal_keep_size", "without a limit a stopped streamer fills the disk", mend))
    return findings


async def _check_table(connection: psycopg.AsyncConnection) -> list[Finding]:
    cursor = await connection.execute(
        "SELECT attname FROM pg_attribute WHERE attrelid = to_regclass('events_log') AND attnum > 0"
        " AND NOT attisdropped"
    )
    columns = {row[0] for row in await cursor.fetchall()}
    if not columns:
        return [_error("events_log", "there is no such table", "run python -m database migrate")]
    findings = []
    if missing := REQUIRED_COLUMNS - columns:
        findings.append(_error("events_log", f"lacks {', '.join(sorted(missing))}", "run python -m database migrate"))
    if not (await _row(await connection.execute("SELECT has_table_privilege('events_log', 'SELECT')")))[0]:
        findings.append(_error("DATABASE_URL", "the user may not read events_log", "GRANT SELECT ON events_log"))
    return findings


async def _check_publication(connection: psycopg.AsyncConnection, publication: str) -> list[Finding]:
    cursor = await connection.execute(
        "SELECT p.pubinsert, p.pubupdate OR p.pubdelete, p.pubviaroot,"
        " EXISTS (SELECT FROM pg_publication_tables t WHERE t.pubname = p.pubname AND t.tablename = 'events_log')"
        " FROM pg_publication p WHERE p.pubname = %s",
        (publication,),
    )
    row = await cursor.fetchone()
    if row is None:
        return [_error("PUBLICATION", f"there is no publication {publication}", "run python -m database migrate")]
    inserts, more, via_root, covers = row
    findings = []
    if not (inserts and covers and via_root):
        mend = f"drop publication {publication} and run python -m database migrate"
        problem = "does not publish the inserts of events_log under the root's name"
        findings.append(_error("PUBLICATION", problem, mend))
    if more:
        mend = f"ALTER PUBLICATION {publication} SET (publish = 'insert')"
        findings.append(_warning("PUBLICATION", "publishes updates and deletes that nobody reads", mend))
    return findings


async def check_kafka(settings: Any) -> list[Finding]:
    """What the broker and the raw topic lack; `settings` is a KafkaSettings."""
    from aiokafka.admin import AIOKafkaAdminClient
    from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
    from aiokafka.errors import KafkaError

    from pipeline import kafka

    topic = settings.kafka_raw_topic
    admin = AIOKafkaAdminClient(**kafka.connection_options(settings))
    try:
        await kafka.start(admin, settings.kafka_bootstrap_servers)
        described = (await admin.describe_topics([topic]))[0]
        if described["error_code"]:
            return [_error("KAFKA_RAW_TOPIC", f"there is no topic {topic}", "create it")]
        answers = await admin.describe_configs([ConfigResource(ConfigResourceType.TOPIC, topic)])
    except PipelineError as error:
        return [_error("KAFKA_BOOTSTRAP_SERVERS", str(error.args[0]), error.hint or "check the broker")]
    except KafkaError as error:
        return [_error("KAFKA_BOOTSTRAP_SERVERS", f"the broker refuses ({type(error).__name__})", "check its log")]
    finally:
        await admin.close()
    config = {
        entry[0]: entry[1]
        for resource in itertools.chain.from_iterable(answer.resources for answer in answers)
        for entry in resource[4]
    }
    return _judge_topic(settings, described["partitions"], config)


def _judge_topic(settings: Any, partitions: list[dict[str, Any]], config: dict[str, str]) -> list[Finding]:
    findings = []
    topic = settings.kafka_raw_topic
    if len(partitions) < settings.kafka_partitions:
        mend = f"add partitions, or set KAFKA_PARTITIONS={len(partitions)} before the first event"
        findings.append(_error("KAFKA_PARTITIONS", f"{topic} has only {len(partitions)}", mend))
    replicas = min((len(partition["replicas"]) for partition in partitions), default=0)
    if replicas < 3:
        mend = "3 replicas with min.insync.replicas=2 survive a broker"
        findings.append(_warning("replication.factor", f"{topic} has {replicas}", mend))
    elif int(config.get("min.insync.replicas", 1)) < 2:
        mend = "set it to 2: acks=all then means two"
        findings.append(_warning("min.insync.replicas", "is 1", mend))
    hours = int(config.get("retention.ms", -1)) / 3_600_000
    if 0 <= hours < settings.kafka_retention_hours:
        mend = f"set retention.ms={settings.kafka_retention_hours * 3_600_000}"
        findings.append(_warning("retention.ms", f"{topic} keeps {hours:.0f} hours", mend))
    if config.get("cleanup.policy", "delete") != "delete":
        findings.append(_error("cleanup.policy", "compaction would lose events", "set cleanup.policy=delete"))
    return findings


async def _connect(dsn: str) -> psycopg.AsyncConnection:
    return await psycopg.AsyncConnection.connect(dsn, autocommit=True, **CONNECTION_OPTIONS)


async def _setting(connection: psycopg.AsyncConnection, name: str) -> str:
    return str((await _row(await connection.execute("SELECT current_setting(%s)", (name,))))[0])


async def _row(cursor: psycopg.AsyncCursor[Any]) -> tuple[Any, ...]:
    row = await cursor.fetchone()
    assert row is not None
    return tuple(row)


def _error(subject: str, problem: str, mend: str) -> Finding:
    return Finding(severity="error", subject=subject, problem=problem, mend=mend)


def _warning(subject: str, problem: str, mend: str) -> Finding:
    return Finding(severity="warning", subject=subject, problem=problem, mend=mend)


def _unreachable(error: psycopg.OperationalError) -> Finding:
    text = " ".join(str(error).split())
    return _error("DATABASE_URL", f"can't connect: {text}", "check address, database, user and password")
