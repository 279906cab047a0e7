"""Passwords: argon2id, with the parameters that argon2-cffi recommends (RFC 9106, low memory)."""

from __future__ import annotations

import asyncio

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError
from argon2.profiles import RFC_9106_LOW_MEMORY

SHORTEST = 12
LONGEST = 1024  # argon2 would hash a megabyte too, at our cost

_HASHER = PasswordHasher.from_parameters(RFC_9106_LOW_MEMORY)
_AT_ONCE = asyncio.Semaphore(2)  # each takes 64 MiB and a core for some 50 ms

_NOBODYS = _HASHER.hash("the password of nobody")


def fault(password: str) -> str | None:
    """Why this can't be a password; None when it can."""
    if len(password) < SHORTEST:
        return f"a password has at least {SHORTEST} characters"
    return f"a password has at most {LONGEST} characters" if len(password) > LONGEST else None


async def hashed(password: str) -> str:
    """The form in which it is stored."""
    async with _AT_ONCE:
        return await asyncio.to_thread(_HASHER.hash, password)


async def verify(stored: str | None, password: str) -> bool:
    """Whether `password` is the one behind `stored`. Takes as long for None, an unknown user, as for anybody."""
    async with _AT_ONCE:
        right = await asyncio.to_thread(_verify, stored or _NOBODYS, password[:LONGEST])
    return right and stored is not None


def _verify(stored: str, password: str) -> bool:
    try:
        return _HASHER.verify(stored, password)
    except (VerificationError, InvalidHashError):
        return False
