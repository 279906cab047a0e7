"""`python -m local traffic` as a command: clients from the store that the environment names."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

from local.samples import SAMPLES
from local.stack import Stack
from local.traffic_record import read_record


async def test_command_writes_for_the_active_clients_of_the_store(stack: Stack, tmp_path: Path) -> None:
    record = tmp_path / "record"
    arguments = ("traffic", "--rate", "300", "--seconds", "3", "--record", str(record))
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "local", *arguments),
        env={**os.environ, **stack.environment},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await process.communicate()
    assert process.returncode == 0, err.decode()
    entries = list(read_record(record))
    assert out.decode().strip().endswith(f"{len(entries)} rows committed")
    owners = {entry.owner for entry in entries} - {None}
    assert {sample.client_id for sample in SAMPLES if sample.active} <= owners
    assert not owners & {sample.client_id for sample in SAMPLES if not sample.active}
