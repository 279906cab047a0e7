"""Which settings class reads the environment of which command line, and what else a container may be told."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from admin.settings import AdminSettings
from database.cleaner.settings import CleanerSettings
from database.retention.settings import RetentionSettings
from database.settings import DeepReconcileSettings, MigrateSettings, PreflightSettings
from pipeline.settings import Settings
from processor.settings import ProcessorSettings
from streamer.settings import StreamerSettings
from syncer.settings import SyncerSettings

SERVICES: Mapping[str, type[Settings]] = {
    "streamer": StreamerSettings,
    "processor": ProcessorSettings,
    "syncer": SyncerSettings,
    "cleaner": CleanerSettings,
    "admin": AdminSettings,
}
COMMANDS: Mapping[tuple[str, ...], type[Settings]] = {
    ("streamer",): StreamerSettings,
    ("processor",): ProcessorSettings,
    ("processor", "replay", "--requested"): ProcessorSettings,
    ("syncer",): SyncerSettings,
    ("admin",): AdminSettings,
    ("database", "cleaner"): CleanerSettings,
    ("database", "migrate"): MigrateSettings,
    ("database", "preflight"): PreflightSettings,
    ("database", "retention"): RetentionSettings,
}
READERS: Mapping[str, type[Settings]] = {
    **SERVICES,
    "migrate": MigrateSettings,
    "preflight": PreflightSettings,
    "reconcile": DeepReconcileSettings,
    "retention": RetentionSettings,
}
"""Who reads variables, by the name that documentation gives it."""

LIBRARIES = {
    "AWS_ACCESS_KEY_ID": "botocore",
    "AWS_SECRET_ACCESS_KEY": "botocore",
    "GOOGLE_APPLICATION_CREDENTIALS": "google-auth",
}
"""Variables that no settings class has, because a library reads them itself."""


def variables(settings: type[Settings]) -> set[str]:
    """Names of the environment variables that a class reads."""
    return {name.upper() for name in settings.model_fields}


def all_variables() -> set[str]:
    """What any service or command reads."""
    return set().union(*(variables(settings) for settings in READERS.values()))


def load(settings: type[Settings], environment: Mapping[str, Any], monkeypatch: pytest.MonkeyPatch) -> Settings:
    """The settings of a process with exactly this environment. Raises ConfigError as the process would."""
    with monkeypatch.context() as patch:
        for name in all_variables():
            patch.delenv(name, raising=False)
        for name, value in environment.items():
            patch.setenv(name, str(value))
        return settings.load()


def default(name: str) -> str:
    """A variable's default as a person would write it; empty for none, `required` where there has to be a value."""
    for settings in READERS.values():
        found = settings.model_fields.get(name.lower())
        if found is None:
            continue
        if found.is_required():
            return "required"
        if found.default not in (None, "", ()):
            value = found.default
            return (
                str(value).lower()
                if isinstance(value, bool)
                else f"{value:g}"
                if isinstance(value, float)
                else str(value)
            )
    return ""
