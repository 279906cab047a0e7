"""Who asks: a person with a session, or whoever holds the admin key."""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass, field
from enum import StrEnum

KEY_ACTOR = "admin-key"
"""How changes by ADMIN_API_KEY are signed in the audit log."""


class Role(StrEnum):
    """Viewers look, admins change."""

    ADMIN = "admin"
    VIEWER = "viewer"


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """Who asks. `token` is the session's, empty when the request came with the key."""

    name: str
    role: Role
    token: str = field(default="", repr=False)

    @property
    def may_change(self) -> bool:
        """Whether this person may change anything."""
        return self.role is Role.ADMIN

    @property
    def form_token(self) -> str:
        """What every form of this session has to send back (CSRF); nobody else can compute it."""
        return hmac.digest(self.token.encode(), b"form", "sha256").hex()


def sha256(text: str) -> bytes:
    """The digest under which tokens and keys stand in the ledger."""
    return hashlib.sha256(text.encode()).digest()
