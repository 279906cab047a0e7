"""The columns of events_log, and the SQL by which the server digests a row as `database.cleaner.record` does a line."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from psycopg import sql

BOOKKEEPING = frozenset({"export_status", "raw_exported_at", "processed_at"})
"""Columns that the pipeline writes itself; they are no part of the record."""

# https://www.postgresql.org/docs/current/catalog-pg-type.html; numbers below 10000 are fixed for ever.
_JSON, _JSONB = 114, 3802

ARRAY = -1
"""Stands for every type of array."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """A column as the catalogue has it."""

    name: str
    type_oid: int
    missing: str | None
    """What rows older than the column show in it (ADD COLUMN ... DEFAULT); None: nothing but NULL."""

    @property
    def is_document(self) -> bool:
        """Of a JSON type."""
        return self.type_oid in (_JSON, _JSONB)


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """Which columns of the table a record speaks of, and which were added after it was written."""

    scalars: tuple[Column, ...]
    documents: tuple[Column, ...]
    added: tuple[Column, ...]


def layout(columns: Sequence[Column], names: Collection[str]) -> Layout:
    """The layout of records with members `names`. Members that are no columns any more are ignored.

    Arrays are not compared: in a record they are JSON, which the server would print otherwise.
    """
    ours = [column for column in columns if column.name not in BOOKKEEPING]
    return Layout(
        scalars=tuple(
            column for column in ours if column.name in names and not column.is_document and column.type_oid != ARRAY
        ),
        documents=tuple(column for column in ours if column.name in names and column.is_document),
        added=tuple(column for column in ours if column.name not in names),
    )


def is_unchanged(layout: Layout, row: str, digest: sql.Composable) -> sql.Composed:
    """A condition on the row with alias `row`: it is what was exported, and later columns hold nothing of their own.

    Needs a session with timezone UTC and datestyle ISO.
    """
    alias = sql.Identifier(row)
    parts = [_counted(_printed(alias, column)) for column in layout.scalars]
    scalars = sql.SQL(" || ").join(parts) if parts else sql.SQL("''")
    whole: sql.Composable = sql.SQL("convert_to({}, 'UTF8')").format(scalars)
    for column in layout.documents:
        whole = sql.SQL("{} || sha256(convert_to({}, 'UTF8'))").format(whole, _document(alias, column))
    conditions = [sql.SQL("sha256({}) = {}").format(whole, digest)]
    for column in layout.added:
        name = sql.SQL("{}.{}").format(alias, sql.Identifier(column.name))
        if column.missing is None:
            conditions.append(sql.SQL("{} IS NULL").format(name))
        else:
            conditions.append(
                sql.SQL("({} IS NULL OR concat({}) = {})").format(name, name, sql.Literal(column.missing))
            )
    return sql.SQL(" AND ").join(conditions)


def _counted(text: sql.Composable) -> sql.Composed:
    return sql.SQL("coalesce(length({}) || ':' || {}, '-')").format(text, text)


def _printed(alias: sql.Identifier, column: Column) -> sql.Composed:
    """The text that stands in a record for a scalar; NULL for NULL."""
    name = sql.SQL("{}.{}").format(alias, sql.Identifier(column.name))
    match column.type_oid:
        case 16:  # boolean
            return sql.SQL("{}::text").format(name)
        case 869:  # inet
            return sql.SQL("host({})").format(name)
        case 1114:  # timestamp: the same without a zone
            return sql.SQL(
                "CASE WHEN {0} >= '0001-01-01' AND {0} < '10000-01-01'"
                " THEN to_char({0}, 'YYYY-MM-DD\"T\"HH24:MI:SS.US') ELSE {0}::text END"
            ).format(name)
        case 1184:  # timestamptz: RFC 3339 where that can say it, else PostgreSQL's own text
            return sql.SQL(
                "CASE WHEN {0} >= '0001-01-01Z' AND {0} < '10000-01-01Z'"
                ' THEN to_char({0}, \'YYYY-MM-DD"T"HH24:MI:SS.US"Z"\') ELSE {0}::text END'
            ).format(name)
        case _:  # concat prints by the type's output function, as the replication stream does; a cast would not always
            return sql.SQL("CASE WHEN {0} IS NULL THEN NULL ELSE concat({0}) END").format(name)


def _document(alias: sql.Identifier, column: Column) -> sql.Composed:
    name = sql.SQL("{}.{}").format(alias, sql.Identifier(column.name))
    text = sql.SQL("coalesce({}::text, 'null')").format(name)
    if column.type_oid == _JSONB:
        return text
    return sql.SQL(r"translate({}, E'\n\r', '  ')").format(text)
