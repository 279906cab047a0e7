"""What the database commands read from the environment."""

from __future__ import annotations

from pipeline.settings import DatabaseSettings, KafkaSettings, Positive, ProcessedS3Settings, RawS3Settings


class MigrateSettings(DatabaseSettings):
    """Variables of `migrate`."""


class PreflightSettings(DatabaseSettings, KafkaSettings):
    """Variables of `preflight`."""


class AuditSettings(DatabaseSettings):
    """Variables of `audit`."""


class RebuildSettings(DatabaseSettings, KafkaSettings, RawS3Settings, ProcessedS3Settings):
    """Variables of `rebuild-ledger`."""


class LayoutSettings(DatabaseSettings):
    """Variables of `layout`."""

    kafka_raw_topic: str = "events.raw"


class ReconcileSettings(DatabaseSettings):
    """Variables of `reconcile`."""

    kafka_raw_topic: str = "events.raw"


class DeepReconcileSettings(ReconcileSettings, RawS3Settings, ProcessedS3Settings):
    """Variables of `reconcile --deep`. What the buckets' own rules have deleted is not missed."""

    raw_retention_days: Positive | None = None
    processed_retention_days: Positive | None = None
