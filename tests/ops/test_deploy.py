"""Deployment against the AWS emulator; the cluster is a kubectl that renders, and else writes down what it is told."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from infra.deploy import ACCOUNTS, SERVICES, DeploySettings
from infra.overlay import write_overlay
from local.stack import Stack
from pipeline.errors import ConfigError
from tests.ops.test_kubernetes import faults

ROOT = Path(__file__).parents[2]
KUBECTL = """#!/bin/bash
if [ "$1" = kustomize ]; then exec {kubectl} "$@"; fi
echo "$*" >> {log}
if [ "$*" = "-n event-pipeline get secrets -o name" ]; then cat {secrets}; exit; fi
if [ "$1" = apply ]; then cat "${{3/#-//dev/stdin}}" >> {log}.applied; echo --- >> {log}.applied; fi
"""


class Cluster:
    """The stand-in."""

    def __init__(self, folder: Path) -> None:
        real = shutil.which("kubectl")
        if real is None:
            assert not os.environ.get("CI"), "CI has kubectl and must use it"
            pytest.skip("kubectl is not there")
        self.log, self.secrets = folder / "log", folder / "secrets"
        self.secrets.write_text("secret/database\nsecret/keys\nsecret/admin\nsecret/kafka\n")
        self.path = folder / "bin"
        self.path.mkdir()
        program = self.path / "kubectl"
        program.write_text(KUBECTL.format(kubectl=real, log=self.log, secrets=self.secrets))
        program.chmod(0o755)

    @property
    def told(self) -> list[str]:
        return self.log.read_text().splitlines() if self.log.exists() else []


def run(stack: Stack, cluster: Cluster, name: str, *arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
    """`python -m infra.deploy` with the emulator's root key."""
    return subprocess.run(
        [sys.executable, "-m", "infra.deploy", *arguments],
        cwd=ROOT,
        env={
            "PATH": f"{cluster.path}:{os.environ['PATH']}",
            "AWS_REGION": "us-east-1",
            "AWS_ENDPOINT_URL": stack.aws.endpoint_url,
            "AWS_ACCESS_KEY_ID": stack.aws.root.key_id,
            "AWS_SECRET_ACCESS_KEY": stack.aws.root.secret,
            "STACK_NAME": name,
            "OIDC_PROVIDER_ARN": "arn:aws:iam::111122223333:oidc-provider/oidc.eks.us-east-1.amazonaws.com/id/ABC",
            "IMAGE": "registry.example/event-pipeline:1.2.3",
            "KAFKA_BOOTSTRAP_SERVERS": "b-1.msk.example:9096",
            **more,
        },
        capture_output=True,
        text=True,
        check=False,
    )


def documents(path: Path) -> list[dict[str, Any]]:
    return [document for document in yaml.safe_load_all(path.read_text()) if document]


@pytest.mark.timeout(180)
async def test_deployment_feeds_the_stacks_outputs_into_the_overlay_migrates_first_and_may_be_repeated(
    stack: Stack, tmp_path: Path
) -> None:
    cluster, name = Cluster(tmp_path), f"deploy-{os.getpid()}"
    folder = ROOT / ".local" / "deploy" / name
    try:
        dry = run(stack, cluster, name, "--dry-run")
        assert dry.returncode == 0, dry.stderr
        assert f"stack {name}: would create it" in dry.stdout
        assert "AWS::S3::Bucket RawBucket" in dry.stdout
        assert "$ kubectl -n event-pipeline wait --for=condition=complete" in dry.stdout
        assert cluster.told == []
        async with stack.aws.client("cloudformation") as cloudformation:
            known = {s["StackName"] for s in (await cloudformation.describe_stacks())["Stacks"]}
            assert not known & {name, f"{name}-roles"}, "a dry run leaves nothing"

        cluster.secrets.write_text("secret/database\n")
        lacking = run(stack, cluster, name)
        assert lacking.returncode == 1
        assert "keys, admin, kafka" in lacking.stderr
        assert not any("job" in line or "rollout" in line for line in cluster.told), (
            "nothing is started without Secrets"
        )

        cluster.log.unlink()
        cluster.secrets.write_text("secret/database\nsecret/keys\nsecret/admin\nsecret/kafka\n")
        done = run(stack, cluster, name, COMPONENTS="keda,monitoring")
        assert done.returncode == 0, done.stderr
        assert f"stack {name}: nothing to do" in done.stdout, "what is there and right stays"
        steps = [line.removeprefix("-n event-pipeline ") for line in cluster.told]
        assert steps == [
            "apply -f -",
            "get secrets -o name",
            "delete job migrate --ignore-not-found --wait",
            "apply -f -",
            "wait --for=condition=complete --timeout=15m job/migrate",
            f"apply -f {folder}/manifest.yaml",
            *(f"rollout status deployment/{service} --timeout=15m" for service in SERVICES),
        ]
        async with stack.aws.client("cloudformation") as cloudformation:
            described = (await cloudformation.describe_stacks(StackName=name))["Stacks"][0]
            roles = (await cloudformation.describe_stacks(StackName=f"{name}-roles"))["Stacks"][0]
        check_manifest(
            documents(folder / "manifest.yaml"),
            {item["OutputKey"]: item["OutputValue"] for item in [*described["Outputs"], *roles["Outputs"]]},
        )
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        async with stack.aws.client("cloudformation") as cloudformation:
            for one in (f"{name}-roles", name):
                await cloudformation.delete_stack(StackName=one)


