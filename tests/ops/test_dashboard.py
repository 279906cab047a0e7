"""Dashboard and alerts on a real Prometheus that scrapes a running pipeline: each panel has figures, no alert fires."""

from __future__ import annotations

import asyncio
import json
import math
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from local import ports
from local.process import Command, Process
from local.stack import Stack
from tests.ops import prometheus
from tests.ops.pipeline_scene import Pipeline, eventually, open_pipeline
from tests.ops.test_alerts import DASHBOARD, GROUPS, RULES
from tests.ops.variables import SERVICES

TARGETS = [
    (panel["title"], target["expr"].replace("$__rate_interval", "15s"))
    for panel in DASHBOARD["panels"]
    for target in panel.get("targets", ())
]


async def start_prometheus(pipeline: Pipeline, folder: Path) -> tuple[Process, str]:
    """Scrapes each running service once a second; its address."""
    program = prometheus.require("prometheus")
    port = ports.choose(("prometheus",), {})["prometheus"]
    config = {
        "global": {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"},
        "rule_files": [str(folder / "rules.yml")],
        "scrape_configs": [
            {
                "job_name": "event-pipeline",
                "static_configs": [
                    {"targets": [f"127.0.0.1:{one.service.port}"], "labels": {"service": one.service.name}}
                    for one in pipeline.running.values()
                ],
            }
        ],
    }
    (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
    (folder / "rules.yml").write_text(yaml.safe_dump({"groups": GROUPS}))
    command = Command(
        argv=(
            str(program),
            f"--config.file={folder}/prometheus.yml",
            f"--storage.tsdb.path={folder}/tsdb",
            f"--web.listen-address=127.0.0.1:{port}",
        ),
        log=folder / "prometheus.log",
        folder=folder,
    )
    return await Process.start(command), f"http://127.0.0.1:{port}"


async def has_data(http: httpx.AsyncClient, query: str) -> bool:
    """Whether a query gives at least one figure."""
    try:
        response = await http.get("/api/v1/query", params={"query": query})
    except httpx.TransportError:
        return False
    if response.status_code == 503:  # it is starting
        return False
    answer: dict[str, Any] = response.json()
    assert answer["status"] == "success", answer
    return any(math.isfinite(float(series["value"][1])) for series in answer["data"]["result"])


async def check_alerts(http: httpx.AsyncClient) -> None:
    """Every rule can be evaluated on real figures, and a running pipeline raises none."""
    groups = (await http.get("/api/v1/rules", params={"type": "alert"})).json()["data"]["groups"]
    rules = {rule["name"]: rule for group in groups for rule in group["rules"]}
    assert rules.keys() == RULES.keys()
    assert {name: rule["lastError"] for name, rule in rules.items() if rule["health"] == "err"} == {}
    assert [name for name, rule in rules.items() if rule["state"] == "firing"] == []


@pytest.mark.timeout(240)
async def test_every_panel_of_the_dashboard_shows_figures_of_a_running_pipeline(stack: Stack, tmp_path: Path) -> None:
    prometheus.require("prometheus")
    async with open_pipeline(stack, tmp_path) as pipeline:
        stop = asyncio.Event()
        traffic = asyncio.create_task(pipeline.traffic(150, 120, stop))
        async with asyncio.TaskGroup() as group:
            for kind in SERVICES.keys() - {"cleaner"}:
                group.create_task(pipeline.start(kind))

        async def has_processed() -> bool:
            return (await pipeline.look()).out > 0

        await eventually(has_processed, "something is processed")
        await pipeline.start("cleaner")  # last: it draws its balance at once, and then only each minute
        process, url = await start_prometheus(pipeline, tmp_path)
        missing = list(TARGETS)
        try:
            async with httpx.AsyncClient(base_url=url, timeout=10) as http:

                async def all_have_data() -> bool:
                    if (await pipeline.look()).out and not (await pipeline.look()).open_runs:
                        await pipeline.order_deliveries()
                    missing[:] = [(title, query) for title, query in missing if not await has_data(http, query)]
                    return not missing

                try:
                    await eventually(all_have_data, "every panel", 120)
                except AssertionError:
                    raise AssertionError(f"no figures: {json.dumps(missing, indent=1)}") from None
                await check_alerts(http)
        finally:
            stop.set()
            await traffic
            await process.stop()
