"""docker-compose.yml: its schema, its references, and the environment, which is that of the embedded stack.

There is no Docker engine on the machine that runs these tests: containers are not started here. What is run is what
the containers run, on the embedded servers.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import sys
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import jsonschema
import pytest
import yaml

from local.stack import Stack
from tests.ops.variables import COMMANDS, LIBRARIES, all_variables, load

ROOT = Path(__file__).parents[2]
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
OURS = {name: service for name, service in SERVICES.items() if service["image"] == "event-pipeline:local"}
SCHEMA = json.loads((Path(__file__).parent / "schemas" / "compose.json").read_text())

DIFFERENT = {
    "DATABASE_URL", "KAFKA_BOOTSTRAP_SERVERS", "AWS_ENDPOINT_URL", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY",
    "SYNC_QUEUE_URL", "RAW_S3_ENDPOINT_URL", "RAW_S3_ACCESS_KEY", "RAW_S3_SECRET_KEY", "RAW_S3_KMS_KEY",
    "PROCESSED_S3_ENDPOINT_URL", "PROCESSED_S3_ACCESS_KEY", "PROCESSED_S3_SECRET_KEY", "PROCESSED_S3_KMS_KEY",
    "FIRESTORE_EMULATOR_HOST", "GOOGLE_CLOUD_PROJECT", "CREDENTIALS_KEYS", "ADMIN_API_KEY", "BIND_HOST",
}  # fmt: skip
"""Addresses, keys and secrets: same name, another value."""


def problems(document: Any) -> list[str]:
    return [error.json_path for error in jsonschema.Draft202012Validator(SCHEMA).iter_errors(document)]


def test_compose_file_follows_its_schema_and_an_unknown_field_would_be_seen() -> None:
    assert problems(COMPOSE) == []
    wrong = {**COMPOSE, "services": {**SERVICES, "admin": {**SERVICES["admin"], "read_onyl": True}}}
    assert problems(wrong) == ["$.services.admin"]


@pytest.mark.parametrize("name", sorted(SERVICES))
def test_whatever_a_container_refers_to_is_declared(name: str) -> None:
    service = SERVICES[name]
    for other, how in service.get("depends_on", {}).items():
        assert other in SERVICES
        assert how["condition"] != "service_healthy" or "healthcheck" in SERVICES[other]
        assert how["condition"] != "service_completed_successfully" or SERVICES[other].get("restart", "no") == "no"
    assert set(service["networks"]) <= set(COMPOSE["networks"])
    assert {volume.split(":")[0] for volume in service.get("volumes", ())} <= set(COMPOSE["volumes"])
    assert {config["source"] for config in service.get("configs", ())} <= set(COMPOSE["configs"])
    if "build" in service:
        assert f" AS {service['build']['target']}\n" in (ROOT / "Dockerfile").read_text()


def test_nothing_is_declared_in_vain() -> None:
    used = [volume.split(":")[0] for service in SERVICES.values() for volume in service.get("volumes", ())]
    assert sorted(set(used)) == sorted(COMPOSE["volumes"])


def test_only_the_admin_is_reachable_from_outside_and_only_from_this_machine() -> None:
    assert {name: service["ports"] for name, service in SERVICES.items() if "ports" in service} == {
        "admin": ["127.0.0.1:8080:8080"]
    }


@pytest.mark.parametrize("name", sorted(OURS))
def test_each_service_accepts_its_environment(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    service = OURS[name]
    load(COMMANDS[tuple(service["command"])], service["environment"], monkeypatch)
    assert set(service["environment"]) <= all_variables() | set(LIBRARIES)
    assert service["read_only"]
    assert service["cap_drop"] == ["ALL"]


def test_environment_is_that_of_the_embedded_stack(stack: Stack) -> None:
    ours, theirs = SERVICES["streamer"]["environment"], dict(stack.environment)
    if theirs["CLIENT_STORE"] == "postgres":  # a machine without the Firestore emulator
        theirs |= {name: ours[name] for name in ("CLIENT_STORE", "GOOGLE_CLOUD_PROJECT", "FIRESTORE_EMULATOR_HOST")}
    assert sorted(ours) == sorted(theirs)
    assert {k: v for k, v in ours.items() if k not in DIFFERENT} == {
        k: v for k, v in theirs.items() if k not in DIFFERENT
    }
    assert urlsplit(ours["SYNC_QUEUE_URL"]).path == urlsplit(theirs["SYNC_QUEUE_URL"]).path


@pytest.mark.timeout(120)
async def test_provision_fills_servers_that_run_elsewhere_and_may_be_repeated(stack: Stack, tmp_path: Path) -> None:
    # The session's samples keep their keys: the command knows them, as it does after its own first run.
    shutil.copy(stack.folder / "state.json", tmp_path / "state.json")
    root = {"AWS_ACCESS_KEY_ID": stack.aws.root.key_id, "AWS_SECRET_ACCESS_KEY": stack.aws.root.secret}
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "local", "provision", "--dir", str(tmp_path)),
        cwd=ROOT,
        env={**os.environ, **stack.environment, **root, "KAFKA_RAW_TOPIC": "compose.raw", "KAFKA_PARTITIONS": "3"},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    said, _ = await process.communicate()
    assert process.returncode == 0, said.decode()
    assert "topic compose.raw" in said.decode()
    assert (tmp_path / "clients.json").read_text() == (stack.folder / "clients.json").read_text()
