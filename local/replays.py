"""Replays that somebody asks for in the admin, carried out as the CronJob of `k8s/base/replay.yaml` does."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Mapping
from pathlib import Path

import psycopg

from local.process import Command, Process

_EVERY_SECONDS = 5.0
_ROOT = Path(__file__).resolve().parent.parent


async def keep_replaying(environment: Mapping[str, str], log: Path) -> None:
    """Run what is asked for until cancelled; what a replay prints is in `log`."""
    command = Command(
        argv=(sys.executable, "-m", "processor", "replay", "--requested"),
        log=log,
        folder=log.parent,
        environment={**environment, "PYTHONPATH": str(_ROOT)},
    )
    while True:
        if await _is_asked(environment["DATABASE_URL"]):
            process = await Process.start(command)
            try:
                await process.wait()
            except asyncio.CancelledError:
                await process.stop()
                raise
        await asyncio.sleep(_EVERY_SECONDS)


async def _is_asked(dsn: str) -> bool:
    async with await psycopg.AsyncConnection.connect(dsn, autocommit=True) as connection:
        cursor = await connection.execute("SELECT 1 FROM pipeline.replays WHERE state = 'requested' LIMIT 1")
        return cursor.rowcount == 1
