"""Pseudonyms: HMACs under a client's versioned key. Pseudonymised data stays personal data (GDPR Art. 4(5))."""

from __future__ import annotations

import hmac
import re
from collections.abc import Mapping

_FORM = re.compile(r"p([0-9]{1,9}):([0-9a-f]{32})([0-9a-f]{16})", re.ASCII)
_CACHED = 20_000


class Pseudonyms:
    """Turns identifiers into pseudonyms under the current key, the one with the highest version.

    A pseudonym proves its origin: its last 16 digits are an HMAC of the ones before. So a pseudonym of ours is known
    again whatever the path it took, and a value that a visitor wrote in the same form is hashed like any other.
    """

    __slots__ = ("_addresses", "_identifiers", "_keys", "version")

    def __init__(self, keys: Mapping[int, bytes]) -> None:
        self._keys = dict(keys)
        self.version = max(self._keys)
        self._addresses: dict[str, str] = {}
        self._identifiers: dict[str, str] = {}

    @property
    def versions(self) -> list[int]:
        """All key versions, in order."""
        return sorted(self._keys)

    def address(self, ip: str) -> str:
        """HMAC-SHA-256 of the address in its text form, 64 hexadecimal digits."""
        known = self._addresses.get(ip)
        if known is None:
            known = hmac.digest(self._keys[self.version], ip.encode("utf-8", "surrogatepass"), "sha256").hex()
            _remember(self._addresses, ip, known)
        return known

    def identifier(self, value: str) -> str:
        """`p<key version>:<48 hexadecimal digits>`; `value` itself when one of the client's keys made it."""
        known = self._identifiers.get(value)
        if known is None:
            known = value if self.ours(value) else self._make(value)
            _remember(self._identifiers, value, known)
        return known

    def ours(self, value: str) -> bool:
        """Whether `value` is a pseudonym that one of the client's keys made."""
        form = _FORM.fullmatch(value)
        if form is None:
            return False
        key = self._keys.get(int(form[1]))
        return key is not None and hmac.compare_digest(_tag(key, form[2]), form[3])

    def _make(self, value: str) -> str:
        key = self._keys[self.version]
        digest = hmac.digest(key, b"identifier\0" + value.encode("utf-8", "surrogatepass"), "sha256").hex()[:32]
        return f"p{self.version}:{digest}{_tag(key, digest)}"


def _tag(key: bytes, digest: str) -> str:
    return hmac.digest(key, b"pseudonym\0" + digest.encode(), "sha256").hex()[:16]


def _remember(cache: dict[str, str], value: str, answer: str) -> None:
    if len(value) <= 256:
        if len(cache) >= _CACHED:
            cache.clear()
        cache[value] = answer
