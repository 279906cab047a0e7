"""No tracked file holds a secret. What looks like one and opens nothing is listed here, one by one."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

PATTERNS = {
    "AWS access key": r"\b(?:AKIA|ASIA)[A-Z2-7]{16}\b",
    "AWS secret key": r"(?i)aws.{0,20}secret.{0,20}[\"'=: ]([A-Za-z0-9/+]{40})\b(?![A-Za-z0-9/+=])",
    "private key": r"-----BEGIN (?:[A-Z]+ )?PRIVATE KEY-----",
    "GitHub token": r"\bgh[pousr]_[A-Za-z0-9]{36}\b",
    "Google API key": r"\bAIza[0-9A-Za-z_-]{35}\b",
    "Google service account": r"\"private_key_id\"\s*:\s*\"[0-9a-f]{40}\"",
    "Slack token": r"\bxox[abprs]-[0-9A-Za-z-]{10,}",
    "JSON Web Token": r"\beyJ[A-Za-z0-9_-]{10,}\.eyJ[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]{10,}",
    "Fernet key": r"(?<![A-Za-z0-9_/+-])[A-Za-z0-9_-]{43}=(?![A-Za-z0-9=])",
    "Fernet token": r"\bgAAAAA[A-Za-z0-9_-]{60,}",
    "password in an address": r"\b(?:postgres(?:ql)?|amqp|redis|https?)://[^\s:/@{}<>$\"']+:([^\s@{}<>$\"'.]{6,})@",
}
OPENS_NOTHING = {
    "AKIALOCALONLY2345672",  # the emulator's root in docker-compose.yml and k8s/overlays/local
    "bG9jYWwtb25seS1sb2NhbC1vbmx5LWxvY2FsLW9ubHk=",  # "local-only" three times, likewise
    "postgresql://pipeline:local-only@",  # likewise
    "AKIAIOSFODNN7EXAMPLE",  # the example of Amazon's documentation
    "AKIAAAAAAAAAAAAAAAAA",  # a key that nobody has, in tests
    "://user:password@",  # the form, in a message
    "://u:hunter2@",  # must not be printed, in a test
    ":secret@",  # the word itself, in made-up addresses of tests/corpus
}


def tracked() -> list[Path]:
    """Text files under version control, and those that are about to be."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    return [path for name in listed.splitlines() if (path := ROOT / name).is_file()]


def findings(text: str) -> list[tuple[str, str]]:
    """(what it looks like, the text)."""
    return [
        (kind, found[0])
        for kind, pattern in PATTERNS.items()
        for found in re.finditer(pattern, text)
        if not any(known in found[0] for known in OPENS_NOTHING)
    ]


def test_no_tracked_file_holds_a_secret() -> None:
    files = tracked()
    assert len(files) > 200
    found = [
        (str(path.relative_to(ROOT)), kind)  # the finding itself is not printed
        for path in files
        for kind, _ in findings(path.read_bytes().decode(errors="replace"))
    ]
    assert found == []


@pytest.mark.parametrize(
    "text",
    [
        "key = 'AKIA" + "Q3EGRIJK5LMN7OPQ'",
        "aws_secret_access_key = wJalrXUtnFEMI/" + "K7MDENG/bPxRfiCYzzzzzzzzzz",
        "-----BEGIN " + "RSA PRIVATE KEY-----",
        "CREDENTIALS_KEYS=" + "q3p1tW0bHnVdJt8mZx5cLr" + "2sYk7fGh4jNe9uAo6iQwE=",
        "postgresql://pipeline:" + "hunter2hunter2@db.example/events",
        "token: gh" + "p_" + "a1B2" * 9,
    ],
)
def test_a_secret_would_be_found(text: str) -> None:
    assert findings(text)
