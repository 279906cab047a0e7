"""`python -m database COMMAND`: the operator's commands on the source database and the ledger, and the cleaner."""

from __future__ import annotations

import argparse
import asyncio
import json
import sys

from database import audit, layout, preflight, reconcile, source
from database.migrate import migrate
from database.partition import partition
from database.rebuild import pipeline as rebuild
from database.retention import pipeline as retention
from database.settings import MigrateSettings, PreflightSettings
from pipeline import logs, service
from pipeline.errors import PipelineError


def _migrate(_: argparse.Namespace) -> int:
    return asyncio.run(_migrate_all())


async def _migrate_all() -> int:
    settings = MigrateSettings.load()
    logs.configure("database", settings.log_level)
    await preflight.require_reachable(settings.source_dsn, settings.ledger_dsn)
    ran = await migrate(settings.source_dsn, settings.ledger_dsn, publication=settings.publication)
    print("\n".join(f"ran {name}" for name in ran) or "nothing to do")  # noqa: T201 - a command's answer
    return 0


def _preflight(_: argparse.Namespace) -> int:
    return asyncio.run(_preflight_all())


async def _preflight_all() -> int:
    settings = PreflightSettings.load()
    findings = await preflight.check_ledger(settings.ledger_dsn)
    findings += await preflight.check_source(settings.source_dsn, settings.publication, replication=True)
    findings += await preflight.check_kafka(settings)
    for finding in dict.fromkeys(findings):
        print(f"{finding.severity}: {finding}")  # noqa: T201 - a command's answer
    failed = any(finding.severity == "error" for finding in findings)
    print("not ready" if failed else "ready")  # noqa: T201 - a command's answer
    return 2 if failed else 0


def _cleaner(options: argparse.Namespace) -> int:
    from database.cleaner import pipeline as cleaner
    from database.cleaner.settings import CleanerSettings

    if not (options.once or options.dry_run):
        return service.run("cleaner", CleanerSettings, cleaner.serve)
    settings = CleanerSettings.load()
    logs.configure("cleaner", settings.log_level)
    if options.dry_run:
        settings = settings.model_copy(update={"cleanup_dry_run": True})
    report = asyncio.run(cleaner.once(settings, asyncio.Event()))
    print(json.dumps(report.to_json(), indent=2))  # noqa: T201 - a command's answer
    return 1 if report.refused or report.blocked else 0


def _reconcile(options: argparse.Namespace) -> int:
    return asyncio.run(reconcile.run(options))


def _audit(options: argparse.Namespace) -> int:
    return asyncio.run(audit.run(options))


def _layout(options: argparse.Namespace) -> int:
    return asyncio.run(layout.run(options))


def _rebuild(options: argparse.Namespace) -> int:
    return asyncio.run(rebuild.run(options))


def _partition(options: argparse.Namespace) -> int:
    return asyncio.run(_partition_table(options.days_ahead))


async def _partition_table(days_ahead: int) -> int:
    settings = MigrateSettings.load()
    logs.configure("database", settings.log_level)
    async with source.connect(settings.source_dsn) as connection:
        changed = await partition(connection, days_ahead=days_ahead)
    print("events_log is partitioned by day" if changed else "it was partitioned already")  # noqa: T201 - an answer
    return 0


def _arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m database", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    commands.add_parser("migrate", help="bring schema and publication up to date").set_defaults(run=_migrate)
    commands.add_parser("preflight", help="what the servers lack, and how to mend it").set_defaults(run=_preflight)
    cleaner = commands.add_parser("cleaner", help="delete exported rows once their raw objects were read back")
    cleaner.add_argument("--once", action="store_true", help="one turn, then exit; status 1 when objects are refused")
    cleaner.add_argument("--dry-run", action="store_true", help="one turn that writes nothing: say what it would do")
    cleaner.set_defaults(run=_cleaner)
    balance = commands.add_parser("reconcile", help="does the ledger balance; status 1 and the names when not")
    reconcile.add_arguments(balance)
    balance.set_defaults(run=_reconcile)
    chain = commands.add_parser("audit", help="is the audit log the chain that was written")
    audit.add_arguments(chain)
    chain.set_defaults(run=_audit)
    spread = commands.add_parser("layout", help="how events are spread over partitions, from now on")
    layout.add_arguments(spread)
    spread.set_defaults(run=_layout)
    again = commands.add_parser("rebuild-ledger", help="restore a ledger that was lost or set back, from S3")
    rebuild.add_arguments(again)
    again.set_defaults(run=_rebuild)
    old = commands.add_parser("retention", help="delete what is too old and needed by nobody")
    retention.add_arguments(old)
    old.set_defaults(run=retention.main)
    days = commands.add_parser("partition", help="partition events_log by day without moving a row")
    days.add_argument(
        "--days-ahead",
        type=int,
        choices=range(1, 101),
        metavar="N",
        default=7,
        help="partitions made ahead (default 7)",
    )
    days.set_defaults(run=_partition)
    return parser


def main() -> int:
    """Run one command; returns the exit status: 2 and one line when something is set up wrongly."""
    options = _arguments().parse_args()
    try:
        return options.run(options)  # type: ignore[no-any-return]
    except PipelineError as error:
        print(f"database {options.command}: {error}", file=sys.stderr)  # noqa: T201 - for a person
        return 2


if __name__ == "__main__":
    sys.exit(main())
