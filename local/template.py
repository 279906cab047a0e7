"""The infrastructure template, read, and its lifecycle rules as S3 takes them: the emulator skips those."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml


class _Loader(yaml.SafeLoader):  # type: ignore[misc]
    """Reads CloudFormation's short functions: `!Ref Name` becomes {"Ref": "Name"}."""


def _function(loader: Any, suffix: str, node: Any) -> dict[str, Any]:
    match node:
        case yaml.ScalarNode():
            return {suffix: loader.construct_scalar(node)}
        case yaml.SequenceNode():
            return {suffix: loader.construct_sequence(node, deep=True)}
        case _:
            return {suffix: loader.construct_mapping(node, deep=True)}


_Loader.add_multi_constructor("!", _function)


def read_template(template: Path) -> dict[str, Any]:
    """The template; a function is a mapping with its short name."""
    document: dict[str, Any] = yaml.load(template.read_text(), _Loader)  # noqa: S506 - a safe loader with tags of its own
    return document


def lifecycle_rules(template: Path, bucket: str, parameters: Mapping[str, str]) -> list[dict[str, Any]]:
    """The rules of the resource `bucket`, with the parameters' values. Raises KeyError for what we don't use."""
    rules = read_template(template)["Resources"][bucket]["Properties"]["LifecycleConfiguration"]["Rules"]
    return [_rule(rule, parameters) for rule in rules]


def _rule(rule: Mapping[str, Any], parameters: Mapping[str, str]) -> dict[str, Any]:
    found: dict[str, Any] = {"ID": rule["Id"], "Status": rule["Status"], "Filter": {"Prefix": rule.get("Prefix", "")}}
    for name in rule.keys() - {"Id", "Status", "Prefix"}:
        value = rule[name]
        match name:
            case "ExpirationInDays":
                found["Expiration"] = {"Days": _number(value, parameters)}
            case "ExpiredObjectDeleteMarker":
                found["Expiration"] = {name: value}
            case "NoncurrentVersionExpiration" | "AbortIncompleteMultipartUpload":
                found[name] = {member: _number(days, parameters) for member, days in value.items()}
            case _:
                raise KeyError(name)
    return found


def _number(value: Any, parameters: Mapping[str, str]) -> int:
    return int(parameters[value["Ref"]]) if isinstance(value, dict) else int(value)
