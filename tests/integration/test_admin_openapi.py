"""The API answers as its OpenAPI document says, whatever it is sent."""

from __future__ import annotations

import asyncio

import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis.core.result import Ok
from schemathesis.generation import GenerationMode
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from local import ports
from local.stack import Stack
from pipeline.health import serving
from tests.integration.admin_scene import KEY, open_admin

EXAMPLES = 12
_CHECKS = (
    schemathesis.checks.not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
)
_TIMEOUT_SECONDS = 20.0


async def test_no_answer_is_a_crash_or_other_than_documented(stack: Stack) -> None:
    port = ports.choose(("admin",), {})["admin"]
    async with open_admin(stack, health_port=port, bind_host="127.0.0.1") as admin:
        async with admin.api() as api:
            document = (await api.get("/api/v1/openapi.json")).json()
            await api.post("/api/v1/clients", json={"client_id": "0", "name": "Zero", "privacy_level": "gdpr"})
        async with serving(admin.app, admin.settings, port):
            seen = await asyncio.to_thread(exercise, document, f"http://127.0.0.1:{port}")
    assert len(seen) == sum(len(path) for path in document["paths"].values())


def exercise(document: dict[str, object], url: str) -> set[str]:
    """Send generated requests, fit and unfit, to every operation; which ones were reached."""
    schema = schemathesis.openapi.from_dict(document)
    schema.config.update(base_url=url)
    headers = {"authorization": f"Bearer {KEY}"}
    seen = set()
    for found in schema.get_all_operations():
        assert isinstance(found, Ok)
        operation = found.ok()
        for mode in GenerationMode:

            @settings(
                max_examples=EXAMPLES,
                deadline=None,
                derandomize=True,
                database=None,
                phases=[Phase.generate],
                suppress_health_check=list(HealthCheck),
            )
            @given(case=operation.as_strategy(generation_mode=mode))
            def sends(case: schemathesis.Case) -> None:
                case.call_and_validate(headers=headers, checks=list(_CHECKS), timeout=_TIMEOUT_SECONDS)

            sends()
        seen.add(operation.label)
    return seen
