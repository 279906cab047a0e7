"""The standard level: the original bytes, with the `privacy` member spliced in.

raw_event_data is read once to record the consent in it, and thrown away; no byte of the output comes from there. What
orjson can't read (1e400, a lone surrogate, 2,000 nested arrays) goes the slow way that finds the same answers.
`rfind` rather than `in`, because CPython's search from the end is three times as fast on such lines.
"""

from __future__ import annotations

import re
from typing import Any

import orjson

from pipeline.privacy import consent, record
from pipeline.privacy.consent import Rules, Scope
from pipeline.privacy.envelope import Envelope, members, open_envelope, print_envelope
from pipeline.privacy.errors import UnparsableRecord

_ADDRESS = re.compile(rb'"ip_address":[ \t]*("[^"\\]{0,64}")')
_DATA = b'"raw_event_data":'
_BRACKETS = re.compile(rb"[{}\[\]]")
_UNUSUAL = frozenset(consent.SIGNALS) - {"gpc", "dnt"}
_REMEMBERED = 4096


class Standard:
    """The level for one client. Remembers the endings it has written: few different consents exist."""

    __slots__ = ("_endings", "_keep_addresses", "_rules", "_version")

    def __init__(self, version: str, rules: Rules, *, keep_addresses: bool) -> None:
        self._version = version
        self._rules = rules
        self._keep_addresses = keep_addresses
        self._endings: dict[object, bytes] = {}

    def apply(self, line: bytes, *, page: bool = False) -> tuple[bytes, bool]:
        """The line with its `privacy` member, and whether the address was taken out.

        `page`: the line is what a page has sent, so consent stands in it, not in its raw_event_data.

        Raises UnparsableRecord when the line isn't an object in one line; nothing else is checked.
        """
        if line[:1] != b"{" or line[-1:] != b"}" or b"\n" in line or b"\r" in line:
            raise UnparsableRecord("the record isn't a JSON object in one line")
        if (
            line.rfind(b'"privacy"') >= 0
            or (b"\\" in line and line.rfind(b"\\u00") >= 0)
            or (not self._keep_addresses and line.rfind(b'"ip_hash') >= 0)
        ):
            envelope = open_envelope(record.decode(line), addresses=not self._keep_addresses)
            if envelope.redacted:
                return self._again(envelope, page)
            line = envelope.text.encode()
        removed = False
        if not self._keep_addresses:
            line, removed = _without_address(line)
        ending = self._ending(line, removed, page)
        return line[:-1] + (ending if b'"' in line else ending[1:]), removed

    def _ending(self, line: bytes, removed: bool, page: bool) -> bytes:
        said = _said(line, page)
        try:
            known = self._endings.get((removed, said))
        except TypeError:
            return self._print(said, ["ip_address"] if removed else [])
        if known is None:
            known = self._print(said, ["ip_address"] if removed else [])
            if len(self._endings) >= _REMEMBERED:
                self._endings.clear()
            if len(line) < 8_192:
                self._endings[removed, said] = known
        return known

    def _print(self, said: _Said, paths: list[str]) -> bytes:
        scope = _scope(said)
        decision = self._rules.decide(scope)
        printed = print_envelope("standard", self._version, paths, consent.printed(scope, decision))
        return f",{printed}}}".encode()

    def _again(self, envelope: Envelope, page: bool) -> tuple[bytes, bool]:
        """A record that the engine has seen before: what was removed then stays listed."""
        line, removed = envelope.text.encode(), False
        if not self._keep_addresses:
            line, removed = _without_address(line)
        text = line.decode()
        paths = envelope.still_there(text, ["ip_address"] if removed else [])
        ending = self._print(_said(line, page), paths)
        return line[:-1] + (ending if b'"' in line else ending[1:]), removed


_Said = tuple[tuple[str, Any], ...]
"""What raw_event_data says: pairs of member and value, a consent object as pairs again."""


def _said(line: bytes, page: bool) -> _Said:
    start = line.find(_DATA)
    if start < 0 and not page:
        return ()
    try:
        data = orjson.loads(line if page else line[start + 17 : -1])
    except orjson.JSONDecodeError:
        return _said_slowly(line, page)
    if not isinstance(data, dict):
        return ()
    said = data.get("consent")
    if _UNUSUAL.isdisjoint(data):
        return (("consent", _pairs(said)), ("gpc", data.get("gpc")), ("dnt", data.get("dnt")))
    return (("consent", _pairs(said)), *((name, data[name]) for name in consent.SIGNALS if name in data))


def _pairs(value: object) -> object:
    return tuple(value.items()) if isinstance(value, dict) else value


def _said_slowly(line: bytes, page: bool) -> _Said:
    """The same from a record that orjson doesn't read: member by member, reading only those that matter."""
    try:
        text = record.decode(line)
        if page:
            return _said_in(text)
        for name, start, end in members(text):
            if record.unescape(name) == "raw_event_data":
                return _said_in(text[text.index(":", start + len(name) + 2) + 1 : end].strip())
    except UnparsableRecord:
        pass
    return ()


def _said_in(data: str) -> _Said:
    said: list[tuple[str, Any]] = []
    if data[:1] != "{":
        return ()
    for raw, start, end in members(data):
        name = record.unescape(raw)
        if name == "consent" or name in consent.SIGNALS:
            try:
                value = orjson.loads(data[start:end].partition(":")[2])
            except orjson.JSONDecodeError:
                continue
            said.append((name, _pairs(value)))
    return tuple(said)


def _scope(said: _Said) -> Scope:
    scope = Scope()
    for name, value in said:
        signal = consent.SIGNALS.get(name)
        if signal is not None:
            if _yes(value):
                scope.signal(signal)
        elif isinstance(value, tuple):
            for member, answer in value:
                _answer(scope, member, answer)
        elif value is not None:
            scope.say(consent.EVERYTHING, _yes(value))
    return scope


def _answer(scope: Scope, member: str, answer: object) -> None:
    purpose, signal = consent.PURPOSES.get(member), consent.SIGNALS.get(member)
    if signal is not None and _yes(answer):
        scope.signal(signal)
    elif purpose is not None and isinstance(answer, (bool, int, str)):
        scope.say(purpose, _yes(answer))


def _yes(value: object) -> bool:
    return consent.is_yes(value) if isinstance(value, str) else value is True or value == 1


def _without_address(line: bytes) -> tuple[bytes, bool]:
    """The column ip_address, a scalar column and hence in front of everything nested, becomes null."""
    match = _ADDRESS.search(line)
    if match is None:
        return line, False
    if _BRACKETS.search(line, 1, match.start()) and _nested(line[: match.start()]):
        return line, False
    return line[: match.start(1)] + b"null" + line[match.end(1) :], True


def _nested(text: bytes) -> bool:
    """Whether `text`, which ends outside of strings, is inside more than the outermost object."""
    outside = b"".join(text.replace(b"\\\\", b"").replace(b'\\"', b"").split(b'"')[::2])
    return outside.count(b"{") + outside.count(b"[") - outside.count(b"}") - outside.count(b"]") != 1
