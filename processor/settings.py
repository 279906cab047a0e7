"""What the processor reads from the environment."""

from __future__ import annotations

from pydantic import SecretStr

from pipeline.settings import (
    ClientStoreSettings,
    DatabaseSettings,
    KafkaSettings,
    PositiveSeconds,
    ProcessedS3Settings,
    RawS3Settings,
)


class ProcessorSettings(DatabaseSettings, KafkaSettings, RawS3Settings, ProcessedS3Settings, ClientStoreSettings):
    """All variables of the processor."""

    database_url: SecretStr
    processed_flush_seconds: PositiveSeconds = 300.0
