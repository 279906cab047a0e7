"""`python -m infra.deploy`: CloudFormation stacks, the overlay with their outputs, the migration, the services.

Each step may be repeated; what is there and right stays. `--dry-run` asks CloudFormation what would change, writes the
overlay and its manifest, and prints the commands that it would run. docs/operations.md lists the variables.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Literal

import yaml
from botocore.exceptions import BotoCoreError, ClientError, WaiterError
from pydantic import Field, field_validator
from pydantic_settings import NoDecode

from infra.overlay import write_overlay
from infra.stacks import Stacks
from pipeline.errors import ConfigError, PermanentError, PipelineError
from pipeline.settings import Settings

ROOT = Path(__file__).resolve().parent.parent
NAMESPACE = "event-pipeline"
SECRETS = ("database", "keys", "admin")
SERVICES = ("streamer", "processor", "syncer", "cleaner", "admin")
ACCOUNTS = (*SERVICES, "retention")
"""Service accounts with a role."""
MIGRATE_KINDS = ("Namespace", "ServiceAccount", "ConfigMap", "NetworkPolicy")
"""What the migration needs before it can run."""

Component = Literal["keda", "monitoring", "strimzi"]


class DeploySettings(Settings):
    """Where to, and what. AWS credentials and the cluster come from the tools' own configuration."""

    aws_region: str
    aws_endpoint_url: str | None = None
    stack_name: Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9-]{0,100}$")] = "event-pipeline"
    oidc_provider_arn: Annotated[str, Field(pattern=r"^arn:aws[a-z-]*:iam::\d{12}:oidc-provider/.+$")]
    image: Annotated[str, Field(pattern=r"^[^\s@]+(:[\w.-]+|@sha256:[0-9a-f]{64})$")]
    components: Annotated[tuple[Component, ...], NoDecode] = ()
    kafka_bootstrap_servers: str = ""
    kafka_sasl_mechanism: Literal["SCRAM-SHA-512", "AWS_MSK_IAM"] = "SCRAM-SHA-512"
    kafka_cluster_arn: str = ""
    google_cloud_project: str = ""
    raw_retention_days: int | None = None
    processed_retention_days: int | None = None
    client_roles: str | None = None
    alarm_topic: str | None = None
    admin_url: str = ""
    oidc_issuer: str = ""
    oidc_client_id: str = ""
    kube_context: str = ""

    @field_validator("components", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        return tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value

    def template_parameters(self) -> dict[str, str]:
        """Those of infra/template.yaml that were given; the others keep what they have."""
        given = {
            "RawRetentionDays": self.raw_retention_days,
            "ProcessedRetentionDays": self.processed_retention_days,
            "ClientRoles": self.client_roles,
            "AlarmTopic": self.alarm_topic,
        }
        return {"SyncQueueName": f"{self.stack_name}-sync"} | {k: str(v) for k, v in given.items() if v is not None}

    def check(self) -> None:
        """Raises ConfigError for what doesn't go together."""
        if "strimzi" not in self.components and not self.kafka_bootstrap_servers:
            raise ConfigError("KAFKA_BOOTSTRAP_SERVERS is missing", hint="or put strimzi into COMPONENTS")
        if self.kafka_sasl_mechanism == "AWS_MSK_IAM" and not self.kafka_cluster_arn:
            raise ConfigError("KAFKA_CLUSTER_ARN is missing: with AWS_MSK_IAM the roles need it")
        if self.kafka_sasl_mechanism == "AWS_MSK_IAM" and "keda" in self.components:
            raise ConfigError("COMPONENTS is wrong: keda asks the brokers by SCRAM, not by AWS_MSK_IAM")


class Cluster:
    """The cluster, through kubectl."""

    def __init__(self, context: str, *, dry_run: bool, say: Callable[[str], None]) -> None:
        if shutil.which("kubectl") is None:
            raise ConfigError("kubectl is not there", hint="install it, with access to the cluster")
        self._base = ["kubectl", *(["--context", context] if context else [])]
        self._dry_run, self._say = dry_run, say

    def render(self, folder: Path) -> str:
        """The overlay's manifest."""
        return _run([*self._base, "kustomize", str(folder)])

    def missing_secrets(self, names: Sequence[str]) -> list[str]:
        """Which Secrets are not there; in a dry run nobody is asked."""
        if self._dry_run:
            return []
        found = _run([*self._base, "-n", NAMESPACE, "get", "secrets", "-o", "name"]).split()
        return [name for name in names if f"secret/{name}" not in found]

    def do(self, *arguments: str, text: str | None = None) -> None:
        """One command that changes something; in a dry run it is only said."""
        self._say("$ " + " ".join([*self._base, *arguments]))
        if not self._dry_run:
            _run([*self._base, *arguments], text=text)


def deploy(settings: DeploySettings, *, dry_run: bool, say: Callable[[str], None]) -> Path:
    """Deploy everything; the manifest's path. Raises PipelineError, naming the step that failed."""
    settings.check()
    cluster = Cluster(settings.kube_context, dry_run=dry_run, say=say)
    stacks = Stacks(settings.aws_region, settings.aws_endpoint_url, dry_run=dry_run, say=say)
    outputs = stacks.deploy(settings.stack_name, ROOT / "infra" / "template.yaml", settings.template_parameters())
    roles = stacks.deploy(
        f"{settings.stack_name}-roles",
        ROOT / "infra" / "roles.yaml",
        {
            "OidcProviderArn": settings.oidc_provider_arn,
            "OidcIssuer": settings.oidc_provider_arn.partition(":oidc-provider/")[2],
            "KafkaClusterArn": settings.kafka_cluster_arn,
            **{f"{account.title()}PolicyArn": outputs[f"{account.title()}PolicyArn"] for account in ACCOUNTS},
        },
    )
    folder = ROOT / ".local" / "deploy" / settings.stack_name
    write_overlay(folder, _settings_map(settings, outputs), _role_arns(roles), settings.image, settings.components)
    manifest = folder / "manifest.yaml"
    manifest.write_text(cluster.render(folder))
    say(f"manifest: {manifest.relative_to(ROOT)}")
    _apply(cluster, manifest, settings)
    return manifest


def _apply(cluster: Cluster, manifest: Path, settings: DeploySettings) -> None:
    documents = list(yaml.safe_load_all(manifest.read_text()))
    first = [d for d in documents if d["kind"] in MIGRATE_KINDS]
    job = [d for d in documents if d["kind"] == "Job" and d["metadata"]["name"] == "migrate"]
    cluster.do("apply", "-f", "-", text=yaml.safe_dump_all(first))
    needed = SECRETS if "strimzi" in settings.components or settings.kafka_cluster_arn else (*SECRETS, "kafka")
    if missing := cluster.missing_secrets(needed):
        raise PermanentError(
            f"Secrets are missing in the namespace {NAMESPACE}: {', '.join(missing)}",
            hint="docs/operations.md, Secrets, says how to make them; then run this command again",
        )
    cluster.do("-n", NAMESPACE, "delete", "job", "migrate", "--ignore-not-found", "--wait")
    cluster.do("apply", "-f", "-", text=yaml.safe_dump_all(job))
    cluster.do("-n", NAMESPACE, "wait", "--for=condition=complete", "--timeout=15m", "job/migrate")
    cluster.do("apply", "-f", str(manifest))
    for service in SERVICES:
        cluster.do("-n", NAMESPACE, "rollout", "status", f"deployment/{service}", "--timeout=15m")


def _settings_map(settings: DeploySettings, outputs: Mapping[str, str]) -> dict[str, str]:
    """What the overlay's ConfigMap gets."""
    values = {
        "AWS_REGION": settings.aws_region,
        "RAW_S3_BUCKET": outputs["RawBucket"],
        "RAW_S3_KMS_KEY": outputs["KeyArn"],
        "PROCESSED_S3_BUCKET": outputs["ProcessedBucket"],
        "PROCESSED_S3_KMS_KEY": outputs["KeyArn"],
        "SYNC_QUEUE_URL": outputs["SyncQueueUrl"],
        "CLIENT_STORE": "firestore" if settings.google_cloud_project else "postgres",
        "GOOGLE_CLOUD_PROJECT": settings.google_cloud_project,
        "ADMIN_URL": settings.admin_url,
        "OIDC_ISSUER": settings.oidc_issuer,
        "OIDC_CLIENT_ID": settings.oidc_client_id,
    }
    for name, value in (("RAW", settings.raw_retention_days), ("PROCESSED", settings.processed_retention_days)):
        if value is not None:
            values[f"{name}_RETENTION_DAYS"] = str(value)
    if "strimzi" not in settings.components:
        values["KAFKA_BOOTSTRAP_SERVERS"] = settings.kafka_bootstrap_servers
        values["KAFKA_SASL_MECHANISM"] = settings.kafka_sasl_mechanism
    return values


def _role_arns(outputs: Mapping[str, str]) -> dict[str, str]:
    return {account: outputs[f"{account.title()}RoleArn"] for account in ACCOUNTS}


def _run(command: Sequence[str], *, text: str | None = None) -> str:
    result = subprocess.run(command, input=text, capture_output=True, text=True, check=False)
    if result.returncode:
        raise PermanentError(f"`{' '.join(command)}` failed: {result.stderr.strip()[-2000:]}")
    return result.stdout


def main(arguments: Sequence[str] | None = None) -> int:
    """The exit status: 0 when all runs, 1 when a step failed, 2 for a wrong variable."""
    parser = argparse.ArgumentParser(prog="python -m infra.deploy", description=__doc__)
    parser.add_argument("--dry-run", action="store_true", help="say what would be done, change nothing")
    options = parser.parse_args(arguments)

    def say(line: str) -> None:
        print(line, flush=True)  # noqa: T201 - a command's answer

    try:
        deploy(DeploySettings.load(), dry_run=options.dry_run, say=say)
    except ConfigError as error:
        print(f"deploy: {error}", file=sys.stderr)  # noqa: T201 - for a person
        return 2
    except (PipelineError, ClientError, BotoCoreError, WaiterError) as error:
        print(f"deploy: {error}", file=sys.stderr)  # noqa: T201 - for a person
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
