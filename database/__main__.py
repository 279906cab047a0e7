"""`python -m database migrate | preflight`: the operator's commands on the source database and the ledger."""

from __future__ import annotations

import argparse
import asyncio
import sys

from database import preflight
from database.migrate import migrate
from database.settings import MigrateSettings, PreflightSettings
from pipeline import logs
from pipeline.errors import PipelineError


async def _migrate() -> int:
    settings = MigrateSettings.load()
    logs.configure("database", settings.log_level)
    await preflight.require_reachable(settings.source_dsn, settings.ledger_dsn)
    ran = await migrate(settings.source_dsn, settings.ledger_dsn, publication=settings.publication)
    print("\n".join(f"ran {name}" for name in ran) or "nothing to do")  # noqa: T201 - a command's answer
    return 0


async def _preflight() -> int:
    settings = PreflightSettings.load()
    findings = await preflight.check_ledger(settings.ledger_dsn)
    findings += await preflight.check_source(settings.source_dsn, settings.publication, replication=True)
    findings += await preflight.check_kafka(settings)
    for finding in dict.fromkeys(findings):
        print(f"{finding.severity}: {finding}")  # noqa: T201 - a command's answer
    failed = any(finding.severity == "error" for finding in findings)
    print("not ready" if failed else "ready")  # noqa: T201 - a command's answer
    return 2 if failed else 0


COMMANDS = {"migrate": _migrate, "preflight": _preflight}


def main() -> int:
    """Run one command; returns the exit status: 2 and one line when something is set up wrongly."""
    parser = argparse.ArgumentParser(prog="python -m database", description=__doc__)
    parser.add_argument("command", choices=COMMANDS)
    command = parser.parse_args().command
    try:
        return asyncio.run(COMMANDS[command]())
    except PipelineError as error:
        print(f"database {command}: {error}", file=sys.stderr)  # noqa: T201 - for a person
        return 2


if __name__ == "__main__":
    sys.exit(main())
