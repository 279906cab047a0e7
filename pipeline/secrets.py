"""Secrets at rest: clients' S3 keys and pseudonym keys, encrypted under CREDENTIALS_KEYS.

Fernet is AES-128-CBC with HMAC-SHA-256: https://github.com/fernet/spec. The first key encrypts, all decrypt, so a key
is replaced by putting a new one in front, rotating every stored token, then dropping the old one.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence

from cryptography.fernet import Fernet, InvalidToken, MultiFernet

from pipeline.clients import Client
from pipeline.errors import ConfigError, PermanentError


class SecretBox:
    """Encrypts and decrypts short texts. Its errors hold neither the token nor any key."""

    def __init__(self, keys: Sequence[str]) -> None:
        """`keys`: Fernet keys (32 bytes, URL-safe base64), the current one first.

        Raises ConfigError, naming CREDENTIALS_KEYS, when there is none or one is malformed.
        """
        if not keys:
            raise ConfigError("CREDENTIALS_KEYS is missing", hint=_MAKE_A_KEY)
        fernets = []
        for number, key in enumerate(keys, start=1):
            try:
                fernets.append(Fernet(key.strip()))
            except ValueError:
                # `from None`: the cause's traceback would show the key's text to whoever prints locals.
                raise ConfigError(f"CREDENTIALS_KEYS: key {number} is not a Fernet key", hint=_MAKE_A_KEY) from None
        self._first = fernets[0]
        self._fernets = MultiFernet(fernets)

    def encrypt(self, text: str) -> str:
        """A token for `text` under the first key; another one at each call."""
        return self._fernets.encrypt(text.encode()).decode("ascii")

    def decrypt(self, token: str) -> str:
        """The text inside `token`. Raises PermanentError when no key opens it, or it is damaged."""
        try:
            return self._fernets.decrypt(token.encode()).decode()
        except (InvalidToken, UnicodeError):
            raise _unreadable() from None

    def rotate(self, token: str) -> str:
        """The same secret under the first key, `token` itself if it is already. Raises PermanentError."""
        try:
            self._first.decrypt(token.encode())
        except (InvalidToken, UnicodeError):
            pass
        else:
            return token
        try:
            return self._fernets.rotate(token.encode()).decode("ascii")
        except (InvalidToken, UnicodeError):
            raise _unreadable() from None


def pseudonym_keys(client: Client, box: SecretBox) -> dict[int, bytes]:
    """The client's pseudonym keys by version, decrypted; stored as base64 inside of the token.

    Raises PermanentError when one can't be decrypted or decoded.
    """
    keys = {}
    for key in client.pseudonym_keys:
        try:
            keys[key.version] = base64.b64decode(box.decrypt(key.secret), validate=True)
        except binascii.Error:
            raise PermanentError(f"pseudonym key {key.version} is not base64") from None
    return keys


_MAKE_A_KEY = 'python -c "from cryptography.fernet import Fernet; print(Fernet.generate_key().decode())" makes one'


def _unreadable() -> PermanentError:
    return PermanentError(
        "a stored secret can't be decrypted",
        hint="CREDENTIALS_KEYS lacks the key that encrypted it; add that key behind the first, or enter it anew",
    )
