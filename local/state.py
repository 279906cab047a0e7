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
from local.process import PartError


def _access_key_id() -> str:
    return "AKIA" + "".join(secrets.choice("ABCDEFGHIJKLMNOPQRSTUVWXYZ234567") for _ in range(16))


@dataclass(slots=True, kw_only=True)
class State:
    """Kept in `state.json`, which only its owner can read."""

    ports: dict[str, int] = field(default_factory=dict)
    postgres_password: str = field(default_factory=new_password, repr=False)
    aws_root: AccessKey = field(default_factory=lambda: AccessKey(_access_key_id(), secrets.token_urlsafe(30)))
    credentials_keys: str = field(default_factory=lambda: Fernet.generate_key().decode(), repr=False)
    admin_api_key: str = field(default_factory=lambda: secrets.token_urlsafe(32), repr=False)
    users: dict[str, AccessKey] = field(default_factory=dict)
    """By IAM user. The emulator may have forgotten them."""

    @classmethod
    def load(cls, folder: Path) -> State:
        """The folder's state, or a fresh one. Raises PartError when another version of this program wrote it."""
        path = folder / "state.json"
        if not path.exists():
            return cls()
        try:
            stored = json.loads(path.read_text())
            stored["aws_root"] = AccessKey(**stored["aws_root"])
            stored["users"] = {user: AccessKey(**key) for user, key in stored["users"].items()}
            return cls(**stored)
        except (KeyError, TypeError, ValueError, AttributeError):
            raise PartError(f"{path} can't be read: remove {folder} to begin anew") from None

    def save(self, folder: Path) -> None:
        """Replace what is on disk."""
        write_private(folder / "state.json", json.dumps(asdict(self), indent=2) + "\n")


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
