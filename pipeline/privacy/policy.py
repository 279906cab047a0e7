"""A client's policy: its level and settings compiled once, then applied to each record."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Mapping
from typing import NamedTuple

from pipeline.clients import Client, PrivacyLevel
from pipeline.privacy import consent, people, record
from pipeline.privacy.envelope import ENCRYPTION, Envelope, open_envelope, print_envelope
from pipeline.privacy.errors import PolicyError, UnparsableRecord
from pipeline.privacy.members import Engine
from pipeline.privacy.pseudonyms import Pseudonyms
from pipeline.privacy.rules import Act, RuleBook
from pipeline.privacy.standard import Standard
from pipeline.privacy.values import Findings, Values
from pipeline.privacy.walk import Walk

RULES_VERSION = 2
"""Counts up with every change of what the rules find or write, so that policy_version changes with them."""


class Filtered(NamedTuple):
    """What a client gets of one record: its line, None when consent_mode drops it, and the kind of each redaction.

    A tuple, because a frozen dataclass costs a tenth of the standard level's time.
    """

    line: bytes | None
    kinds: tuple[str, ...] = ()

    @property
    def redactions(self) -> Mapping[str, int]:
        """How often each kind was redacted, for metrics."""
        return Counter(self.kinds)


class Policy:
    """What happens to a client's records. Not for use by several threads at once: it remembers what it has seen."""

    __slots__ = ("_engine", "_rules", "_standard", "level", "version")

    def __init__(self, client: Client, pseudonyms: Pseudonyms | None) -> None:
        self.level = client.privacy_level
        self._rules = consent.Rules.of(client)
        self._engine = _engine(client, pseudonyms) if pseudonyms else None
        self.version = _version(client, self._rules, pseudonyms)
        self._standard = Standard(self.version, self._rules, keep_addresses=client.ip_collection_enabled)

    def apply(self, line: bytes, *, page: bool = False) -> Filtered:
        """Filter one record, a JSON object in one line without its end; or, with `page`, what a page has sent.

        Raises UnparsableRecord when the line can't be read as the level needs; nothing else, whatever the bytes.
        """
        if self._engine is None:
            plain, removed = self._standard.apply(line, page=page)
            return Filtered(plain, ("ip",) if removed else ())
        envelope = open_envelope(record.decode(line))
        walk = Walk(self._engine, envelope.text, previous_hash=envelope.ip_hash)
        walk.run(self._engine.book.event if page else self._engine.book.column)
        decision = walk.settle(self._rules)
        if self._rules.drop and not decision.analytics:
            return Filtered(None, ("consent",))
        return Filtered(self._close(walk, envelope, decision), tuple(filter(None, walk.kinds)))

    def _close(self, walk: Walk, envelope: Envelope, decision: consent.Decision) -> bytes:
        text = walk.text()
        paths = envelope.still_there(text, walk.paths) if envelope.redacted else walk.paths
        said = consent.printed(walk.scope, decision)
        return print_envelope(text, self.level.value, self.version, paths, said).encode()


def compile_policy(client: Client, *, pseudonym_keys: Mapping[int, bytes]) -> Policy:
    """The policy of `client`. `pseudonym_keys` are decrypted, by version; the highest is the current one.

    Raises PolicyError when the level needs a key and there is none.
    """
    if client.privacy_level is PrivacyLevel.STANDARD:
        return Policy(client, None)
    if not pseudonym_keys or not all(pseudonym_keys.values()):
        raise PolicyError("the client's privacy level needs a pseudonym key", hint="create one in the admin")
    return Policy(client, Pseudonyms(pseudonym_keys))


def _engine(client: Client, pseudonyms: Pseudonyms) -> Engine:
    book = RuleBook(client.privacy_level)

    def nested(text: str, findings: Findings, depth: int) -> str:
        if record.BACKSLASH in text or record.QUOTE in text or record.BARE in text:
            raise UnparsableRecord("a control character stands in a text")
        walk = Walk(engine, text, depth=depth)
        walk.run(book.any)
        walk.settle_inside(findings)
        return walk.text() if walk.kinds else text

    def parameter(name: str, value: str, findings: Findings) -> str | None:
        rule = book.any[record.escape(name)]
        if rule is None:
            return None
        if rule.act == Act.IDENTIFIER:
            findings.purposes.add(rule.purpose)
            if findings.keep is not None and findings.keep.allows(rule.purpose):
                return None
            findings.identifiers += 1
            return rule.kind
        if rule.act == Act.NAME:
            return rule.kind if not rule.purpose and people.looks_like_person(value) else None
        return rule.kind if rule.act in (Act.REDACT, Act.ADDRESS, Act.ZIP, Act.PSEUDONYM) else None

    def matters(name: str) -> bool:
        rule = book.any[record.escape(name)]
        return rule is not None and rule.act != Act.INSPECT

    detectors = Values(hipaa=book.hipaa, nested=nested, parameter=parameter, matters=matters)
    engine = Engine(book, detectors, pseudonyms, client.ip_collection_enabled)
    book.name_kind = detectors.name_kind
    return engine


def _version(client: Client, rules: consent.Rules, pseudonyms: Pseudonyms | None) -> str:
    settings = {
        "rules": RULES_VERSION,
        "level": client.privacy_level.value,
        "ip_collection_enabled": client.ip_collection_enabled,
        "consent": [rules.required, rules.objections, rules.dnt_is_refusal, rules.drop],
        "key_versions": pseudonyms.versions if pseudonyms else [],
        "encryption": ENCRYPTION if client.privacy_level is PrivacyLevel.HIPAA else None,
    }
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:24]