def check_manifest(manifest: list[dict[str, Any]], outputs: dict[str, str]) -> None:
    """It is valid, and nothing made up is left in it."""
    assert [fault for document in manifest for fault in faults(document)] == []
    (settings,) = [
        d["data"] for d in manifest if d["kind"] == "ConfigMap" and d["metadata"]["name"].startswith("settings")
    ]
    assert settings["RAW_S3_BUCKET"] == outputs["RawBucket"]
    assert settings["PROCESSED_S3_KMS_KEY"] == outputs["KeyArn"]
    assert settings["SYNC_QUEUE_URL"] == outputs["SyncQueueUrl"]
    assert settings["KAFKA_BOOTSTRAP_SERVERS"] == "b-1.msk.example:9096"
    assert settings["CLIENT_STORE"] == "postgres"
    accounts = {d["metadata"]["name"]: d["metadata"] for d in manifest if d["kind"] == "ServiceAccount"}
    for account in ACCOUNTS:
        arn = accounts[account]["annotations"]["eks.amazonaws.com/role-arn"]
        assert arn == outputs[f"{account.title()}RoleArn"]
    text = yaml.safe_dump_all(manifest)
    assert "registry.example/event-pipeline:1.2.3" in text
    assert "111122223333" not in text
    assert "example-" not in text
    assert "example.kafka" not in text
    assert {"ScaledObject", "PodMonitor", "PrometheusRule"} <= {d["kind"] for d in manifest}


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({"IMAGE": ""}, "IMAGE is missing"),
        ({"IMAGE": "event-pipeline"}, "IMAGE is wrong"),
        ({"OIDC_PROVIDER_ARN": "arn:aws:iam::1:role/x"}, "OIDC_PROVIDER_ARN is wrong"),
        ({"COMPONENTS": "kedda"}, "COMPONENTS is wrong"),
        ({"KAFKA_BOOTSTRAP_SERVERS": ""}, "KAFKA_BOOTSTRAP_SERVERS is missing"),
        ({"KAFKA_SASL_MECHANISM": "AWS_MSK_IAM"}, "KAFKA_CLUSTER_ARN is missing"),
        (
            {"KAFKA_SASL_MECHANISM": "AWS_MSK_IAM", "KAFKA_CLUSTER_ARN": "arn:aws:kafka:x", "COMPONENTS": "keda"},
            "COMPONENTS is wrong",
        ),
    ],
)
def test_a_wrong_variable_is_named_before_anything_is_done(
    changed: dict[str, str], named: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = {
        "AWS_REGION": "us-east-1",
        "OIDC_PROVIDER_ARN": "arn:aws:iam::111122223333:oidc-provider/oidc.example/id/A",
        "IMAGE": "registry.example/event-pipeline:1.2.3",
        "KAFKA_BOOTSTRAP_SERVERS": "b-1.msk.example:9096",
        **changed,
    }
    for name in DeploySettings.model_fields:
        monkeypatch.delenv(name.upper(), raising=False)
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ConfigError, match=named):
        DeploySettings.load().check()


def test_components_go_together_in_any_order_and_keda_asks_strimzis_brokers() -> None:
    kubectl = shutil.which("kubectl")
    if kubectl is None:
        assert not os.environ.get("CI"), "CI has kubectl and must use it"
        pytest.skip("kubectl is not there")
    folder = ROOT / ".local" / "deploy" / f"components-{os.getpid()}"
    try:
        write_overlay(folder, {"AWS_REGION": "x"}, {}, f"name@sha256:{'0' * 64}", ("strimzi", "monitoring", "keda"))
        text = subprocess.run([kubectl, "kustomize", folder], capture_output=True, text=True, check=True).stdout
    finally:
        shutil.rmtree(folder)
    manifest = [document for document in yaml.safe_load_all(text) if document]
    assert [fault for document in manifest for fault in faults(document)] == []
    by_name = {(document["kind"], document["metadata"]["name"]): document for document in manifest}
    trigger = by_name["ScaledObject", "processor"]["spec"]["triggers"][0]["metadata"]
    assert trigger["bootstrapServers"] == "events-kafka-bootstrap:9093"
    assert by_name["TriggerAuthentication", "kafka"]["spec"]["secretTargetRef"][0]["name"] == "events-cluster-ca-cert"
    assert f"image: name@sha256:{'0' * 64}" in text


def test_template_of_the_roles_follows_cloudformations_own_rules() -> None:
    linter = Path(sys.executable).with_name("cfn-lint")
    result = subprocess.run([linter, ROOT / "infra" / "roles.yaml"], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout
