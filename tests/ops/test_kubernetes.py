"""What `kubectl apply` would be given, overlay by overlay.

Against the schemas of the last three Kubernetes versions and of the custom resources, in which unknown kinds and fields
are faults; and what the documents say of each other.
"""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from copy import deepcopy
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import pytest
import yaml
from cryptography.fernet import Fernet
from referencing import Registry, Resource

from processor.writer import OUTAGE_SECONDS
from syncer.settings import SyncerSettings
from tests.ops.test_compose import SERVICES as COMPOSE
from tests.ops.variables import COMMANDS, LIBRARIES, all_variables, load

K8S = Path(__file__).parents[2] / "k8s"
SCHEMAS = Path(__file__).parent / "schemas"
OVERLAYS = sorted(path.name for path in (K8S / "overlays").iterdir())
KUBERNETES = Path(kubernetes_validate.__file__).parent / "kubernetes-json-schema"
VERSIONS = ("1.35", "1.36", "1.37")
SERVICES = {"streamer", "processor", "syncer", "cleaner", "admin"}
DRAIN_SECONDS = {
    "streamer": 60,  # an upload of a raw file, twice
    "processor": OUTAGE_SECONDS,
    "replay": OUTAGE_SECONDS,
    "syncer": SyncerSettings.model_fields["sync_drain_seconds"].default,
    "cleaner": 30,  # a batch
    "retention": 30,
    "admin": 5,
}
"""What a drain may take where everything has to be tried again. On a day like others it is two seconds."""

SECRETS = {
    "database": {"DATABASE_URL": "postgresql://pipeline:x@db.example:5432/events?sslmode=verify-full"},
    "kafka": {"KAFKA_SASL_USERNAME": "pipeline", "KAFKA_SASL_PASSWORD": "x"},
    "keys": {"CREDENTIALS_KEYS": Fernet.generate_key().decode()},
    "admin": {"ADMIN_API_KEY": "x"},
    "pipeline": {"password": "x"},
    "events-cluster-ca-cert": {"ca.crt": "x"},
}
"""What docs/operations.md has people make, and what Strimzi makes."""

Document = dict[str, Any]


