"""What a folder remembers from start to start: ports, generated secrets, keys of users."""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

from cryptography.fernet import Fernet

from local.aws import AccessKey
from local.postgres import new_password


def _access_key_id() -> str:
    return "AKIA" + "".join(secrets.choice("ABCDEFGHIJKLMNOPQRSTUVWXYZ234567") for _ in range(16))


@dataclass(slots=True, kw_only=True)
class State:
    """Kept in `state.json`, which only its owner can read."""

    ports: dict[str, int] = field(default_factory=dict)
    postgres_password: str = field(default_factory=new_password, repr=False)
    aws_root: tuple[str, str] = field(default_factory=lambda: (_access_key_id(), secrets.token_urlsafe(30)), repr=False)
    credentials_keys: str = field(default_factory=lambda: Fernet.generate_key().decode(), repr=False)
    admin_api_key: str = field(default_factory=lambda: secrets.token_urlsafe(32), repr=False)
    users: dict[str, tuple[str, str]] = field(default_factory=dict, repr=False)
    """Key id and secret by IAM user."""

    @classmethod
    def load(cls, folder: Path) -> State:
        """The folder's state, or a fresh one."""
        path = folder / "state.json"
        return cls(**json.loads(path.read_text())) if path.exists() else cls()

    def save(self, folder: Path) -> None:
        """Replace what is on disk."""
        write_private(folder / "state.json", json.dumps(asdict(self), indent=2) + "\n")

    def key_of(self, user: str) -> AccessKey | None:
        """The key that the user had, which the emulator may have forgotten."""
        pair = self.users.get(user)
        return AccessKey(*pair) if pair else None

    def remember(self, user: str, key: AccessKey) -> None:
        """The user's key from now on."""
        self.users[user] = (key.key_id, key.secret)


def write_private(path: Path, text: str) -> None:
    """Write a file that only its owner can read, all of it or nothing."""
    fresh = path.with_name(path.name + ".new")
    with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        file.write(text)
    fresh.replace(path)


def env_text(values: Mapping[str, str]) -> str:
    """KEY=VALUE lines; no value of ours needs quotes."""
    return "".join(f"{name}={value}\n" for name, value in values.items())


def read_env(path: Path) -> dict[str, str]:
    """The inverse of `env_text`."""
    return dict(line.split("=", 1) for line in path.read_text().splitlines() if "=" in line)
