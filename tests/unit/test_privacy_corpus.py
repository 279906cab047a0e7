"""The labelled corpus: identifiers that must go, look-alikes that must stay, one case a line in tests/corpus/."""

from __future__ import annotations

import json
from functools import lru_cache
from pathlib import Path
from typing import Any

import pytest

from pipeline.clients import Client, ClientId, PrivacyLevel
from pipeline.privacy import Policy, compile_policy

CORPUS = Path(__file__).parents[1] / "corpus" / "privacy.jsonl"
CASES: list[dict[str, Any]] = [json.loads(line) for line in CORPUS.read_text(encoding="utf-8").splitlines()]


@lru_cache
def _policy(level: str, settings: str) -> Policy:
    """One policy for all cases with the same settings: what it remembers of one must not change another."""
    client = Client(client_id=ClientId("client_1"), privacy_level=PrivacyLevel(level), **json.loads(settings))
    return compile_policy(client, pseudonym_keys={1: b"k" * 32})


def _filtered(case: dict[str, Any]) -> str:
    policy = _policy(case["level"], json.dumps(case.get("settings", {})))
    out = policy.apply(('{"id":1,"raw_event_data":' + case["data"] + "}").encode()).line
    assert out is not None
    assert policy.apply(out).line == out, "filtering again changes it"
    return out.decode()


@pytest.mark.parametrize("case", CASES, ids=[f"{case['level']}: {case['name']}" for case in CASES])
def test_what_the_rules_promise_is_found_and_what_looks_alike_survives(case: dict[str, Any]) -> None:
    out = _filtered(case)
    data, _, _ = out.rpartition(',"privacy":')
    for gone in case["must_not_contain"]:
        assert gone not in data
    for stays in case["must_contain"]:
        assert stays in out


def test_the_corpus_has_identifiers_and_look_alikes() -> None:
    look_alikes = [case for case in CASES if "[REDACTED" in case["must_not_contain"]]
    assert len(CASES) >= 4_500
    assert len(look_alikes) >= 1_500
    assert len({(case["level"], case["name"]) for case in CASES}) == len(CASES)