@cache
def _rendered(overlay: str) -> str:
    kubectl = shutil.which("kubectl")
    if kubectl is None:
        assert not os.environ.get("CI"), "CI has kubectl and must use it"
        pytest.skip("kubectl is not there")
    result = subprocess.run(
        [kubectl, "kustomize", str(K8S / "overlays" / overlay)], capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
    assert not result.stderr, result.stderr  # deprecated fields
    return result.stdout


@cache
def _parsed(overlay: str) -> list[Document]:
    return list(yaml.load_all(_rendered(overlay), yaml.CSafeLoader))


def render(overlay: str) -> list[Document]:
    """The documents of an overlay; nobody else's change is in them."""
    return deepcopy(_parsed(overlay))


@cache
def _custom(kind: str) -> jsonschema.Draft202012Validator:
    return jsonschema.Draft202012Validator(json.loads((SCHEMAS / f"{kind}.json").read_text()))


def faults(document: Document) -> list[str]:
    """Why the API server of one of the versions, or an operator, would refuse the document."""
    return list(_faults(json.dumps(document, sort_keys=True)))


@cache  # most documents are the same in each overlay
def _faults(text: str) -> list[str]:
    document = json.loads(text)
    kind = str(document.get("kind"))
    if (SCHEMAS / f"{kind}.json").exists():
        return [f"{kind} {error.json_path}: {error.message}" for error in _custom(kind).iter_errors(document)]
    found = []
    for version in VERSIONS:
        validator = _kubernetes(version, kind, str(document.get("apiVersion")))
        if validator is None:
            found.append(f"{version}: there is no {document.get('apiVersion')} {kind}")
        else:
            found += [
                f"{version} {kind} {error.json_path}: {error.message}" for error in validator.iter_errors(document)
            ]
    return found


def _schema(version: str, name: str) -> Any:
    """A file of the strict schemas, in which no object takes a field that it doesn't know."""
    return json.loads((KUBERNETES / f"v{version}.0-local-strict" / f"{name}.json").read_text())


@cache
def _registry(version: str) -> Registry[Any]:
    """The definitions of one version; parsing them takes longer than all the rest."""
    return Resource.from_contents(_schema(version, "_definitions")) @ Registry()


@cache
def _kubernetes(version: str, kind: str, api_version: str) -> jsonschema.Draft202012Validator | None:
    """None where a version has no such kind."""
    group, _, number = api_version.rpartition("/")
    name = "-".join(filter(None, (kind.lower(), group.split(".")[0], number)))
    try:
        schema = _schema(version, name)
    except FileNotFoundError:
        return None
    return jsonschema.Draft202012Validator(schema, registry=Resource.from_contents(schema) @ _registry(version))


def name_of(document: Document) -> str:
    return str(document["metadata"]["name"])


def of_kind(documents: list[Document], *kinds: str) -> list[Document]:
    return [document for document in documents if document["kind"] in kinds]


def pods(documents: list[Document]) -> Iterator[tuple[str, Document]]:
    """(name of the workload, pod template)."""
    for document in of_kind(documents, "Deployment", "StatefulSet", "Job"):
        yield name_of(document), document["spec"]["template"]
    for document in of_kind(documents, "CronJob"):
        yield name_of(document), document["spec"]["jobTemplate"]["spec"]["template"]


def fits(selector: Document, labels: Mapping[str, str]) -> bool:
    """Whether a label selector takes a pod."""
    for rule in selector.get("matchExpressions", ()):
        assert rule["operator"] == "In"
        if labels.get(rule["key"]) not in rule["values"]:
            return False
    return all(labels.get(key) == value for key, value in selector.get("matchLabels", {}).items())


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_overlay_is_valid_for_the_last_three_versions_of_kubernetes_and_for_the_operators(overlay: str) -> None:
    documents = render(overlay)
    assert {name_of(d) for d in of_kind(documents, "Deployment")} >= SERVICES
    assert [fault for document in documents for fault in faults(document)] == []


@pytest.mark.parametrize(
    ("kind", "path"),
    [
        ("Deployment", "spec.template.spec.containers.0.readinessProb"),
        ("Deployment", "spec.template.spec.containers.0.securityContext.runAsNonroot"),
        ("NetworkPolicy", "spec.egres"),
        ("CronJob", "spec.jobTemplate.spec.template.spec.containers.0.imagePullpolicy"),
        ("PodDisruptionBudget", "spec.maxunavailable"),
        ("PrometheusRule", "spec.groups.0.rules.0.form"),
        ("PodMonitor", "spec.podMetricsEndpoints.0.intervall"),
        ("Kafka", "spec.kafka.listeners.0.authentication.mechanism"),
        ("KafkaNodePool", "spec.storage.sise"),
        ("KafkaTopic", "spec.partition"),
        ("KafkaUser", "spec.authorization.acls.0.operation"),
        ("ScaledObject", "spec.maxReplicas"),
        ("TriggerAuthentication", "spec.env.0.secret"),
    ],
)
def test_an_unknown_field_is_a_fault(kind: str, path: str) -> None:
    document = next(d for overlay in OVERLAYS for d in render(overlay) if d["kind"] == kind)
    assert faults(document) == []
    *way, last = path.split(".")
    inner: Any = document
    for step in way:
        inner = inner[int(step)] if step.isdigit() else inner[step]
    inner[last] = "x"
    assert faults(document)


def test_these_are_the_last_three_versions() -> None:
    known = {path.name.removeprefix("v").split(".0-")[0] for path in KUBERNETES.glob("v*-strict")}
    assert tuple(sorted(known, key=lambda version: int(version.split(".")[1]))[-3:]) == VERSIONS


def test_an_unknown_kind_and_an_old_version_are_faults() -> None:
    assert faults({"apiVersion": "v1", "kind": "Deploymint", "metadata": {"name": "x"}})
    assert faults({"apiVersion": "policy/v1beta1", "kind": "PodDisruptionBudget", "metadata": {"name": "x"}})
    topic = next(d for d in render("strimzi") if d["kind"] == "KafkaTopic")
    assert faults({**topic, "apiVersion": "kafka.strimzi.io/v1beta2"})


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_no_pod_can_become_root_or_gain_a_right(overlay: str) -> None:
    """The `restricted` level of Pod Security, which the namespace enforces, and a read-only root for our services."""
    for name, template in pods(render(overlay)):
        spec = template["spec"]
        assert spec["securityContext"]["runAsNonRoot"], name
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}, name
        assert spec["automountServiceAccountToken"] is False, name
        for container in spec["containers"]:
            context = container["securityContext"]
            assert context["allowPrivilegeEscalation"] is False, name
            assert context["capabilities"] == {"drop": ["ALL"]}, name
            if container["image"].startswith("event-pipeline:"):
                assert context["readOnlyRootFilesystem"], name
                assert {"name": "spool", "mountPath": "/spool"} in container["volumeMounts"], name
        assert not {"hostNetwork", "hostPID", "hostIPC"} & spec.keys()
        assert all("hostPath" not in volume for volume in spec.get("volumes", ()))


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_each_service_has_sizes_probes_and_time_to_drain(overlay: str) -> None:
    documents = render(overlay)
    for name, template in pods(documents):
        for container in template["spec"]["containers"]:
            assert {"cpu", "memory"} <= container["resources"]["requests"].keys(), name
            assert "memory" in container["resources"]["limits"], name
        if name in DRAIN_SECONDS:
            assert template["spec"]["terminationGracePeriodSeconds"] > DRAIN_SECONDS[name], name
        for volume in template["spec"]["volumes"]:
            assert volume["name"] != "spool" or "emptyDir" in volume
    for deployment in of_kind(documents, "Deployment"):
        if (name := name_of(deployment)) not in SERVICES:
            continue
        container = deployment["spec"]["template"]["spec"]["containers"][0]
        assert [port["name"] for port in container["ports"]] == ["http"]
        paths = {probe: container[f"{probe}Probe"]["httpGet"]["path"] for probe in ("startup", "liveness", "readiness")}
        assert paths == {"startup": "/healthz", "liveness": "/healthz", "readiness": "/readyz"}
        assert len(deployment["spec"]["template"]["spec"]["topologySpreadConstraints"]) == 2
    replicas = {name_of(d): d["spec"].get("replicas") for d in of_kind(documents, "Deployment")}
    assert replicas["streamer"] == 2
    assert (replicas["processor"] is None) == (overlay == "keda")  # KEDA's to decide


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_whatever_a_document_names_is_there(overlay: str) -> None:
    documents = render(overlay)
    by_kind = {kind: {name_of(d) for d in of_kind(documents, kind)} for kind in {d["kind"] for d in documents}}
    labels = [template["metadata"]["labels"] for _, template in pods(documents)]
    secrets = by_kind.get("Secret", set()) | SECRETS.keys()
    for name, template in pods(documents):
        spec = template["spec"]
        assert spec.get("serviceAccountName", "default") in by_kind["ServiceAccount"] | {"default"}, name
        mounted = {mount["name"] for container in spec["containers"] for mount in container.get("volumeMounts", ())}
        claims = {"data"} if name in by_kind.get("StatefulSet", ()) else set()
        assert mounted <= {volume["name"] for volume in spec.get("volumes", ())} | claims, name
        for container in spec["containers"]:
            for source in container.get("envFrom", ()):
                assert source.get("configMapRef", {"name": None})["name"] in by_kind["ConfigMap"] | {None}, name
                assert source.get("secretRef", {"name": "keys"})["name"] in secrets, name
    for document in of_kind(documents, "Service"):
        assert any(fits({"matchLabels": document["spec"]["selector"]}, one) for one in labels), name_of(document)
    for document in of_kind(documents, "PodDisruptionBudget"):
        assert any(fits(document["spec"]["selector"], one) for one in labels), name_of(document)
    for document in of_kind(documents, "ScaledObject"):
        assert document["spec"]["scaleTargetRef"]["name"] in by_kind["Deployment"]
        for trigger in document["spec"]["triggers"]:
            assert trigger["authenticationRef"]["name"] in by_kind["TriggerAuthentication"]
            assert "replaced" not in trigger["metadata"].values()
    for document in of_kind(documents, "PodMonitor"):
        taken = [one for one in labels if fits(document["spec"]["selector"], one)]
        assert {one["app.kubernetes.io/name"] for one in taken} == SERVICES
    for document in documents:
        assert document["kind"] == "Namespace" or document["metadata"]["namespace"] == "event-pipeline", document


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_nothing_flows_but_what_a_policy_names(overlay: str) -> None:
    policies = {name_of(d): d["spec"] for d in of_kind(render(overlay), "NetworkPolicy")}
    assert policies["deny-all"] == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}

    def reaches(service: str) -> set[int]:
        taken = [p for p in policies.values() if fits(p["podSelector"], {"app.kubernetes.io/name": service})]
        return {
            port["port"]
            for policy in taken
            for rule in policy.get("egress", ())
            for port in rule.get("ports", ())
            if port["port"] != 53
        }

    kafka = {9092} | ({9093} if overlay == "strimzi" else set())
    assert reaches("streamer") == {5432, 443} | kafka
    assert reaches("processor") == {5432, 443} | kafka
    assert reaches("syncer") == reaches("cleaner") == reaches("admin") == {5432, 443}
    assert reaches("migrate") == {5432}
    for name, policy in policies.items():
        for rule in policy.get("egress", ()):
            for peer in rule["to"]:
                if "ipBlock" in peer:  # never the metadata service, which holds the machine's credentials
                    assert peer["ipBlock"]["except"] == ["169.254.0.0/16"], name


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_each_service_starts_with_the_settings_that_it_is_given(overlay: str, monkeypatch: pytest.MonkeyPatch) -> None:
    documents = render(overlay)
    maps = {name_of(d): d["data"] for d in of_kind(documents, "ConfigMap")}
    secrets: dict[str, Mapping[str, str]] = {**SECRETS}
    for document in of_kind(documents, "Secret"):
        secrets[name_of(document)] = {k: base64.b64decode(v).decode() for k, v in document["data"].items()}
    if overlay == "local":
        secrets["kafka"] = {}  # optional, and not there
    started = set()
    for name, template in pods(documents):
        (container,) = template["spec"]["containers"]
        if not container["image"].startswith("event-pipeline:"):
            continue
        environment: dict[str, str] = {}
        for source in container["envFrom"]:
            environment |= maps[source["configMapRef"]["name"]] if "configMapRef" in source else {}
            environment |= secrets[source["secretRef"]["name"]] if "secretRef" in source else {}
        for variable in container.get("env", ()):
            reference = variable["valueFrom"]["secretKeyRef"]
            environment[variable["name"]] = secrets[reference["name"]][reference["key"]]
        assert environment.keys() <= all_variables() | LIBRARIES.keys(), name
        load(COMMANDS[tuple(container["args"])], environment, monkeypatch)
        started.add(name)
    assert started == SERVICES | {"migrate", "replay", "retention"}


