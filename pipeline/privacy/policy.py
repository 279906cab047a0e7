"""A client's policy: its level and settings compiled once, then applied to each record."""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from collections.abc import Mapping
from functools import lru_cache
from typing import NamedTuple

from pipeline.clients import Client, PrivacyLevel
from pipeline.privacy import consent, names, people, record
from pipeline.privacy.envelope import ENCRYPTION, MOST_PATHS, open_envelope, print_envelope
from pipeline.privacy.errors import PolicyError, UnparsableRecord
from pipeline.privacy.findings import Findings
from pipeline.privacy.plans import Plans
from pipeline.privacy.pseudonyms import Pseudonyms
from pipeline.privacy.redaction import Engine, Redaction
from pipeline.privacy.rules import PERSON, Act, RuleBook
from pipeline.privacy.shapes import unquoted
from pipeline.privacy.standard import Standard
from pipeline.privacy.values import PARAMETER_NAME, Values

RULES_VERSION = 11
"""Counts up with every change of what the rules find or write, so that policy_version changes with them."""


_REMEMBERED = 256
_WEIGHT = re.compile("[01](?:[.][0-9]{1,3})?(?:,[A-Za-z*-]{1,8})?")
"""The `q=0.9` of an Accept-Language header, which is no search."""


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

    __slots__ = ("_endings", "_engine", "_rules", "_standard", "level", "takes_nothing", "version")

    def __init__(self, client: Client, pseudonyms: Pseudonyms | None) -> None:
        self.level = client.privacy_level
        self.takes_nothing = self.level is PrivacyLevel.STANDARD and client.ip_collection_enabled
        self._rules = consent.Rules.of(client)
        self._engine = _engine(_plans(self.level), pseudonyms, client.ip_collection_enabled) if pseudonyms else None
        self.version = _version(client, self._rules, pseudonyms)
        self._endings: dict[tuple[tuple[str, ...], str], str] = {}
        self._standard = Standard(self.version, self._rules, keep_addresses=client.ip_collection_enabled)

    def apply(self, line: bytes, *, page: bool = False) -> Filtered:
        """Filter one record, a JSON object in one line without its end; or, with `page`, what a page has sent.

        Raises UnparsableRecord when the line can't be read as the level needs; nothing else, whatever the bytes.
        """
        if self._engine is None:
            plain, removed = self._standard.apply(line, page=page)
            return Filtered(plain, ("ip",) if removed else ())
        book, detectors = self._engine.plans.book, self._engine.values
        outermost = book.page if page else book.column
        detectors.begin(len(line))
        text, envelope = record.decode(line), None
        redaction = Redaction(self._engine, text, outermost)
        if redaction.ours:
            envelope = open_envelope(text)
            redaction = Redaction(self._engine, envelope.text, outermost, previous_hash=envelope.ip_hash)
        answer = redaction.decide(self._rules)
        if self._rules.drop and not answer.allowed[0].analytics:
            return Filtered(None, ("consent",))
        redaction.run()
        text = redaction.text()
        paths = envelope.still_there(text, redaction.paths) if envelope else redaction.paths
        ending = self._ending(tuple(paths), answer.printed)
        return Filtered((text[:-1] + (ending if '"' in text else ending[1:])).encode(), tuple(redaction.kinds))

    def _ending(self, paths: tuple[str, ...], said: str) -> str:
        """The `privacy` member with its comma and the closing bracket; few different ones follow each other."""
        ending = self._endings.get((paths, said))
        if ending is None:
            ending = f",{print_envelope(self.level.value, self.version, paths, said)}}}"
            if len(self._endings) >= _REMEMBERED:
                self._endings.clear()
            if len(paths) <= MOST_PATHS:
                self._endings[paths, said] = ending
        return ending


def compile_policy(client: Client, *, pseudonym_keys: Mapping[int, bytes]) -> Policy:
    """The policy of `client`. `pseudonym_keys` are decrypted, by version; the highest is the current one.

    Raises PolicyError when the level needs a key and there is none.
    """
    if client.privacy_level is PrivacyLevel.STANDARD:
        return Policy(client, None)
    if not pseudonym_keys or not all(pseudonym_keys.values()):
        raise PolicyError("the client's privacy level needs a pseudonym key", hint="create one in the admin")
    return Policy(client, Pseudonyms(pseudonym_keys))


@lru_cache(maxsize=len(PrivacyLevel))
def _plans(level: PrivacyLevel) -> Plans:
    """The plans of a level, common to all clients: nothing in them comes from a client's settings or keys."""
    book = RuleBook(level)
    plans = Plans(book)
    book.name_kind = _engine(plans, Pseudonyms({0: b"names have no pseudonyms"}), False).values.name_kind
    return plans


def _engine(plans: Plans, pseudonyms: Pseudonyms, hash_addresses: bool) -> Engine:
    book = plans.book

    def nested(text: str, findings: Findings, depth: int) -> str:
        if record.BACKSLASH in text or record.QUOTE in text:
            raise UnparsableRecord("a control character stands in a text")
        redaction = Redaction(engine, text, book.any)
        redaction.inside(findings, depth)
        redaction.run()
        findings.kinds += redaction.kinds
        return redaction.text() if redaction.kinds else text

    def names_a_person(query: str) -> bool:
        """Whether a query has data of a person, so that `name` in it is theirs."""
        rules = (book.any[record.escape(unquoted(name))] for name in PARAMETER_NAME.findall(query))
        return any(rule.act in (Act.REDACT, Act.ZIP) and bool(rule.sign & PERSON) for rule in rules if rule)

    of_person = lru_cache(maxsize=16)(names_a_person)  # each parameter of one query asks

    def parameter(name: str, value: str, query: str, findings: Findings) -> str | None:
        rule = book.any[record.escape(name)]
        if rule is None:
            return None
        if rule.act == Act.IDENTIFIER:
            findings.depends = True
            return None if findings.keep.allows(rule.purpose) else rule.kind
        if rule.act == Act.NAME:
            person = rule.purpose != "part" and people.looks_like_person(value, one=names.fold(name).lower() != "name")
            return rule.kind if person or (rule.purpose != "whole" and of_person(query)) else None
        if rule.kind == "free_text" and _WEIGHT.fullmatch(value):
            return None
        return rule.kind if rule.act in (Act.REDACT, Act.ADDRESS, Act.ZIP, Act.PSEUDONYM) else None

    detectors = Values(hipaa=book.hipaa, nested=nested, parameter=parameter, matters=book.parameters.__getitem__)
    engine = Engine(plans, detectors, pseudonyms, hash_addresses)
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
