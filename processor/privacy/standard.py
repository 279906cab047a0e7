"""The standard level: the original bytes, with the `privacy` member spliced in. Nothing is parsed as a whole.

The consent that is recorded is looked up where the pixel writes it, as a member of raw_event_data. A text that looks
like one counts for nothing, because its quotation marks are escaped, nor does a member further down.
"""

from __future__ import annotations

import re

from processor.privacy import consent, record
from processor.privacy.consent import Rules, Scope
from processor.privacy.envelope import Envelope, open_envelope, print_envelope
from processor.privacy.errors import UnparsableRecord

_ADDRESS = re.compile(rb'"ip_address":[ \t]*("[^"\\]{0,64}")')
_DATA = re.compile(rb'"raw_event_data":[ \t]*\{')
_SAID = re.compile(
    rb'"(consent|%s)":[ \t]*(\{[^{}]{0,2000}\}|"[^"\\]{0,40}"|[a-z0-9]{1,5})' % "|".join(consent.SIGNALS).encode()
)
_ANSWER = re.compile(rb'"([^"\\]{1,40})":[ \t]*("[^"\\]{0,40}"|[a-z0-9]{1,5})')
_REMEMBERED = 4096


class Standard:
    """The level of one client. Remembers the consent objects it has read: few different ones exist."""

    __slots__ = ("_keep_addresses", "_known", "_rules", "_version")

    def __init__(self, version: str, rules: Rules, *, keep_addresses: bool) -> None:
        self._version = version
        self._rules = rules
        self._keep_addresses = keep_addresses
        self._known: dict[tuple[bytes, ...], bytes] = {}

    def apply(self, line: bytes) -> tuple[bytes, bool]:
        """The line with its `privacy` member, and whether the address was taken out.

        Raises UnparsableRecord when the line isn't an object in one line; nothing else is checked.
        """
        if line[:1] != b"{" or line[-1:] != b"}" or b"\n" in line or b"\r" in line:
            raise UnparsableRecord("the record isn't a JSON object in one line")
        earlier: frozenset[str] = frozenset()
        if b'"privacy"' in line or b"\\u00" in line:
            envelope = open_envelope(record.decode(line), addresses=False)
            line, earlier = envelope.text.encode(), envelope.redacted
        removed = False
        if not self._keep_addresses:
            line, removed = _without_address(line)
        said = _said(line)
        key = (b"-" if removed else b"+", *said)
        ending = self._known.get(key) if not earlier else None
        if ending is None:
            ending = self._ending(said, line, ["ip_address"] if removed else [], earlier)
            if not earlier and sum(map(len, said)) < 200:
                if len(self._known) >= _REMEMBERED:
                    self._known.clear()
                self._known[key] = ending
        return line[:-1] + ending, removed

    def _ending(self, said: list[bytes], line: bytes, paths: list[str], earlier: frozenset[str]) -> bytes:
        scope = _scope(said)
        if earlier:
            paths = envelope_paths(line, paths, earlier)
        printed = print_envelope(
            "{}", "standard", self._version, paths, consent.printed(scope, self._rules.decide(scope))
        )
        return (b"" if line == b"{}" else b",") + printed[1:].encode()


def envelope_paths(line: bytes, paths: list[str], earlier: frozenset[str]) -> list[str]:
    """The paths with those of an earlier run that are still there."""
    return Envelope("", earlier).still_there(line.decode(), paths)


def _without_address(line: bytes) -> tuple[bytes, bool]:
    """The column ip_address, a scalar column and hence in front of everything nested, becomes null."""
    match = _ADDRESS.search(line)
    if match is None or _depth(line[: match.start()]) != 1:
        return line, False
    return line[: match.start(1)] + b"null" + line[match.end(1) :], True


def _said(line: bytes) -> list[bytes]:
    """Name and value, in turn, of all that raw_event_data itself says about consent."""
    if (
        b'"consent"' not in line
        and b'"gpc"' not in line
        and b'"dnt"' not in line
        and b"rivacy" not in line
        and b"rack" not in line
    ):
        return []
    data = _DATA.search(line)
    if data is None:
        return []
    said: list[bytes] = []
    depth, done = _depth(line[: data.end()]), data.end()
    if depth != 2:
        return []
    for match in _SAID.finditer(line, done):
        depth += _depth(line[done : match.start()])
        done = match.start()
        if depth == 2:
            said += match.groups()
        elif depth < 2:
            break
    return said


def _depth(text: bytes) -> int:
    """How many more brackets `text`, which begins and ends outside of strings, opens than it closes."""
    if b"\\" in text:
        text = text.replace(b"\\\\", b"").replace(b'\\"', b"")
    outside = b"".join(text.split(b'"')[::2])
    return outside.count(b"{") + outside.count(b"[") - outside.count(b"}") - outside.count(b"]")


def _scope(said: list[bytes]) -> Scope:
    scope = Scope()
    for name, value in zip(said[::2], said[1::2], strict=True):
        signal = consent.SIGNALS.get(name.decode())
        if signal:
            if _yes(value):
                scope.signal(signal)
        elif value[:1] != b"{":
            scope.say(consent.EVERYTHING, _yes(value))
        else:
            _answers(value, scope)
    return scope


def _answers(consents: bytes, scope: Scope) -> None:
    for name, value in _ANSWER.findall(consents):
        purpose = consent.PURPOSES.get(name.decode("utf-8", "replace"))
        signal = consent.SIGNALS.get(name.decode("utf-8", "replace"))
        if signal and _yes(value):
            scope.signal(signal)
        elif purpose and value != b"null":
            scope.say(purpose, _yes(value))


def _yes(value: bytes) -> bool:
    return consent.is_yes(value.strip(b'"').decode("utf-8", "replace"))
