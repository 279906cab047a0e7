"""`python -m database partition`: events_log becomes a table partitioned by day, without moving a row.

What there is becomes the first partition. Its bound is proven beforehand by a constraint that is validated without a
lock; so the change itself is one transaction of a few milliseconds: rename, root, attach, publication. A publication
follows the table's oid, so the root has to be added, or nothing more would be streamed.
"""

from __future__ import annotations

import asyncio
import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import psycopg
from psycopg import AsyncConnection, sql

from database.translate import translated
from pipeline import logs
from pipeline.errors import ConfigError, TransientError

log = logs.get(__name__)

LOCK_TIMEOUT = "2s"
ATTEMPTS = 30
"""Tries to get the table's lock between other people's transactions, which wait no longer than LOCK_TIMEOUT."""

_PROOF = "events_log_until"
_LIKE = "INCLUDING DEFAULTS INCLUDING CONSTRAINTS INCLUDING GENERATED INCLUDING STORAGE INCLUDING COMPRESSION"
_LOWER = re.compile(r" FROM \('([^']+)'\)")
_UPPER = re.compile(r" TO \('([^']+)'\)")

_OBSTACLES = """
    SELECT 'foreign key ' || conname FROM pg_constraint WHERE confrelid = %(table)s::regclass
    UNION ALL SELECT 'trigger ' || tgname FROM pg_trigger WHERE tgrelid = %(table)s::regclass AND NOT tgisinternal
    UNION ALL SELECT 'view ' || r.ev_class::regclass FROM pg_depend d JOIN pg_rewrite r ON r.oid = d.objid
        WHERE d.classid = 'pg_rewrite'::regclass AND d.refobjid = %(table)s::regclass
    UNION ALL SELECT 'inheritance' FROM pg_inherits WHERE %(table)s::regclass IN (inhrelid, inhparent)
    UNION ALL SELECT 'row filter or column list of a publication' FROM pg_publication_rel
        WHERE prrelid = %(table)s::regclass AND (prqual IS NOT NULL OR prattrs IS NOT NULL)
"""


async def partition(connection: AsyncConnection, *, days_ahead: int) -> bool:
    """Partition events_log, unless it is so already; then make partitions ahead. Whether it was changed.

    `connection`: autocommit, as the table's owner. Raises ConfigError when something hangs on the table that would not
    follow (foreign keys, triggers, views), TransientError when the lock can't be had: try again in a quieter moment.
    """
    with translated("DATABASE_URL"):
        await connection.execute("SELECT set_config('timezone', 'UTC', false), set_config('datestyle', 'ISO', false)")
        if await is_partitioned(connection):
            await make_ahead(connection, days_ahead=days_ahead)
            return False
        await _require_no_obstacles(connection)
        bound = await _prove(connection)
    for attempt in range(ATTEMPTS):
        try:
            with translated("DATABASE_URL"):
                await _swap(connection, bound)
            break
        except TransientError as error:
            if attempt == ATTEMPTS - 1 or not isinstance(error.__cause__, psycopg.errors.LockNotAvailable):
                raise
            await asyncio.sleep(0.5)
    with translated("DATABASE_URL"):
        await make_ahead(connection, days_ahead=days_ahead)
    log.info("database.events_log.partitioned", first_until=bound.isoformat())
    return True


async def is_partitioned(connection: AsyncConnection) -> bool:
    """Whether events_log is a partitioned table."""
    cursor = await connection.execute("SELECT relkind FROM pg_class WHERE oid = 'events_log'::regclass")
    row = await cursor.fetchone()
    return row is not None and row[0] in ("p", b"p")


@dataclass(frozen=True, slots=True, kw_only=True)
class Day:
    """A partition of events_log. `name` as SQL takes it; `lower` is None for the first one, which has no beginning."""

    name: str
    lower: datetime | None
    upper: datetime


async def days(connection: AsyncConnection) -> list[Day]:
    """The partitions with an end, oldest first: all but the default one. None where events_log isn't partitioned."""
    cursor = await connection.execute(
        "SELECT c.oid::regclass::text, pg_get_expr(c.relpartbound, c.oid) FROM pg_inherits"
        " JOIN pg_class c ON c.oid = inhrelid WHERE inhparent = 'events_log'::regclass"
    )
    found = []
    for name, bounds in await cursor.fetchall():
        lower, upper = _LOWER.search(bounds), _UPPER.search(bounds)
        if upper is not None:
            found.append(Day(name=name, lower=_time(lower[1]) if lower else None, upper=_time(upper[1])))
    return sorted(found, key=lambda day: day.upper)


