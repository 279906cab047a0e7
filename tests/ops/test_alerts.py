"""Alerts and dashboard: each alert fires when it should, has a runbook, and every metric they name is there."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client import REGISTRY

from pipeline import metrics
from tests.ops import prometheus

ROOT = Path(__file__).parents[2]
MONITORING = ROOT / "k8s" / "components" / "monitoring"
GROUPS: list[dict[str, Any]] = yaml.safe_load((MONITORING / "rules.yaml").read_text())["spec"]["groups"]
RULES = {rule["alert"]: rule for group in GROUPS for rule in group["rules"]}
CASES: dict[str, Any] = yaml.safe_load((Path(__file__).parent / "rules_test.yaml").read_text())
DASHBOARD = json.loads((MONITORING / "dashboard.json").read_text())
QUERIES = [target["expr"] for panel in DASHBOARD["panels"] for target in panel.get("targets", ())]
OUR_NAME = re.compile(r"\b((?:streamer|processor|syncer|cleaner|ledger|client|admin)_[a-z_]+)(?=[\s{\[)]|$)")


def promtool(folder: Path, groups: Any) -> subprocess.CompletedProcess[str]:
    (folder / "rules.yaml").write_text(yaml.safe_dump({"groups": groups}))
    (folder / "cases.yaml").write_text(yaml.safe_dump({**CASES, "rule_files": ["rules.yaml"]}))
    program = prometheus.require("promtool")
    return subprocess.run(
        [program, "test", "rules", "cases.yaml"], cwd=folder, capture_output=True, text=True, check=False
    )


def names_in(expression: str) -> set[str]:
    """Our metrics in a query."""
    return set(OUR_NAME.findall(re.sub(r"\b(?:by|on|without|ignoring)\s*\([^)]*\)|\{[^}]*\}", " ", expression)))


def test_each_alert_fires_in_its_case_and_none_on_a_healthy_pipeline(tmp_path: Path) -> None:
    result = promtool(tmp_path, GROUPS)
    assert result.returncode == 0, result.stdout + result.stderr


@pytest.mark.parametrize("expression", ["vector(1)", "vector(1) > 2"])
def test_a_rule_that_no_longer_fires_or_always_fires_would_be_seen(tmp_path: Path, expression: str) -> None:
    broken = [
        {
            **group,
            "rules": [{**rule, "expr": expression} if rule["alert"] == "SlotLag" else rule for rule in group["rules"]],
        }
        for group in GROUPS
    ]
    assert promtool(tmp_path, broken).returncode != 0


def test_no_alert_is_without_a_case_in_which_it_fires() -> None:
    firing = {
        case["alertname"] for test in CASES["tests"] for case in test.get("alert_rule_test", ()) if case["exp_alerts"]
    }
    assert firing == set(RULES)


@pytest.mark.parametrize("alert", sorted(RULES))
def test_each_alert_has_a_runbook_that_says_what_it_means_what_to_check_and_how_to_mend_it(alert: str) -> None:
    text = (ROOT / "docs" / "operations.md").read_text()
    section = re.search(rf"^### {alert}\n(.*?)(?=^#|\Z)", text, re.MULTILINE | re.DOTALL)
    assert section, f"docs/operations.md has no section {alert}"
    for word in ("**Means.**", "**Check.**", "**Mend.**"):
        assert word in section[1]


def test_no_runbook_is_left_of_an_alert_that_is_gone() -> None:
    text = (ROOT / "docs" / "operations.md").read_text()
    runbooks = text.split("\n## Runbooks\n")[1].split("\n## ")[0]
    assert re.findall(r"^### (\w+)$", runbooks, re.MULTILINE) == list(RULES)


def test_every_metric_of_rules_and_dashboard_exists() -> None:
    assert metrics.SLOT_LAG_BYTES  # its import fills the registry
    exported = {name for family in REGISTRY.collect() for name in (family.name, *(s.name for s in family.samples))}
    exported |= {f"{family.name}_total" for family in REGISTRY.collect() if family.type == "counter"}
    exported |= {f"{family.name}_bucket" for family in REGISTRY.collect() if family.type == "histogram"}
    used = {name for query in [*QUERIES, *(rule["expr"] for rule in RULES.values())] for name in names_in(query)}
    assert len(used) > 30
    assert used <= exported


def test_names_in_a_query_are_found() -> None:
    query = 'sum by (client_id) (rate(syncer_runs_total{outcome="x"}[5m])) > on (instance) max(streamer_slot_held)'
    assert names_in(query) == {"syncer_runs_total", "streamer_slot_held"}
