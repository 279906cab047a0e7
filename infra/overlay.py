"""The overlay of one deployment: k8s/overlays/aws with the stacks' outputs in the place of what is made up there."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

K8S = Path(__file__).resolve().parent.parent / "k8s"


def write_overlay(
    folder: Path, settings: Mapping[str, str], roles: Mapping[str, str], image: str, components: Sequence[str]
) -> None:
    """Write `folder`/kustomization.yaml. `roles`: ARN by service account; `image`: name:tag or name@sha256:digest."""
    folder.mkdir(parents=True, exist_ok=True)
    name, _, digest = image.partition("@")
    chosen = {"digest": digest} if digest else {"newTag": name.rpartition(":")[2]}
    document: dict[str, Any] = {
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "namespace": "event-pipeline",
        "resources": [_relative(folder, "overlays/aws")],
        "components": [_relative(folder, f"components/{component}") for component in _in_order(components)],
        "configMapGenerator": [
            {
                "name": "settings",
                "behavior": "merge",
                "literals": [f"{key}={value}" for key, value in settings.items()],
            }
        ],
        "patches": [
            {
                "target": {"kind": "ServiceAccount", "name": account},
                "patch": yaml.safe_dump(
                    [{"op": "replace", "path": "/metadata/annotations/eks.amazonaws.com~1role-arn", "value": arn}]
                ),
            }
            for account, arn in roles.items()
        ],
        "images": [{"name": "event-pipeline", "newName": name if digest else name.rpartition(":")[0], **chosen}],
    }
    (folder / "kustomization.yaml").write_text(yaml.safe_dump(document, sort_keys=False))


def _in_order(components: Sequence[str]) -> list[str]:
    """strimzi first: keda copies the brokers' address from the settings, which strimzi changes."""
    chosen = [component for component in ("strimzi", "keda", "monitoring") if component in components]
    return [*chosen, *(["strimzi-keda"] if {"strimzi", "keda"} <= set(components) else [])]


def _relative(folder: Path, path: str) -> str:
    return os.path.relpath(K8S / path, folder)