async def make_ahead(connection: AsyncConnection, *, days_ahead: int) -> list[str]:
    """Partitions for each day up to `days_ahead` from now; the names of the new ones. Waits for no lock for long.

    Made apart and attached then: that locks neither readers nor writers of the root.
    """
    uppers = [day.upper for day in await days(connection)]
    row = await (await connection.execute("SELECT clock_timestamp()")).fetchone()
    assert row is not None
    begin = max(uppers, default=_day(row[0]))
    made = []
    while begin < _day(row[0]) + timedelta(days=days_ahead):
        end = begin + timedelta(days=1)
        name = f"events_log_p{begin:%Y%m%d}"
        try:
            await _add_day(connection, name, begin, end)
            made.append(name)
        except psycopg.errors.CheckViolation:
            log.warning(
                "database.partition.skipped", partition=name, reason="the default partition has rows of that day"
            )
        begin = end
    return made


async def _add_day(connection: AsyncConnection, name: str, begin: datetime, end: datetime) -> None:
    child = sql.SQL("{}.{}").format(sql.Identifier(await _schema(connection)), sql.Identifier(name))
    async with connection.transaction():
        await connection.execute(sql.SQL("SET LOCAL lock_timeout = {}").format(sql.Literal(LOCK_TIMEOUT)))
        await connection.execute(
            sql.SQL("CREATE TABLE {} (LIKE events_log {}, PRIMARY KEY (id)) WITH (fillfactor = 70)").format(
                child, sql.SQL(_LIKE)
            )
        )
        await connection.execute(
            sql.SQL("ALTER TABLE events_log ATTACH PARTITION {} FOR VALUES FROM ({}) TO ({})").format(
                child, sql.Literal(begin.isoformat()), sql.Literal(end.isoformat())
            )
        )


async def drop_empty(connection: AsyncConnection, *, now: datetime) -> list[str]:
    """Drop partitions of days that have been over for a day and whose rows have all been deleted; their names.

    Looked at and dropped under one lock: a late row comes before it and keeps its partition, or goes to the default.
    """
    dropped = []
    for day in await days(connection):
        child = sql.SQL(day.name)
        if day.upper > now - timedelta(days=1) or await _has_rows(connection, child):
            continue
        async with connection.transaction():
            await connection.execute(sql.SQL("SET LOCAL lock_timeout = {}").format(sql.Literal(LOCK_TIMEOUT)))
            await connection.execute(sql.SQL("LOCK TABLE events_log, {} IN ACCESS EXCLUSIVE MODE").format(child))
            if not await _has_rows(connection, child):
                await connection.execute(sql.SQL("DROP TABLE {}").format(child))
                dropped.append(day.name)
    return dropped


async def upkeep(connection: AsyncConnection, *, days_ahead: int, now: datetime) -> None:
    """Partitions for the days to come, none for days that are gone; nothing where events_log isn't partitioned."""
    with translated("DATABASE_URL"):
        if await is_partitioned(connection):
            made = await make_ahead(connection, days_ahead=days_ahead)
            dropped = await drop_empty(connection, now=now)
            if made or dropped:
                log.info("database.partitions.kept_up", made=made, dropped=dropped)


async def _has_rows(connection: AsyncConnection, child: sql.SQL) -> bool:
    row = await (await connection.execute(sql.SQL("SELECT EXISTS (SELECT FROM {})").format(child))).fetchone()
    return row is not None and bool(row[0])


async def _require_no_obstacles(connection: AsyncConnection) -> None:
    cursor = await connection.execute(_OBSTACLES, {"table": "events_log"})
    found = [row[0] for row in await cursor.fetchall()]
    if found:
        raise ConfigError(f"events_log can't be partitioned: {', '.join(found)}", hint="remove what hangs on the table")


async def _prove(connection: AsyncConnection) -> datetime:
    """Prove, without keeping anybody out, that all rows lie before a bound in the near future; the bound."""
    await connection.execute(f"ALTER TABLE events_log DROP CONSTRAINT IF EXISTS {_PROOF}")
    cursor = await connection.execute("SELECT greatest(clock_timestamp(), max(created_at)) FROM events_log")
    row = await cursor.fetchone()
    assert row is not None
    bound = _day(row[0] + timedelta(hours=6)) + timedelta(days=1)  # never midnight in a moment
    await connection.execute(
        sql.SQL(
            "ALTER TABLE events_log ADD CONSTRAINT {} CHECK (created_at IS NOT NULL AND created_at < {}) NOT VALID"
        ).format(sql.Identifier(_PROOF), sql.Literal(bound.isoformat()))
    )
    await connection.execute(f"ALTER TABLE events_log VALIDATE CONSTRAINT {_PROOF}")
    return bound


