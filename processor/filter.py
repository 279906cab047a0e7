"""`python -m processor filter`: events in on standard input, what a client would get of them out, line by line.

The dry run of a policy, and the handle by which the privacy engine is judged. It needs no server and no environment.
A line is a whole record (`docs/event.schema.json`), known by its member raw_event_data, or any other JSON object: then
it is read like what a page sends, which is what raw_event_data holds.
"""

from __future__ import annotations

import argparse
import base64
import binascii
import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import fields
from pathlib import Path
from typing import IO, Any

import orjson

from pipeline.clients import Client, PrivacyLevel
from pipeline.errors import ConfigError, PipelineError
from pipeline.privacy import PolicyError, UnparsableRecord, compile_policy
from pipeline.privacy.envelope import members
from pipeline.privacy.record import decode, unescape
from pipeline.secrets import SecretBox

TEST_KEY = b"a-test-key-that-guards-no-person"
"""Pseudonyms are made under it, as version 1, unless the policy file has keys. Public, so it protects nobody."""

_BOM = b"\xef\xbb\xbf"
_SETTINGS = {item.name for item in fields(Client)}


def main(arguments: list[str]) -> int:
    """Filter standard input until it ends.

    Exit status 0; 1 when a line was no JSON object, which standard error names by its number; 2 for a wrong policy.
    """
    options = _arguments().parse_args(arguments)
    try:
        policies = _policies(options.level, options.policy)
    except PipelineError as error:
        print(f"processor filter: {error}", file=sys.stderr)  # noqa: T201 - for a person
        return 2
    try:
        return run(policies, sys.stdin.buffer, sys.stdout.buffer, lambda said: print(said, file=sys.stderr))  # noqa: T201
    except BrokenPipeError:
        # Whoever read us has gone; the interpreter must not complain when it flushes at the end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


def _arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m processor filter", description=__doc__)
    parser.add_argument("--level", choices=[level.value for level in PrivacyLevel], help="the client's privacy level")
    parser.add_argument(
        "--policy", type=Path, metavar="FILE", help="the client's settings, as JSON; --level counts more than its own"
    )
    return parser


class Policies:
    """The policy under test, and one that reads every line to its end, whatever the level under test needs."""

    def __init__(self, client: Client, keys: Mapping[int, bytes]) -> None:
        self.policy = compile_policy(client, pseudonym_keys=keys)
        checked = Client(client_id=client.client_id, privacy_level=PrivacyLevel.GDPR)
        self._checker = compile_policy(checked, pseudonym_keys={1: TEST_KEY})

    def apply(self, line: bytes) -> bytes | None:
        """What is left of `line`; None when it is dropped for want of consent. Raises UnparsableRecord."""
        return self.policy.apply(line, page=not self._is_record(line)).line

    def _is_record(self, line: bytes) -> bool:
        try:
            document = orjson.loads(line)
        except orjson.JSONDecodeError:
            # PostgreSQL accepts what few parsers do: 1e400, lone surrogates, 2,000 nested arrays.
            self._checker.apply(line)
            return any(unescape(name) == "raw_event_data" for name, _, _ in members(decode(line)))
        if not isinstance(document, dict):
            raise UnparsableRecord("it isn't a JSON object")
        return "raw_event_data" in document


def run(policies: Policies, source: IO[bytes], sink: IO[bytes], tell: Callable[[str], None]) -> int:
    """Filter line by line, each written before the next is read; returns the exit status. Empty lines are passed over.

    `tell` is told what became of lines that yield nothing: by number, never with their content.
    """
    status = 0
    for number, line in enumerate(iter(source.readline, b""), start=1):
        text = (line.removeprefix(_BOM) if number == 1 else line).strip(b" \t\r\n")
        if not text:
            continue
        try:
            filtered = policies.apply(text)
        except UnparsableRecord as error:
            tell(f"line {number}: {error}")
            status = 1
            continue
        if filtered is None:
            tell(f"line {number}: dropped, no consent")
            continue
        sink.write(filtered + b"\n")
        sink.flush()
    return status


def _policies(level: str | None, file: Path | None) -> Policies:
    """Raises ConfigError, naming the file and the setting that is wrong."""
    if level is None and file is None:
        raise ConfigError("--level is missing", hint="standard, gdpr or hipaa; or a --policy that says it")
    settings = {} if file is None else _read(file)
    try:
        keys = _keys(settings.pop("pseudonym_keys", None))
        client = Client.from_document(
            {"client_id": "filter", **settings} | ({} if level is None else {"privacy_level": level})
        )
        return Policies(client, keys)
    except (ValueError, PolicyError) as error:
        raise ConfigError(f"{file}: {error}") from None


def _read(file: Path) -> dict[str, Any]:
    try:
        settings = orjson.loads(file.read_bytes())
    except OSError as error:
        raise ConfigError(f"{file} can't be read: {error.strerror}") from None
    except orjson.JSONDecodeError as error:
        raise ConfigError(f"{file} is no JSON: line {error.lineno}, column {error.colno}") from None
    if not isinstance(settings, dict):
        raise ConfigError(f"{file}: expected an object with a client's settings")
    if unknown := sorted(settings.keys() - _SETTINGS):
        raise ConfigError(
            f"{file}: no such setting: {', '.join(unknown)}", hint="docs/privacy.md lists those that count here"
        )
    return settings


def _keys(entries: object) -> dict[int, bytes]:
    """Keys by version: `{"version": 1, "key": "<base64>"}`, or with the `secret` of a stored client.

    A stored secret needs CREDENTIALS_KEYS. Raises ValueError or ConfigError.
    """
    if not entries:
        return {1: TEST_KEY}
    keys = {}
    for entry in entries if isinstance(entries, list) else [None]:
        if not isinstance(entry, dict) or not isinstance(entry.get("version"), int):
            raise ValueError('pseudonym_keys: expected a list of {"version": 1, "key": "<base64>"}')
        coded = entry.get("key")
        if "secret" in entry:
            coded = SecretBox(os.environ.get("CREDENTIALS_KEYS", "").split(",")).decrypt(str(entry["secret"]))
        try:
            keys[entry["version"]] = base64.b64decode(str(coded), validate=True)
        except binascii.Error:
            raise ValueError(f"pseudonym_keys: key {entry['version']} is not base64") from None
    return keys
