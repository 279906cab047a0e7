"""The `privacy` member that every record leaves with, and what an earlier run of the engine left in a record."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from pipeline.clients import PrivacyLevel
from pipeline.privacy import record
from pipeline.privacy.errors import UnparsableRecord
from pipeline.privacy.plan import LONGEST_PATH, OURS
from pipeline.privacy.redaction import NO_HASH

MOST_PATHS = 100
"""More paths than these are counted, not listed: `redacted_more`."""

ENCRYPTION = "aws:kms"
"""How objects with records of level hipaa are stored, and what these records say: SSE-KMS."""

_HASH = re.compile('"[0-9a-f]{64}"')
_VERSION = re.compile("[0-9]{1,9}")


@dataclass(frozen=True, slots=True)
class Envelope:
    """A record without what an earlier run added: the paths it named and the address hash it wrote, as JSON members."""

    text: str
    redacted: frozenset[str] = frozenset()
    ip_hash: str = NO_HASH

    def still_there(self, text: str, paths: list[str]) -> list[str]:
        """`paths`, and those of the earlier run that the record still has: what was removed stays listed.

        An earlier list is nobody's proof; only what is really a path of the record comes out.
        """
        known = set(paths)
        wanted = self.redacted - known
        return paths + [path for path in leaves(text) if path in wanted] if wanted else paths


def open_envelope(text: str, *, addresses: bool = True) -> Envelope:
    """Take out the members that the engine itself adds, or `privacy` alone.

    Raises UnparsableRecord when brackets don't match.
    """
    if text.rfind('"privacy"') < 0 and text.rfind('"ip_hash') < 0 and not ("\\" in text and "\\u00" in text):
        return Envelope(text)
    found: dict[str, str] = {}
    kept: list[str] = []
    done, first = 0, True
    cut_to_next, previous_end = False, 0
    for name, start, end in members(text):
        if cut_to_next:
            done, cut_to_next = start, False
        meaning = record.unescape(name)
        if meaning == "privacy" or (addresses and meaning in OURS):
            found[meaning] = text[start:end].partition(":")[2].strip()
            kept.append(text[done : start if first else previous_end])
            done, cut_to_next = end, first
        else:
            first = False
        previous_end = text.find(",", end)
    if not found:
        return Envelope(text)
    kept.append(text[done:])
    ip_hash, version = found.get("ip_hash", ""), found.get("ip_hash_key_version", "")
    if _HASH.fullmatch(ip_hash) and _VERSION.fullmatch(version):
        fragment = f'"ip_hash":{ip_hash},"ip_hash_key_version":{version}'
    else:
        fragment = NO_HASH
    return Envelope("".join(kept), _earlier_paths(found.get("privacy", "")), fragment)


def print_envelope(level: str, version: str, paths: Iterable[str], said: str) -> str:
    """The member, as it stands in a record. Paths are printed as they stand there."""
    listed = sorted({path for path in paths if path})
    more = ""
    if len(listed) > MOST_PATHS:
        more = f',"redacted_more":{len(listed) - MOST_PATHS}'
        listed = listed[:MOST_PATHS]
    printed = '","'.join(listed).replace(record.QUOTE, '\\"').replace(record.BACKSLASH, "\\\\")
    printed = f'["{printed}"]' if listed else "[]"
    said = f'{said},"encryption":"{ENCRYPTION}"' if level == PrivacyLevel.HIPAA else said
    return f'"privacy":{{"level":"{level}","policy_version":"{version}","redacted":{printed}{more},"consent":{said}}}'


def members(text: str) -> Iterator[tuple[str, int, int]]:
    """Raw name, start and end of each member of an object, from the quotation mark of its name to the end of its value.

    Raises UnparsableRecord when brackets don't match.
    """
    pieces = record.cut(text)
    depth = position = 0
    name, start = "", -1
    for index, piece in enumerate(pieces):
        size = _size(piece)
        if index & 1:
            if depth == 1 and start < 0:
                name, start = piece, position - 1
            position += size + 1
            continue
        for offset, char in enumerate(piece):
            if char in "{[":
                depth += 1
            elif char in "}]":
                depth -= 1
                if depth < 0:
                    raise UnparsableRecord("a bracket closes what isn't open")
            if start >= 0 and ((char == "," and depth == 1) or (char == "}" and depth == 0)):
                end = position + offset
                while text[end - 1] in " \t":
                    end -= 1
                yield name, start, end
                start = -1
        position += size + 1
    if depth:
        raise UnparsableRecord("the record ends too early")


def leaves(text: str) -> Iterator[str]:
    """The path of everything in a record, named as the walk names it."""
    pieces = record.cut(text)
    stack: list[tuple[bool, str, str, int]] = []
    is_object, prefix, key, ordinal = False, "", "", 0
    expects_name = False
    for index, piece in enumerate(pieces):
        if index & 1:
            if expects_name:
                key, expects_name = piece, False
                if key.startswith("[REDACTED:"):
                    key = f"[{ordinal}]"
                yield prefix + key
            elif not is_object:
                yield f"{prefix}[{ordinal}]"
            continue
        for symbol in record.TOKENS.findall(piece):
            if symbol in "{[":
                path = ""
                if stack:
                    path = prefix + key if is_object else f"{prefix}[{ordinal}]"
                    if not is_object:
                        yield path
                    if len(path) > LONGEST_PATH:
                        path = prefix.rstrip(".")
                stack.append((is_object, prefix, key, ordinal))
                is_object = expects_name = symbol == "{"
                prefix, key, ordinal = (path + "." if is_object and path else path), "", 0
            elif symbol in "}]" and stack:
                is_object, prefix, key, ordinal = stack.pop()
                expects_name = False
            elif symbol == ",":
                ordinal += 1
                expects_name = is_object
            elif symbol != ":" and not is_object:
                yield f"{prefix}[{ordinal}]"


def _size(piece: str) -> int:
    """Characters of a piece in the text it was cut from, where a stand-in is two."""
    return len(piece) + piece.count(record.QUOTE) + piece.count(record.BACKSLASH)


def _earlier_paths(privacy: str) -> frozenset[str]:
    """The strings of the `redacted` list, as they are written: a path's names keep their escapes."""
    pieces = record.cut(privacy)
    if "redacted" not in pieces[1::2]:
        return frozenset()
    start = 1 + 2 * pieces[1::2].index("redacted")
    paths: set[str] = set()
    for index in range(start + 2, min(len(pieces), start + 2 * MOST_PATHS + 2), 2):
        if "]" in pieces[index - 1]:
            break
        paths.add(pieces[index])
    return frozenset(paths)
