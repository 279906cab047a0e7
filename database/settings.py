"""What the database commands read from the environment."""

from __future__ import annotations

from pipeline.settings import DatabaseSettings, KafkaSettings


class MigrateSettings(DatabaseSettings):
    """Variables of `migrate`."""


class PreflightSettings(DatabaseSettings, KafkaSettings):
    """Variables of `preflight`."""
