"""`processor filter`: what a client would get, line by line, without any server."""

from __future__ import annotations

import base64
import hmac
import io
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from cryptography.fernet import Fernet

from pipeline.clients import Client, ClientId, PrivacyLevel
from pipeline.privacy import compile_policy
from pipeline.secrets import SecretBox
from processor.filter import TEST_KEY, Policies, main, run

RECORD = (
    b'{"id":1,"event_id":"e","event_type":"pageview","session_id":"s-1","visitor_id":null,"ip_address":"203.0.113.7",'
    b'"client_id":null,"raw_event_data":{"price": 1.10,"email":"jane@example.com","consent":{"analytics":true}}}'
)
PAGE = b'{"sessionId": "s-1", "n": 1.10, "consent": {"analytics": true}, "eventData": {"mail": "jane@example.com"}}'


def policies(level: str, keys: dict[int, bytes] | None = None, **settings: Any) -> Policies:
    client = Client(client_id=ClientId("filter"), privacy_level=PrivacyLevel(level), **settings)
    return Policies(client, keys or {1: TEST_KEY})


def filtered(level: str, *lines: bytes, **settings: Any) -> tuple[int, list[bytes], list[str]]:
    sink, told = io.BytesIO(), list[str]()
    status = run(policies(level, **settings), io.BytesIO(b"\n".join(lines)), sink, told.append)
    return status, sink.getvalue().splitlines(), told


@pytest.mark.parametrize("level", list(PrivacyLevel))
def test_a_record_comes_out_as_the_clients_file_would_hold_it(level: str) -> None:
    client = Client(client_id=ClientId("other"), privacy_level=PrivacyLevel(level))
    expected = compile_policy(client, pseudonym_keys={1: TEST_KEY}).apply(RECORD).line
    assert filtered(level, RECORD) == (0, [expected], [])


@pytest.mark.parametrize("level", list(PrivacyLevel))
@pytest.mark.parametrize("given", [RECORD, PAGE, b"{}", b'{"privacy":{"redacted":["x"]},"a":{"raw_event_data":1}}'])
def test_what_was_filtered_comes_out_unchanged(level: str, given: bytes) -> None:
    _, once, _ = filtered(level, given)
    assert filtered(level, *once) == (0, once, [])


def test_what_a_page_sends_is_read_like_raw_event_data() -> None:
    for level, session in (("standard", b'"s-1"'), ("gdpr", b'"s-1"')):
        (line,) = filtered(level, PAGE)[1]
        assert line.startswith(b'{"sessionId": ' + session + b', "n": 1.10, "consent": {"analytics": true}, ')
        assert json.loads(line)["privacy"]["consent"]["status"] == "granted"
    assert json.loads(line)["privacy"]["redacted"] == ["eventData.mail"]
    refused = json.loads(filtered("gdpr", PAGE.replace(b"true", b"false"))[1][0])
    assert (refused["sessionId"], refused["privacy"]["consent"]["status"]) == (None, "refused")
    assert json.loads(filtered("hipaa", PAGE)[1][0])["sessionId"].startswith("p1:")


def test_nothing_of_a_plain_object_is_taken_for_a_typed_column() -> None:
    for name in ("id", "event_id", "client_id", "timestamp", "created_at", "batch_id"):
        (line,) = filtered("gdpr", json.dumps({name: "jane@example.com"}).encode())[1]
        assert b"jane" not in line


@pytest.mark.parametrize("level", list(PrivacyLevel))
@pytest.mark.parametrize(
    "wrong", [b"not json", b"{", b'{"a":1}}', b'{"a":nope}', b"[1]", b'"x"', b"\xff\xfe", b'{"a":NaN}', b'{"a":1,}']
)
def test_a_line_that_is_no_json_object_is_named_and_the_others_go_on(level: str, wrong: bytes) -> None:
    status, lines, told = filtered(level, RECORD, b"", wrong, RECORD + b"\r")
    assert status == 1
    assert len(lines) == 2
    assert len(told) == 1
    assert told[0].startswith("line 3: ")