def test_secrets_reach_only_those_who_need_them() -> None:
    known = {}
    for name, template in pods(render("aws")):
        (container,) = template["spec"]["containers"]
        known[name] = {source["secretRef"]["name"] for source in container["envFrom"] if "secretRef" in source}
    assert known == {
        "streamer": {"database", "kafka"},
        "processor": {"database", "kafka", "keys", "admin"},
        "replay": {"database", "kafka", "keys"},
        "syncer": {"database", "keys", "admin"},
        "cleaner": {"database", "admin"},
        "admin": {"database", "keys", "admin"},
        "migrate": {"database"},
        "retention": {"database"},
    }


def test_each_pod_on_aws_can_verify_the_databases_certificate() -> None:
    for name, template in pods(render("aws")):
        mounts = {mount["name"]: mount["mountPath"] for mount in template["spec"]["containers"][0]["volumeMounts"]}
        assert mounts["database-ca"] == "/etc/database-ca", name


def test_each_service_has_a_role_of_its_own_on_aws() -> None:
    accounts = of_kind(render("aws"), "ServiceAccount")
    roles = {name_of(d): d["metadata"].get("annotations", {}).get("eks.amazonaws.com/role-arn") for d in accounts}
    assert roles.pop("migrate") is None
    assert {name: arn.rpartition("-")[2] for name, arn in roles.items()} == {
        name: name for name in SERVICES | {"retention"}
    }


def test_local_overlay_is_told_the_same_as_docker_compose() -> None:
    (settings,) = [d["data"] for d in of_kind(render("local"), "ConfigMap") if name_of(d) == "settings"]
    compose = COMPOSE["streamer"]["environment"]
    told = {name: value for name, value in settings.items() if name in compose}
    assert told == {name: compose[name] for name in told}
    assert len(told) > 20
