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
STEP = 20


@lru_cache
def _policy(level: str, settings: str) -> Policy:
    """One policy for all cases with the same settings: what it remembers of one must not change another."""
    client = Client(client_id=ClientId("client_1"), privacy_level=PrivacyLevel(level), **json.loads(settings))
    return compile_policy(client, pseudonym_keys={1: b"k" * 32})


def _filtered(case: dict[str, Any]) -> str:
    policy = _policy(case["level"], json.dumps(case.get("settings", {})))
    out = policy.apply(('{"id":1,"raw_event_data":' + case["data"] + "}").encode()).line
    assert out is not None
    assert policy.apply(out).line == out, f"{case['name']}: filtering again changes it"
    return out.decode()


def _wrong(case: dict[str, Any]) -> str | None:
    """What is wrong with the output for a case, None when all is well."""
    out = _filtered(case)
    data, _, _ = out.rpartition(',"privacy":')
    leaked = [gone for gone in case["must_not_contain"] if gone in data]
    lost = [stays for stays in case["must_contain"] if stays not in out]
    return f"{case['level']}: {case['name']}: {leaked=} {lost=} {out}" if leaked or lost else None


@pytest.mark.parametrize("start", range(0, len(CASES), STEP), ids=lambda start: CASES[start]["name"])
def test_what_the_rules_promise_is_found_and_what_looks_alike_survives(start: int) -> None:
    """Cases go in handfuls: one test for each would spend its time in pytest."""
    assert not list(filter(None, map(_wrong, CASES[start : start + STEP])))


def test_the_corpus_has_identifiers_and_look_alikes() -> None:
    look_alikes = [case for case in CASES if "[REDACTED" in case["must_not_contain"]]
    assert len(CASES) >= 7_000
    assert len(look_alikes) >= 1_900
    assert len({(case["level"], case["name"]) for case in CASES}) == len(CASES)