async def _swap(connection: AsyncConnection, bound: datetime) -> None:
    """The old table becomes a partition of a new one under its name: one transaction, no row is read."""
    async with connection.transaction():
        await connection.execute(sql.SQL("SET LOCAL lock_timeout = {}").format(sql.Literal(LOCK_TIMEOUT)))
        await connection.execute("LOCK TABLE events_log IN ACCESS EXCLUSIVE MODE")
        cursor = await connection.execute(
            "SELECT c.oid, pg_get_userbyid(c.relowner), a.attidentity <> '', pg_get_serial_sequence('events_log', 'id')"
            " FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attname = 'id'"
            " WHERE c.oid = 'events_log'::regclass"
        )
        row = await cursor.fetchone()
        assert row is not None
        oid, owner, is_identity, sequence = row
        schema = sql.Identifier(await _schema(connection))
        old = sql.SQL("{}.{}").format(schema, sql.Identifier(f"events_log_before_{bound:%Y%m%d}"))
        root = sql.SQL("{}.events_log").format(schema)
        old_name = sql.Identifier(f"events_log_before_{bound:%Y%m%d}")
        await connection.execute(sql.SQL("ALTER TABLE events_log RENAME TO {}").format(old_name))
        await connection.execute(
            sql.SQL("CREATE TABLE {} (LIKE {} {}) PARTITION BY RANGE (created_at)").format(root, old, sql.SQL(_LIKE))
        )
        await connection.execute(sql.SQL("ALTER TABLE {} DROP CONSTRAINT {}").format(root, sql.Identifier(_PROOF)))
        if is_identity:
            await _move_identity(connection, root, old, sequence)
        elif sequence is not None:
            await connection.execute(sql.SQL("ALTER SEQUENCE {} OWNED BY {}.id").format(sql.SQL(sequence), root))
        await connection.execute(
            sql.SQL("ALTER TABLE {} ATTACH PARTITION {} FOR VALUES FROM (MINVALUE) TO ({})").format(
                root, old, sql.Literal(bound.isoformat())
            )
        )
        # For rows with a created_at that no partition was made for: they must not be refused.
        default = sql.SQL("{}.events_log_default").format(schema)
        await connection.execute(
            sql.SQL("CREATE TABLE {} PARTITION OF {} (PRIMARY KEY (id)) DEFAULT").format(default, root)
        )
        await connection.execute(sql.SQL("ALTER TABLE {} OWNER TO {}").format(root, sql.Identifier(owner)))
        await _copy_grants(connection, oid, root)
        cursor = await connection.execute(
            "SELECT pubname FROM pg_publication_rel r JOIN pg_publication p ON p.oid = r.prpubid WHERE r.prrelid = %s",
            (oid,),
        )
        for (name,) in await cursor.fetchall():
            publication = sql.Identifier(name)
            await connection.execute(sql.SQL("ALTER PUBLICATION {} ADD TABLE {}").format(publication, root))
            await connection.execute(sql.SQL("ALTER PUBLICATION {} DROP TABLE {}").format(publication, old))
            await connection.execute(
                sql.SQL("ALTER PUBLICATION {} SET (publish_via_partition_root = true)").format(publication)
            )


async def _move_identity(connection: AsyncConnection, root: sql.Composed, old: sql.Composed, sequence: str) -> None:
    """The root gives the ids, from where the old table's sequence stood; a partition may have none of its own."""
    cursor = await connection.execute(sql.SQL("SELECT last_value, is_called FROM {}").format(sql.SQL(sequence)))
    row = await cursor.fetchone()
    assert row is not None
    await connection.execute(sql.SQL("ALTER TABLE {} ALTER COLUMN id DROP IDENTITY").format(old))
    await connection.execute(
        sql.SQL("ALTER TABLE {} ALTER COLUMN id ADD GENERATED BY DEFAULT AS IDENTITY").format(root)
    )
    await connection.execute("SELECT setval(pg_get_serial_sequence(%s, 'id'), %s, %s)", (root.as_string(), *row))


async def _copy_grants(connection: AsyncConnection, oid: int, root: sql.Composed) -> None:
    cursor = await connection.execute(
        "SELECT a.privilege_type, CASE a.grantee WHEN 0 THEN NULL ELSE pg_get_userbyid(a.grantee) END, a.is_grantable"
        " FROM pg_class c CROSS JOIN aclexplode(c.relacl) a WHERE c.oid = %s AND a.grantee <> c.relowner",
        (oid,),
    )
    for privilege, grantee, grantable in await cursor.fetchall():
        await connection.execute(
            sql.SQL("GRANT {} ON {} TO {}{}").format(
                sql.SQL(privilege),
                root,
                sql.SQL("PUBLIC") if grantee is None else sql.Identifier(grantee),
                sql.SQL(" WITH GRANT OPTION" if grantable else ""),
            )
        )


async def _schema(connection: AsyncConnection) -> str:
    cursor = await connection.execute(
        "SELECT nspname FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace"
        " WHERE c.oid = 'events_log'::regclass"
    )
    row = await cursor.fetchone()
    assert row is not None
    return str(row[0])


def _time(text: str) -> datetime:
    time = datetime.fromisoformat(text)
    return time if time.tzinfo else time.replace(tzinfo=UTC)


def _day(time: datetime) -> datetime:
    return time.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
