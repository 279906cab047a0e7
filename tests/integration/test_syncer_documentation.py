"""docs/delivery.md: every snippet is run on what was delivered, and the check finds whatever isn't as it should be."""

from __future__ import annotations

import asyncio
import gzip
import json
import re
import subprocess
import sys
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import duckdb
import pytest
import sqlglot
from sqlglot import exp

from local.stack import Stack
from pipeline.clients import PrivacyLevel
from pipeline.syncqueue import ClientSync
from tests.integration.syncer_scene import HOUR, ROOT, Delivered, Scene, open_scene

TEXT = (ROOT / "docs/delivery.md").read_text()


def snippet(kind: str) -> str:
    """The one fenced block of that kind."""
    (found,) = re.findall(rf"^```{kind}\n(.*?)^```", TEXT, re.MULTILINE | re.DOTALL)
    return str(found)


@pytest.fixture(scope="module")
async def scene(stack: Stack) -> AsyncIterator[Scene]:
    async with open_scene(stack) as scene:
        yield scene


@pytest.fixture(scope="module")
async def delivered(scene: Scene) -> Delivered:
    """Three deliveries without prefix: two hours, then an hour replaced, then nothing."""
    client = await scene.change(await scene.add_client(), client_s3_prefix="")
    await scene.add_objects(client, count=2)
    await scene.add_objects(client, hour=HOUR + timedelta(hours=1))
    async with scene.deliverer() as deliverer:
        for minute in range(3):
            await deliverer.deliver(ClientSync(client_id=client.client_id, run_key=f"20241123T06{minute:02d}-hourly"))
            if minute == 0:
                await scene.replay(await scene.change(client, privacy_level=PrivacyLevel.GDPR))
    return await scene.read(client)


@pytest.fixture
def copy(delivered: Delivered, tmp_path: Path) -> Path:
    for key, data in delivered.objects.items():
        path = tmp_path / "bucket" / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return tmp_path


async def run(program: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    return await asyncio.to_thread(
        subprocess.run, program, cwd=folder, capture_output=True, text=True, timeout=30, check=False
    )


async def test_every_way_to_read_finds_the_same_events(delivered: Delivered, copy: Path) -> None:
    count = len(delivered.lines)
    assert count == len(delivered.event_ids) == 9
    shell = await run(["bash", "-o", "pipefail", "-c", snippet("sh").replace("head -n 1", "cat")], copy)
    assert shell.returncode == 0, shell.stderr
    assert {json.loads(line)["event_id"] for line in shell.stdout.splitlines()} == set(delivered.event_ids)
    python = await run([sys.executable, "-c", snippet("python")], copy)
    assert (python.returncode, python.stdout) == (0, f"{count}\n"), python.stderr
    pandas = await run([sys.executable, "-c", snippet("python pandas")], copy)
    assert (pandas.returncode, pandas.stdout) == (0, f"{count} {count}\n"), pandas.stderr
    query = snippet("sql").replace("bucket/", f"{copy}/bucket/")
    rows = await asyncio.to_thread(lambda: duckdb.sql(query).fetchall())
    assert sum(row[3] for row in rows) == sum(row[4] for row in rows) == count
    assert len({row[:2] for row in rows}) == 2  # (dt, hr)


def test_athena_statement_is_of_its_dialect_and_names_what_is_delivered(delivered: Delivered) -> None:
    (statement,) = sqlglot.parse(snippet("athena"), dialect="athena")
    assert isinstance(statement, exp.Create)  # what is not understood would be a Command
    assert isinstance(statement.this, exp.Schema)
    named = {column.name for column in statement.this.expressions}
    assert named == set(json.loads((ROOT / "docs/event.schema.json").read_text())["properties"])
    properties = {
        item.this.name: item.args["value"].name
        for item in statement.find_all(exp.Property)
        if type(item) is exp.Property
    }
    (partitions,) = statement.find_all(exp.PartitionedByProperty)
    assert [column.name for column in partitions.this.expressions] == ["dt", "hr"]
    hour = {"${dt}": HOUR.strftime("%Y-%m-%d"), "${hr}": f"{HOUR.hour:0{properties['projection.hr.digits']}d}"}
    folder = properties["storage.location.template"].removeprefix("s3://BUCKET/PREFIX/")
    for name, value in hour.items():
        folder = folder.replace(name, value)
    assert [key for key in delivered.objects if key.startswith(folder)]


async def test_the_check_passes_on_a_true_copy_and_on_no_other(delivered: Delivered, copy: Path) -> None:
    async def check() -> subprocess.CompletedProcess[str]:
        return await run([sys.executable, "-c", snippet("python check")], copy)

    well = await check()
    assert well.returncode == 0, well.stderr
    assert well.stdout.startswith("2 files, 9 events, complete through")
    assert replace(delivered, lines=[]).chain()[1]["replaced"]
    for key, damage in (
        (next(key for key in delivered.objects if key.startswith("events/")), gzip.compress(b"{}\n")),
        ("manifests/20241123T0600-hourly.json", delivered.objects["manifests/20241123T0600-hourly.json"] + b" "),
    ):
        path = copy / "bucket" / key
        true = path.read_bytes()
        path.write_bytes(damage)
        assert (await check()).returncode == 1, key
        path.write_bytes(true)
    assert (await check()).returncode == 0
