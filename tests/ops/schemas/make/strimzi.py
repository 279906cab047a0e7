"""Finish the schemas that Strimzi.java printed: `python strimzi.py FOLDER_OF_ITS_OUTPUT`, run in this folder."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

REMOVED = {"Kafka": {"KafkaSpec": ("zookeeper", "jmxTrans"), "KafkaClusterSpec": ("replicas", "storage")}}
"""Fields that the classes still have for old versions, and that kafka.strimzi.io/v1 has not."""


def finish(kind: str, spec: dict[str, Any]) -> dict[str, Any]:
    """The schema of the whole resource, of version v1, which takes no field that it doesn't know."""
    definitions = spec.pop("$defs", {})
    spec.pop("$schema")
    for name, values in (
        ("Object", True),
        ("String", {"type": "string"}),
        ("Quantity", {"type": ["string", "number"]}),
    ):
        if mapped := definitions.get(f"Map(String,{name})"):
            mapped["additionalProperties"] = values
    for name, definition in definitions.items():
        if name.endswith("-2"):  # a subtype with the member that names it: a $ref to a closed type, so copied
            own = definitions[definition.pop("$ref").removeprefix("#/$defs/")]
            definition["properties"] = {**own.get("properties", {}), **definition["properties"]}
            definition["additionalProperties"] = False
    for name, fields in REMOVED.get(kind, {}).items():
        for field in fields:
            (spec if name == f"{kind}Spec" else definitions[name])["properties"].pop(field)
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$defs": definitions,
        "type": "object",
        "properties": {
            "apiVersion": {"const": "kafka.strimzi.io/v1"},
            "kind": {"const": kind},
            "metadata": {"type": "object"},
            "spec": spec,
        },
        "required": ["apiVersion", "kind", "metadata", "spec"],
        "additionalProperties": False,
    }


if __name__ == "__main__":
    for path in Path(sys.argv[1]).glob("Kafka*Spec.json"):
        kind = path.stem.removesuffix("Spec")
        schema = finish(kind, json.loads(path.read_text()))
        Path(__file__).parent.parent.joinpath(f"{kind}.json").write_text(
            json.dumps(schema, separators=(",", ":")) + "\n"
        )
