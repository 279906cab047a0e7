"""`python -m database audit verify`: is the audit log the chain that was written; exit status 1 names the break."""

from __future__ import annotations

import argparse

import psycopg

from database import preflight
from database.ledger import CONNECTION_OPTIONS, audit
from database.settings import AuditSettings
from pipeline.errors import TransientError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `audit`."""
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    verify = actions.add_parser("verify", help="follow the chain of hashes; status 1 and the entry where it breaks")
    verify.add_argument(
        "--anchor",
        type=_anchor,
        metavar="NUMBER:HASH",
        help="an end that an earlier verify printed: still in the chain?",
    )


def _anchor(text: str) -> audit.Head:
    try:
        return audit.Head.parse(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


async def run(options: argparse.Namespace) -> int:
    """Verify and print one line. Raises ConfigError or TransientError when the ledger can't be read."""
    dsn = AuditSettings.load().ledger_dsn
    await preflight.require(None, dsn)
    try:
        async with await psycopg.AsyncConnection.connect(dsn, autocommit=True, **CONNECTION_OPTIONS) as connection:
            verdict = await audit.verify(connection, options.anchor)
    except psycopg.OperationalError as error:
        raise TransientError("the ledger does not answer") from error
    if verdict.broken is not None:
        print(f"broken at {verdict.broken}; whole up to {verdict.head}")  # noqa: T201 - a command's answer
        return 1
    print(f"{verdict.head.entries} entries, all in order; the end is {verdict.head}")  # noqa: T201 - a command's answer
    return 0