@pytest.mark.parametrize("level", list(PrivacyLevel))
def test_what_postgresql_accepts_is_accepted(level: str) -> None:
    lines = [
        b'{"raw_event_data":{"a":1e400,"b":-0.0,"c":123456789012345678901234567890}}',
        b'{"a":' + b"[" * 2000 + b"]" * 2000 + b"}",
        b'{"raw_event_data":' + b'{"a":' * 2000 + b"1" + b"}" * 2001,
        rb'{"a":"\ud800"}',
    ]
    status, out, told = filtered(level, *lines)
    assert (status, told) == (0, [])
    assert all(line.startswith(given[:-1].rstrip(b"}")) for given, line in zip(lines, out, strict=True))


def test_a_dropped_event_yields_no_line_and_is_told_by_its_number(tmp_path: Path) -> None:
    from pipeline.clients import ConsentMode

    status, lines, told = filtered("gdpr", b"{}", RECORD, consent_mode=ConsentMode.DROP)
    assert (status, len(lines), told) == (0, 1, ["line 1: dropped, no consent"])


def test_each_line_is_answered_before_the_next_is_read() -> None:
    command = [sys.executable, "-m", "processor", "filter", "--level", "gdpr"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env={}) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        for _ in range(2):
            process.stdin.write(RECORD + b"\n")
            process.stdin.flush()
            assert b'"level":"gdpr"' in process.stdout.readline()
        process.stdin.close()
        assert process.wait() == 0


def test_a_policy_file_sets_what_the_client_store_would(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    box = Fernet.generate_key().decode()
    monkeypatch.setenv("CREDENTIALS_KEYS", box)
    key = base64.b64encode(b"q" * 32).decode()
    file = tmp_path / "policy.json"
    for entry in ({"version": 3, "key": key}, {"version": 3, "secret": SecretBox([box]).encrypt(key)}):
        file.write_text(json.dumps({"privacy_level": "hipaa", "lawful_basis": "contract", "pseudonym_keys": [entry]}))
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(RECORD)))
        out = io.TextIOWrapper(io.BytesIO())
        monkeypatch.setattr(sys, "stdout", out)
        assert main(["--level", "gdpr", "--policy", str(file)]) == 0
        record = json.loads(out.buffer.getvalue())  # type: ignore[attr-defined]
        assert record["ip_hash_key_version"] == 3
        assert record["ip_hash"] == hmac.digest(b"q" * 32, b"203.0.113.7", "sha256").hex()
        assert record["privacy"]["consent"]["status"] == "not_required"


@pytest.mark.parametrize(
    ("policy", "word"),
    [
        ("{", "no JSON: line 1"),
        ("[]", "expected an object"),
        ('{"consnet_mode": "drop"}', "no such setting: consnet_mode"),
        ('{"consent_mode": "keep"}', "consent_mode"),
        ('{"privacy_level": "secret"}', "privacy_level"),
        ("{}", "privacy_level is missing"),
        ('{"privacy_level": "gdpr", "pseudonym_keys": [{"version": 1, "key": "geheim!"}]}', "key 1 is not base64"),
        ('{"privacy_level": "gdpr", "pseudonym_keys": [{"version": 1, "key": ""}]}', "pseudonym key"),
        ('{"privacy_level": "gdpr", "pseudonym_keys": "geheim!"}', "pseudonym_keys: expected"),
        ('{"privacy_level": "gdpr", "pseudonym_keys": [{"version": 1, "secret": "geheim!"}]}', "CREDENTIALS_KEYS"),
    ],
)
def test_a_wrong_policy_is_one_line_that_names_it_and_exit_status_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, policy: str, word: str
) -> None:
    monkeypatch.delenv("CREDENTIALS_KEYS", raising=False)
    file = tmp_path / "policy.json"
    file.write_text(policy)
    assert main(["--policy", str(file)]) == 2
    told = capsys.readouterr().err.splitlines()
    assert len(told) == 1
    assert word in told[0]
    assert "geheim" not in told[0]
    assert main(["--policy", str(tmp_path / "none.json")]) == 2
    assert main([]) == 2
