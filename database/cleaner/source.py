"""What the cleaner does to events_log: one short transaction for each batch, on rows found by id alone."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Literal

import psycopg
from psycopg import AsyncConnection, sql

from database import source
from database.cleaner.columns import ARRAY, Column, Layout, is_unchanged, layout
from database.cleaner.history import Server
from database.cleaner.record import Exported, exported, identity, members_of
from database.translate import translated

_SESSION = {
    # Nobody waits for us, and we for nobody: a batch that can't have its locks is tried again later.
    "lock_timeout": "2s",
    "statement_timeout": "30s",
    "idle_in_transaction_session_timeout": "60s",
    # Text forms as the streamer's session has them.
    "timezone": "UTC",
    "datestyle": "ISO",
    "intervalstyle": "iso_8601",
    "bytea_output": "hex",
    "extra_float_digits": "1",
    # A batch is always a thousand look-ups by id, also while the statistics of the table lag behind.
    "enable_hashjoin": "off",
    "enable_mergejoin": "off",
    "enable_seqscan": "off",
}


# Bits of tgtype: 8 for DELETE, 16 for UPDATE. https://www.postgresql.org/docs/current/catalog-pg-trigger.html
_WATCHERS = """
    WITH tables AS (SELECT 'events_log'::regclass AS oid
                    UNION SELECT relid FROM pg_partition_tree('events_log'::regclass))
    SELECT EXISTS (SELECT FROM pg_trigger t JOIN tables ON tgrelid = tables.oid WHERE NOT tgisinternal
                   AND tgenabled <> 'D' AND tgtype & 24 <> 0 AND tgname <> 'events_log_touched')
        OR EXISTS (SELECT FROM pg_rewrite JOIN tables ON ev_class = tables.oid WHERE ev_type IN ('2', '4'))
        OR EXISTS (SELECT FROM pg_publication p JOIN pg_publication_tables t USING (pubname)
                   JOIN tables ON tables.oid = to_regclass(format('%I.%I', t.schemaname, t.tablename))
                   WHERE pubupdate OR pubdelete)
        OR EXISTS (SELECT FROM pg_replication_slots WHERE database = current_database()
                   AND slot_type = 'logical' AND plugin <> 'pgoutput')
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Deletion:
    """What became of the rows of a batch."""

    deleted: int
    gone: int
    """Not there any more, or their id belongs to another event by now."""
    changed: int
    """Still there with other content than was exported: left alone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """events_log as the catalogue has it."""

    columns: tuple[Column, ...]
    partition_key: str | None
    partition_type: str
    is_watched: bool
    """Somebody would see processed_at on a row that is deleted in the same transaction."""


class SourceRows:
    """events_log over one connection. Every call raises TransientError or PermanentError, none of psycopg's."""

    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection
        self._table: Table | None = None
        self._layouts: dict[frozenset[str], Layout] = {}

    @property
    def connection(self) -> AsyncConnection:
        """For questions that don't touch events_log."""
        return self._connection

    async def server(self) -> Server:
        """Which server this is, in which history."""
        with translated("DATABASE_URL"):
            cursor = await self._connection.execute(
                "SELECT (SELECT system_identifier::text FROM pg_control_system()), pg_is_in_recovery(),"
                " CASE WHEN pg_is_in_recovery() THEN NULL ELSE left(pg_walfile_name(pg_current_wal_lsn()), 8) END"
            )
            row = await cursor.fetchone()
        assert row is not None
        return Server(system_identifier=row[0], timeline=int(row[2] or "0", 16), in_recovery=row[1])

    async def look(self) -> Table:
        """Read the catalogue anew: columns come and go, and the table may have been partitioned."""
        with translated("DATABASE_URL"):
            cursor = await self._connection.execute(
                # A domain counts as its base type, and all arrays alike, as in the record: see streamer.types.
                "SELECT attname, CASE WHEN typoutput = 'pg_catalog.array_out'::regproc THEN %s"
                " ELSE (WITH RECURSIVE b AS (SELECT t.oid, t.typtype, t.typbasetype UNION ALL"
                " SELECT p.oid, p.typtype, p.typbasetype FROM b JOIN pg_type p ON p.oid = b.typbasetype)"
                " SELECT b.oid::bigint FROM b WHERE b.typtype <> 'd') END,"
                " CASE WHEN atthasmissing THEN (attmissingval::text::text[])[1] END"
                " FROM pg_attribute JOIN pg_type t ON t.oid = atttypid WHERE attrelid = 'events_log'::regclass"
                " AND attnum > 0 AND NOT attisdropped AND attgenerated = '' ORDER BY attnum",
                (ARRAY,),
            )
            columns = tuple(Column(name=row[0], type_oid=row[1], missing=row[2]) for row in await cursor.fetchall())
            cursor = await self._connection.execute(
                "SELECT attname, format_type(atttypid, atttypmod) FROM pg_partitioned_table JOIN pg_attribute"
                " ON attrelid = partrelid AND attnum = partattrs[0] WHERE partrelid = 'events_log'::regclass"
            )
            key = await cursor.fetchone()
            cursor = await self._connection.execute(_WATCHERS)
            watched = await cursor.fetchone()
        table = Table(
            columns=columns,
            partition_key=key[0] if key else None,
            partition_type=key[1] if key else "text",
            is_watched=watched is None or bool(watched[0]),
        )
        if table != self._table:
            self._table, self._layouts = table, {}
        return table

    async def stamp(self, lines: Sequence[bytes]) -> int:
        """Set raw_exported_at and export_status on exactly the rows of these records; returns how many have them now.

        Rows that carry both already are not written again.
        """
        rows = sorted(map(identity, lines))  # in the order of ids, so that none deadlock
        with translated("DATABASE_URL"):
            async with self._connection.transaction():
                cursor = await self._connection.execute(
                    "UPDATE events_log e SET raw_exported_at = coalesce(e.raw_exported_at, clock_timestamp()),"
                    " export_status = 'exported' FROM unnest(%b::bigint[], %s::uuid[]) AS g (id, event_id)"
                    " WHERE e.id = g.id AND e.event_id = g.event_id"
                    " AND (e.raw_exported_at IS NULL OR e.export_status <> 'exported')",
                    ([row[0] for row in rows], [row[1] for row in rows]),
                )
        return cursor.rowcount

    async def delete(self, lines: Sequence[bytes], *, mark: bool | Literal["auto"] = "auto") -> Deletion:
        """Delete exactly the rows that still are what these records say; with `mark` set processed_at on them first.

        One transaction for each set of columns in the records: nearly always one.
        """
        deleted = changed = 0
        assert self._table is not None, "look first"
        marks = self._table.is_watched if mark == "auto" else mark
        for found, rows in self._read(lines).items():
            with translated("DATABASE_URL"):
                async with self._connection.transaction():
                    if marks:
                        ours = await self._mark(found, rows)
                        # The rows are locked by now: nobody can change them between the two statements.
                        query, values = self._wanted([row for row in rows if row.id in ours])
                        query = sql.SQL("DELETE FROM events_log e USING {} RETURNING e.id").format(query)
                        if await self._ids(query, values) != ours:
                            raise psycopg.OperationalError("a trigger or a rule came between")
                    else:
                        query, values = self._wanted(rows)
                        ours = await self._ids(
                            sql.SQL("DELETE FROM events_log e USING {} AND {} RETURNING e.id").format(
                                query, self._condition(found)
                            ),
                            values,
                        )
                    deleted += len(ours)
                    if len(ours) < len(rows):
                        # By id alone: a changed row may have moved to another partition.
                        query, values = self._wanted([row for row in rows if row.id not in ours], by_key=False)
                        query = sql.SQL("SELECT e.id FROM events_log e, {}").format(query)
                        changed += len(await self._ids(query, values))
        return Deletion(deleted=deleted, gone=len(lines) - deleted - changed, changed=changed)

    async def _mark(self, found: Layout, rows: Sequence[Exported]) -> set[int]:
        query, values = self._wanted(rows)
        return await self._ids(
            sql.SQL("UPDATE events_log e SET processed_at = clock_timestamp() FROM {} AND {} RETURNING e.id").format(
                query, self._condition(found)
            ),
            values,
        )

    async def _ids(self, query: sql.Composed, values: dict[str, object]) -> set[int]:
        cursor = await self._connection.execute(query, values)
        return {row[0] for row in await cursor.fetchall()}

    async def would_delete(self, lines: Sequence[bytes]) -> Deletion:
        """What `delete` would do now. Writes nothing."""
        deleted = there = 0
        for found, rows in self._read(lines).items():
            wanted, values = self._wanted(rows, by_key=False)
            with translated("DATABASE_URL"):
                cursor = await self._connection.execute(
                    sql.SQL("SELECT FROM events_log e, {wanted}").format(wanted=wanted), values
                )
                there += cursor.rowcount
                cursor = await self._connection.execute(
                    sql.SQL("SELECT FROM events_log e, {wanted} AND {condition}").format(
                        wanted=wanted, condition=self._condition(found)
                    ),
                    values,
                )
                deleted += cursor.rowcount
        return Deletion(deleted=deleted, gone=len(lines) - there, changed=there - deleted)

    async def unchanged_in(self, lines: Sequence[bytes], partition: str) -> tuple[list[int], int]:
        """(ids of rows in `partition` that still are what these records say, rows that are there). Writes nothing."""
        same: list[int] = []
        there = 0
        for found, rows in self._read(lines).items():
            wanted, values = self._wanted(rows, by_key=False)
            query = sql.SQL("SELECT e.id, {condition} FROM {child} e, {wanted}").format(
                condition=self._condition(found), child=sql.SQL(partition), wanted=wanted
            )
            with translated("DATABASE_URL"):
                cursor = await self._connection.execute(query, values)
                for id_, is_same in await cursor.fetchall():
                    there += 1
                    if is_same:
                        same.append(id_)
        return same, there

    def _read(self, lines: Sequence[bytes]) -> dict[Layout, list[Exported]]:
        """Records as rows to look for, by the columns that they have; in the order of ids, so that none deadlock."""
        assert self._table is not None, "look first"
        rows: dict[Layout, list[Exported]] = defaultdict(list)
        for columns in members_of(lines):
            names = frozenset(columns)
            found = self._layouts.get(names)
            if found is None:
                found = self._layouts[names] = layout(self._table.columns, names)
            rows[found].append(
                exported(
                    columns,
                    [column.name for column in found.scalars],
                    [column.name for column in found.documents],
                    self._table.partition_key,
                )
            )
        for batch in rows.values():
            batch.sort(key=lambda row: row.id)
        return rows

    def _wanted(self, rows: Sequence[Exported], *, by_key: bool = True) -> tuple[sql.Composed, dict[str, object]]:
        """The rows as a relation `g`, and the condition that joins them to events_log as `e`."""
        assert self._table is not None
        values: dict[str, object] = {
            "ids": [row.id for row in rows],
            "event_ids": [row.event_id for row in rows],
            "digests": [row.digest for row in rows],
        }
        text = "unnest(%(ids)b::bigint[], %(event_ids)s::uuid[], %(digests)b::bytea[]{}) AS g (id, event_id, digest{})"
        text += " WHERE e.id = g.id AND e.event_id = g.event_id{}"
        more = [sql.SQL(""), sql.SQL(""), sql.SQL("")]
        key = self._table.partition_key if by_key else None
        if key is not None and all(row.partition_value is not None for row in rows):
            # Else each look-up would visit every partition.
            values["keys"] = [row.partition_value for row in rows]
            name = sql.Identifier(key)
            more = [
                sql.SQL(", %(keys)s::text[]::{}[]").format(sql.SQL(self._table.partition_type)),  # type: ignore[list-item]
                sql.SQL(", {}").format(name),  # type: ignore[list-item]
                sql.SQL(" AND e.{0} = g.{0}").format(name),  # type: ignore[list-item]
            ]
        return sql.SQL(text).format(*more), values

    def _condition(self, found: Layout) -> sql.SQL:
        """With per cents doubled: names and defaults of columns may hold some."""
        text = is_unchanged(found, "e", sql.SQL("g.digest")).as_string(self._connection)
        return sql.SQL(text.replace("%", "%%"))  # made of identifiers and literals


@asynccontextmanager
async def open_source(dsn: str) -> AsyncIterator[SourceRows]:
    """events_log of the database at `dsn`. Raises TransientError when it can't be reached."""
    async with source.connect(dsn) as connection:
        with translated("DATABASE_URL"):
            for name, value in _SESSION.items():
                await connection.execute("SELECT set_config(%s, %s, false)", (name, value))
        yield SourceRows(connection)
